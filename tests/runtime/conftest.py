"""Real policy files for the go2, made from the small networks in ``tests/golden/networks`` without the onnx package."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.contract.golden import (
    KEY_CONTRACT,
    KEY_CONTRACT_SHA256,
    KEY_GOLDEN,
    KEY_GRAPH_SHA256,
    KEY_PROVENANCE,
    KEY_SCHEMA,
    record_golden,
)
from robot_rl.contract.model_file import parse_model, with_metadata
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import SCHEMA, ActionLaw, Command, Contract, JointLimits, ObsTerm
from robot_rl.contract.vectors import golden_to_json
from robot_rl.data.transition import Mode
from robot_rl.hardware.mirror import MirrorDriver
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.runtime.clock import SimClock
from robot_rl.runtime.loop import ControlLoop, LoopConfig
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy, bind, make_session
from robot_rl.runtime.recorder import Recorder

NETWORKS = Path(__file__).parent.parent / "golden" / "networks"
RATE_HZ = 50.0

MakePolicy = Callable[..., Path]


@pytest.fixture(scope="session")
def go2() -> Robot:
    return load_robot("go2")


@pytest.fixture(scope="session")
def contract(go2: Robot) -> Contract:
    return go2_contract(go2)


def go2_contract(robot: Robot, *, rate_hz: float = RATE_HZ, scale: float = 0.25) -> Contract:
    """Return a contract of 45 observations and 12 position targets around the default pose."""
    ones = lambda n: (1.0,) * n
    return Contract(
        robot=robot.name,
        task="test",
        joints=robot.joints,
        obs=(
            ObsTerm("base_ang_vel", 3, (0.25,) * 3),
            ObsTerm("projected_gravity", 3, ones(3)),
            ObsTerm("velocity_commands", 3, ones(3)),
            ObsTerm("joint_pos_rel", 12, ones(12)),
            ObsTerm("joint_vel_rel", 12, (0.05,) * 12),
            ObsTerm("last_action", 12, ones(12)),
        ),
        command=Command(),
        action=ActionLaw("joint_position", (scale,) * 12, robot.default_pos),
        stiffness=robot.stiffness,
        damping=robot.damping,
        rate_hz=rate_hz,
        sim_rate_hz=4 * rate_hz,
        limits=JointLimits(robot.pos_low, robot.pos_high, robot.vel, robot.effort),
        imu_frame=robot.imu_frame,
    )


def write_policy(path: Path, network: str, contract: Contract, robot: Robot, *, seed: int = 0) -> Path:
    """Write a whole policy file: the network, its contract, golden vectors recorded with this onnxruntime."""
    model = (NETWORKS / f"{network}.onnx").read_bytes()
    session = make_session(model)
    obs, action = np.zeros((1, contract.obs_size), np.float32), np.zeros((1, contract.num_actions), np.float32)
    binding = bind(session, obs, action)

    def infer(row: np.ndarray) -> np.ndarray:
        obs[:] = row
        session.run_with_iobinding(binding)
        return action.copy()

    states = sample_states(contract, robot.joints, 6, np.random.default_rng(seed))
    golden = record_golden(contract, robot.joints, states, infer)
    metadata = {
        KEY_SCHEMA: str(SCHEMA),
        KEY_CONTRACT: contract.to_json(),
        KEY_CONTRACT_SHA256: contract.fingerprint,
        KEY_GOLDEN: golden_to_json(golden),
        KEY_PROVENANCE: json.dumps({"network": network, "seed": seed}),
        KEY_GRAPH_SHA256: parse_model(model, path).graph_sha256,
    }
    path.write_bytes(with_metadata(model, metadata))
    return path


@pytest.fixture
def make_policy(tmp_path: Path, go2: Robot) -> MakePolicy:
    """Return ``make(network, **changes of the contract) -> path``."""

    def make(network: str = "healthy", *, scale: float = 0.25, rate_hz: float = RATE_HZ, **changes: object) -> Path:
        contract = dataclasses.replace(go2_contract(go2, rate_hz=rate_hz, scale=scale), **changes)
        label = "_".join([network, f"{scale:g}", f"{rate_hz:g}", *changes])
        return write_policy(tmp_path / f"{label}.onnx", network, contract, go2)

    return make


class Rig:
    """A loop on the mirror driver in simulated time, ticked by hand."""

    def __init__(self, robot: Robot, path: Path, recorder: Recorder | None = None, **config: Any) -> None:
        policy = Policy.load(path, robot)
        self.clock = SimClock(policy.contract.rate_hz)
        self.driver = MirrorDriver(robot, now=self.clock.now_s)
        self.loop = ControlLoop(self.driver, policy, self.clock, recorder, config=LoopConfig(**config))
        self.driver.connect()
        self.requests = self.loop.requests
        self.seen: list[dict[str, Any]] = []

    def tick(self, count: int = 1) -> Mode:
        """Run ticks, keep the events, return the mode."""
        for _ in range(count):
            self.loop.tick()
            self.clock.wait()
            while (event := self.loop.events.take()) is not None:
                self.seen.append(event)
        return self.mode

    def drive(self) -> Rig:
        """Stand up and let the policy drive."""
        self.requests.ask(Request.DAMP)
        self.requests.ask(Request.STAND)
        self.tick(round(self.driver.robot.safety.stand_s / self.clock.period_s) + 2)
        self.requests.ask(Request.POLICY)
        assert self.tick() is Mode.POLICY, self.seen
        return self

    def until(self, event: str, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Tick until ``event`` happens, and return it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.tick()
            for found in self.seen:
                if found["event"] == event:
                    return found
            time.sleep(0.0005)  # a loader thread may need the core
        raise AssertionError(f"no event {event!r} in {timeout_s} s; seen: {self.seen}")

    @property
    def mode(self) -> Mode:
        return self.loop.situation.mode

    def sent(self) -> np.ndarray:
        """Return the position targets sent so far, (n, J)."""
        return np.array([target.pos for target in self.driver.sent])


@pytest.fixture
def rig_off(make_policy: MakePolicy, go2: Robot) -> Callable[..., Rig]:
    """Return ``make(network, recorder=None, **LoopConfig) -> Rig``, in OFF."""

    def make(network: str = "healthy", recorder: Recorder | None = None, *, scale: float = 0.25, **config: Any) -> Rig:
        return Rig(go2, make_policy(network, scale=scale), recorder, **config)

    return make


@pytest.fixture
def rig(rig_off: Callable[..., Rig]) -> Callable[..., Rig]:
    """Return ``make(network, recorder=None, **LoopConfig) -> Rig`` whose policy drives."""
    return lambda *args, **changes: rig_off(*args, **changes).drive()
