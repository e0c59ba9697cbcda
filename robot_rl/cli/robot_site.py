"""A robot that is ready to run: policy, driver or twin, clock and recorder, joined to a loop.

Knows: names of drivers, what a twin stands in. Does not know: wires, terminals, what any part does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_rl import zoo
from robot_rl.contract.golden import read_bundle
from robot_rl.data.episodes import EpisodeWriter
from robot_rl.hardware.camera import Camera
from robot_rl.hardware.driver import Driver
from robot_rl.hardware.mirror import MirrorDriver
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.runtime.clock import Clock, SimClock, WallClock
from robot_rl.runtime.loop import ControlLoop, LoopConfig
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.recorder import Recorder

if TYPE_CHECKING:
    from robot_rl.contract.spec import Contract
    from robot_rl.sim.task import Task
    from robot_rl.sim.twin import Twin

DRIVERS = ("twin", "mirror", "hardware")


@dataclass(slots=True)
class Site:
    """A robot that is ready to run: the loop and what may be asked of this driver beyond it."""

    loop: ControlLoop
    handlers: dict[str, Callable[[str], None]] = field(default_factory=dict)
    """More kinds of request: ``lift`` and ``change`` of a twin."""


def load(policy: str, robot: str = "") -> tuple[Robot, Policy]:
    """Return the robot and the policy, checked against it and warmed up.

    Args:
        policy: A file, or the name of a released policy.
        robot: Name of a robot; the policy's own where empty.

    Raises:
        ValueError: No such robot or policy, or the exact reason why the policy must not drive it.
        FileNotFoundError: There is no such file.
    """
    path = Path(policy)
    if path.suffix != ".onnx" and not path.exists():
        path = zoo.find("policies", f"released/{policy}")
    body = load_robot(robot or read_bundle(path).contract.robot)
    return body, Policy.load(path, body)


def make_site(
    policy: Policy,
    robot: Robot,
    *,
    driver: str = "twin",
    record: Path | None = None,
    config: LoopConfig | None = None,
    speed: float = 1.0,
    scene: str = "flat",
    seed: int = 0,
    task: str = "",
) -> Site:
    """Join a loaded policy, a driver, a clock and a recorder to a loop that is ready to run.

    Raises:
        ValueError: There is no such driver or task, the task is of another robot or other objects than the policy's,
            the real robot cannot run at another speed, or the policy cannot explore.
    """
    rate_hz = policy.contract.rate_hz
    if policy.contract.extra.get("objects") or policy.contract.images:
        task = task or policy.contract.task
    if driver == "hardware" and speed != 1.0:
        raise ValueError(f"speed is {speed}; a real robot runs at 1")
    clock: Clock = WallClock(rate_hz) if speed == 1.0 else SimClock(rate_hz, speed=speed)
    body, handlers = _make_driver(driver, robot, clock, scene=scene, seed=seed, task=task, contract=policy.contract)
    cameras = _make_cameras(driver, robot, body, clock, policy.contract)
    recorder = None
    if record is not None:
        store = EpisodeWriter(record, policy.contract, robot, policies=(policy.bundle.file_sha256,))
        recorder = Recorder(store, policy.contract, robot)
    return Site(ControlLoop(body, policy, clock, recorder, cameras=cameras, config=config), handlers)


def _make_driver(
    name: str, robot: Robot, clock: Clock, *, scene: str, seed: int, task: str, contract: Contract
) -> tuple[Driver, dict[str, Callable[[str], None]]]:
    if name == "mirror":
        return MirrorDriver(robot, now=clock.now_s), {}
    if name == "hardware":
        return zoo.load("hardware", f"{robot.name}/driver").make_driver(robot, now=clock.now_s), {}
    if name == "twin":
        twin = _make_twin(robot, clock, scene=scene, seed=seed, task=task, contract=contract)
        return twin, {"lift": lambda _: twin.lift(), "change": lambda value: twin.change(**_changes(value))}
    raise ValueError(f"no driver {name!r}; the choices are {list(DRIVERS)}")


def _make_cameras(name: str, robot: Robot, body: Driver, clock: Clock, contract: Contract) -> Sequence[Camera]:
    """Return the robot's cameras, none where the policy sees nothing."""
    if not contract.images:
        return ()
    wanted = [term.name for term in contract.images]
    if name == "hardware":
        module = zoo.load("hardware", f"{robot.name}/driver")
        if not hasattr(module, "make_cameras"):
            raise ValueError(
                f"the policy sees through {wanted}; hardware/{robot.name}/driver.py has no "
                "make_cameras(robot, terms, *, now) that returns them"
            )
        return module.make_cameras(robot, contract.images, now=clock.now_s)
    if name == "mirror":
        raise ValueError(f"the policy sees through {wanted}; the mirror has no cameras: choose driver 'twin'")
    from robot_rl.sim.twin import Twin
    from robot_rl.sim.twin_camera import TwinCamera

    assert isinstance(body, Twin)
    return [TwinCamera(body, term) for term in contract.images]


def _make_twin(robot: Robot, clock: Clock, *, scene: str, seed: int, task: str, contract: Contract) -> Twin:
    """Return the twin in a scene, or in the world of a task."""
    from robot_rl.sim.twin import Twin

    if not task:
        return Twin(robot, scene=scene, clock=clock, seed=seed)
    from robot_rl.sim.backends import make_physics

    world: Task = zoo.load("sim", f"tasks/{task}").task()
    wanted = list(contract.extra.get("objects", ()))
    if world.robot != robot.name or (wanted and list(world.objects) != wanted):
        raise ValueError(
            f"task {task!r} has robot {world.robot!r} and objects {list(world.objects)}; the policy wants robot "
            f"{robot.name!r} and objects {wanted}"
        )
    physics = make_physics(world, num_envs=1, threads=1)
    return Twin(robot, clock=clock, seed=seed, physics=physics, objects=world.objects)


def _changes(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'change wants a JSON object such as {{"friction": 0.3}}; got {text!r}: {error}') from error
    if not isinstance(value, dict):
        raise ValueError(f'change wants a JSON object such as {{"friction": 0.3}}; got {text!r}')
    return value
