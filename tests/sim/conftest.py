"""Fixtures of the simulator's tests: the hopper, and every physics backend by name.

A further backend joins the conformance suite with a line in ``ENGINES`` and a line in ``build_backend``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robot_rl import zoo
from robot_rl.hardware.robot import Robot
from robot_rl.sim.physics import Physics
from robot_rl.sim.task import Task
from tests.sim.hopper import make_hopper

Build = Callable[..., Physics]
ENGINES = {
    "mujoco_cpu": (("mujoco.batch",), "make test"),
    "mujoco_gpu": (("mujoco.batch", "mujoco_warp"), "make test-warp"),
    "isaac": (("isaaclab", "mujoco_usd_converter"), "make test-isaac"),
}
"""Backends under test, the modules that each needs, and what installs them and runs its share."""
ONE_AT_A_TIME = ("isaac",)
"""Backends that a process can have one of; ``build`` closes the one before."""


def backends(*names: str) -> list[object]:
    """Return parameters for the backends, each skipped where its engine is not installed."""
    parameters: list[object] = []
    for name in names or ENGINES:
        modules, cure = ENGINES[name]
        missing = [module for module in modules if not installed(module)]
        reason = f"{', '.join(missing)} is not installed: {cure}"
        parameters.append(pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=reason)))
    return parameters


def installed(module: str) -> bool:
    """Whether ``module`` can be imported; MuJoCo before 3.17 has no ``mujoco.batch``."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def hopper(tmp_path: Path) -> Robot:
    return make_hopper(tmp_path)


def build_backend(name: str, robot: Robot, num_envs: int) -> Physics:
    if name == "mujoco_gpu":
        from robot_rl.sim.mujoco_gpu import MujocoGpu

        return MujocoGpu(robot, num_envs, device="cpu", numpy=True)
    if name == "isaac":
        import warp

        from robot_rl.sim.isaac import IsaacLab

        warp.config.optimization_level = 0  # compiling is most of the time of these tests
        return IsaacLab(robot, num_envs, device="cpu", numpy=True)
    from robot_rl.sim.mujoco_cpu import MujocoCpu

    return MujocoCpu(robot, num_envs, threads=1)


@pytest.fixture(params=backends())
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """Builds copies of a robot in the backend under test, and closes them."""
    built: list[Physics] = []

    def make(robot: Robot, num_envs: int = 1) -> Physics:
        if request.param in ONE_AT_A_TIME and built:
            built[-1].close()
        built.append(build_backend(request.param, robot, num_envs))
        return built[-1]

    yield make
    for physics in built:
        physics.close()


@pytest.fixture(autouse=True)
def _no_scene_stays_open() -> Iterator[None]:
    """Isaac Lab has one scene in a process; a test that fails must not take the next ones with it."""
    yield
    if "isaaclab.sim" in sys.modules:
        sys.modules["isaaclab.sim"].SimulationContext.clear_instance()


class ShortTask:
    """A task's module whose episodes last ``episode_s``."""

    def __init__(self, module: Any, episode_s: float) -> None:
        self._module, self._episode_s = module, episode_s

    def task(self) -> Task:
        return dataclasses.replace(self._module.task(), episode_s=self._episode_s)


@pytest.fixture
def shorten(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Call it with the length [s] that episodes of every task shall have."""
    load = zoo.load
    return lambda episode_s: monkeypatch.setattr(zoo, "load", lambda room, name: ShortTask(load(room, name), episode_s))
