"""A policy of the Panda is exported, passes customs, is evaluated by its success, and runs on the twin."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco.batch")

from robot_rl import zoo  # noqa: E402 - the robot's environment has neither
from robot_rl.data.transition import Mode  # noqa: E402
from robot_rl.hardware.robot import load_robot  # noqa: E402
from robot_rl.learn.export import Provenance, export_policy  # noqa: E402
from robot_rl.learn.nets import DenseNet  # noqa: E402
from robot_rl.runtime.clock import SimClock  # noqa: E402
from robot_rl.runtime.loop import ControlLoop  # noqa: E402
from robot_rl.runtime.modes import Request  # noqa: E402
from robot_rl.runtime.policy import Policy  # noqa: E402
from robot_rl.runtime.shield import Reason  # noqa: E402
from robot_rl.sim import manipulation as m  # noqa: E402
from robot_rl.sim.backends import make_physics  # noqa: E402
from robot_rl.sim.evaluation import command_grid, evaluate, make_world, run_world  # noqa: E402
from robot_rl.sim.twin import Twin  # noqa: E402

PANDA = load_robot("panda")


def export(folder: Path, name: str) -> Path:
    """A network of random weights for the task ``name``."""
    contract = zoo.load("sim", f"tasks/{name}").task().contract(PANDA)
    rng = np.random.default_rng(0)
    sizes = (contract.obs_size, 16, contract.num_actions)
    layers = [(rng.normal(0.0, 0.2, (b, a)).astype("f4"), np.zeros(b, "f4")) for a, b in pairwise(sizes)]
    about = Provenance(recipe=name, seed=0, steps=0, command="pytest")
    net = DenseNet(tuple(layers), "elu")
    return export_policy(net, contract, folder / f"{name}.onnx", provenance=about, joints=PANDA.joints).path


def test_evaluation_tells_success_and_an_unsolved_lift_is_none(tmp_path: Path) -> None:
    found = evaluate(export(tmp_path, "panda_lift"), episodes=2, threads=1)
    assert found["success_rate"] == 0.0
    assert found["lin_vel_error"] is None


def test_an_episode_that_ends_solved_is_no_fall(tmp_path: Path) -> None:
    """The goal counts as reached from anywhere, and ends the episode: one step each, all solved, none fallen."""
    policy = Policy.load(export(tmp_path, "panda_reach"), PANDA)
    near = m.at_goal(10.0)
    task = dataclasses.replace(zoo.load("sim", "tasks/panda_reach").task(), success=near, dones={"there": near})
    world = make_world(policy, task, 3, seed=0, threads=1)
    found = run_world(world, policy, command_grid(policy.contract.command)[:3], 50, lambda done, total: None)
    world.close()
    assert found.summary()["success_rate"] == 1.0 and found.summary()["fall_rate"] == 0.0
    assert found.all_steps.tolist() == [1.0, 1.0, 1.0]


def test_on_the_twin_it_stands_obeys_a_policy_and_goes_limp_without_falling(tmp_path: Path) -> None:
    """No step of the way the shield finds a joint too fast, nor an effort beyond the motors'."""
    policy = Policy.load(export(tmp_path, "panda_lift"), PANDA)
    task = zoo.load("sim", "tasks/panda_lift").task()
    clock = SimClock(task.rate_hz)
    twin = Twin(PANDA, clock=clock, rate_hz=task.rate_hz, physics=make_physics(task, num_envs=1, threads=1))
    twin.connect()
    loop, reasons = ControlLoop(twin, policy, clock), Reason(0)

    def run(seconds: float, ask: Request) -> Mode:
        nonlocal reasons
        loop.requests.ask(ask)
        for _ in range(round(seconds * task.rate_hz)):
            loop.tick()
            reasons |= loop.latest.reasons
            clock.wait()
        return loop.situation.mode

    assert run(1.0, Request.DAMP) is Mode.DAMP
    assert run(4.0, Request.STAND) is Mode.STAND
    np.testing.assert_allclose(loop.latest.state.joint_pos, PANDA.default_pos, atol=5e-3)
    assert run(3.0, Request.POLICY) is Mode.POLICY
    assert np.abs(loop.latest.state.joint_pos - PANDA.default_pos).max() > 0.05  # it did move
    assert not reasons & (Reason.OVERSPEED | Reason.STATE_INVALID)
    left = loop.latest.state.joint_pos
    assert run(2.0, Request.DAMP) is Mode.DAMP
    np.testing.assert_allclose(loop.latest.state.joint_pos, left, atol=0.2)
    twin.close()
