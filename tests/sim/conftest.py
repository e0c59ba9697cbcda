"""Fixtures of the simulator's tests: the hopper, and every physics backend by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot_rl.hardware.robot import Robot
from robot_rl.sim.physics import Physics
from tests.sim.hopper import make_hopper

Build = Callable[..., Physics]


@pytest.fixture
def hopper(tmp_path: Path) -> Robot:
    return make_hopper(tmp_path)


@pytest.fixture(params=["mujoco_cpu"])
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """Builds copies of a robot in the backend under test, and closes them."""
    built: list[Physics] = []

    def make(robot: Robot, num_envs: int = 1) -> Physics:
        assert request.param == "mujoco_cpu"
        from robot_rl.sim.mujoco_cpu import MujocoCpu

        built.append(MujocoCpu(robot, num_envs, threads=1))
        return built[-1]

    yield make
    for physics in built:
        physics.close()
