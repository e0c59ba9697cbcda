"""Fixtures of the simulator's tests: the hopper, and every physics backend by name.

A further backend joins the conformance suite with a line in ``ENGINES`` and a line in ``build_backend``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
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
ENGINES = {"mujoco_cpu": "mujoco", "mujoco_gpu": "mujoco_warp"}
"""Backends under test and the package that each needs; `make test-warp` installs MuJoCo Warp and runs its share."""


def backends(*names: str) -> list[object]:
    """Return parameters for the backends, each skipped where its engine is not installed."""
    missing = {name: importlib.util.find_spec(ENGINES[name]) is None for name in names or ENGINES}
    return [
        pytest.param(name, marks=pytest.mark.skipif(gone, reason=f"{ENGINES[name]} is not installed: make test-warp"))
        for name, gone in missing.items()
    ]


@pytest.fixture
def hopper(tmp_path: Path) -> Robot:
    return make_hopper(tmp_path)


def build_backend(name: str, robot: Robot, num_envs: int) -> Physics:
    if name == "mujoco_gpu":
        from robot_rl.sim.mujoco_gpu import MujocoGpu

        return MujocoGpu(robot, num_envs, device="cpu", numpy=True)
    from robot_rl.sim.mujoco_cpu import MujocoCpu

    return MujocoCpu(robot, num_envs, threads=1)


@pytest.fixture(params=backends())
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """Builds copies of a robot in the backend under test, and closes them."""
    built: list[Physics] = []

    def make(robot: Robot, num_envs: int = 1) -> Physics:
        built.append(build_backend(request.param, robot, num_envs))
        return built[-1]

    yield make
    for physics in built:
        physics.close()


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
