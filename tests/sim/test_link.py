"""Late targets: exact in substeps, the same whether the engine keeps them or the period is stepped in parts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.contract.state import JointTarget
from robot_rl.hardware.robot import Robot
from robot_rl.sim.actuator import Motors
from robot_rl.sim.backends import make_physics
from robot_rl.sim.link import Link
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.physics import Physics
from robot_rl.sim.world import World
from tests.sim.hopper import KD, KP

DECIMATION = 5
LATE = np.arange(DECIMATION + 1)


def target(pos: float, n: int = 1, *, force: float = 0.0) -> JointTarget:
    full = lambda x: np.full((n, 1), x)
    return JointTarget(full(pos), full(0.0), full(force), full(KP), full(KD))


def resting(hopper: Robot, n: int, motors: Motors | None = None) -> MujocoCpu:
    physics = MujocoCpu(hopper, n, motors=motors, threads=1)
    physics.apply(target(0.3, n))
    physics.step(400)
    return physics


@pytest.mark.parametrize("by", ["engine", "parts", "engine, too short"])
def test_a_step_response_begins_as_many_substeps_later_as_the_link_is_late(hopper: Robot, by: str) -> None:
    """Copies 0 to 5 substeps late: each has moved as the first had so many substeps ago, steps being 2 mm apart."""
    n, kept = len(LATE), {"engine": DECIMATION, "parts": 0, "engine, too short": DECIMATION - 1}[by]
    alone = resting(hopper, 1)
    alone.apply(target(0.2))
    response = [alone.state().joint_pos[0, 0]]
    for _ in range(3 * DECIMATION):
        alone.step(1)
        response.append(alone.state().joint_pos[0, 0])
    assert len(set(response)) == len(response)  # it moves in every substep
    physics = resting(hopper, n, Motors(max_delay=kept))
    link = Link(physics, LATE, DECIMATION, positions=True)
    for period in (1, 2, 3):
        link.drive(target(0.2, n))
        expected = [response[period * DECIMATION - d] for d in LATE]
        np.testing.assert_allclose(physics.state().joint_pos[:, 0], expected, rtol=0, atol=2e-6)  # rest is not perfect


def test_a_late_force_is_kept_back_too(hopper: Robot) -> None:
    """What the engine cannot delay is left to the parts: the force of 5 N acts for the last 2 of 5 substeps only."""
    physics = resting(hopper, 1, Motors(max_delay=DECIMATION))
    link = Link(physics, np.array([3]), DECIMATION, positions=False)
    other = resting(hopper, 1)
    link.drive(target(0.3, force=5.0))
    other.step(3)
    other.apply(target(0.3, force=5.0))
    other.step(2)
    np.testing.assert_array_equal(physics.state().joint_pos, other.state().joint_pos)


def test_after_a_reset_the_default_pose_is_in_force_until_the_first_target_arrives(hopper: Robot) -> None:
    for motors in (Motors(max_delay=DECIMATION), Motors()):
        physics = resting(hopper, 2, motors)
        link = Link(physics, np.array([4, 4]), DECIMATION, positions=True)
        link.drive(target(0.2, 2))
        one = np.array([1])
        physics.reset(one)
        link.restart(one)
        link.drive(target(0.2, 2))
        fresh = MujocoCpu(hopper, 1, threads=1)
        fresh.apply(target(0.3))
        fresh.step(4)
        fresh.apply(target(0.2))
        fresh.step(1)
        np.testing.assert_allclose(physics.state().joint_pos[1], fresh.state().joint_pos[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("delay", [(0, 2), (1, 4)])
def test_a_world_is_the_same_with_delays_in_the_engine_and_in_parts(delay: tuple[int, int]) -> None:
    """Robots are randomised, pushed and reset on the way; decimation is 4."""
    task = dataclasses.replace(zoo.load("sim", "tasks/go2_velocity").task(), delay_substeps=delay, episode_s=0.2)

    def walk(physics: Physics) -> list[np.ndarray]:
        world, rng = World(task, physics, seed=2), np.random.default_rng(0)
        world.reset()
        return [world.step(rng.uniform(-1, 1, (8, 12))).obs["critic"] for _ in range(25)]

    engine = make_physics(task, num_envs=8, threads=1)
    assert isinstance(engine, MujocoCpu) and engine.max_delay == delay[1]
    parts = MujocoCpu(engine.robot, 8, threads=1)
    for a, b in zip(walk(engine), walk(parts), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_longer_delay_than_a_period_is_refused() -> None:
    task = dataclasses.replace(zoo.load("sim", "tasks/go2_velocity").task(), delay_substeps=(0, 5))
    with pytest.raises(ValueError, match=r"delay_substeps \(0, 5\); 0 <= low <= high <= 4"):
        World(task, MujocoCpu(make_physics(task, num_envs=1).robot, 1, threads=1), seed=0)
