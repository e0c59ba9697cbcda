"""Shaped rewards, on numbers worked out by hand; and the task that APRL walks in, on its real robot."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from math import cos, radians, sin

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.contract.sample import sample_states
from robot_rl.contract.terms import gravity_parts
from robot_rl.hardware.robot import load_robot
from robot_rl.hardware.symmetry import make_reflections
from robot_rl.sim import shaping as s
from robot_rl.sim.backends import make_physics
from robot_rl.sim.task import Outcome
from robot_rl.sim.world import World

GO2 = load_robot("go2")
TASK = zoo.load("sim", "tasks/go2_aprl").task()
CONTRACT = TASK.contract(GO2)


def outcome(count: int = 1, **after: object) -> Outcome:
    """Upright and at rest in the stance, but for what is named."""
    states = sample_states(CONTRACT, GO2.joints, count, np.random.default_rng(0))
    zeros = np.zeros((count, 3))
    at_rest = replace(
        states, joint_pos=np.tile(GO2.default_pos, (count, 1)), joint_vel=np.zeros((count, 12)),
        joint_effort=np.zeros((count, 12)), quat_xyzw=np.tile((0.0, 0.0, 0.0, 1.0), (count, 1)), ang_vel_b=zeros,
        lin_vel_b=zeros,
    )  # fmt: skip
    return Outcome(at_rest, replace(at_rest, **after), np.zeros((count, 12)), 0.05, CONTRACT)


def turned(axis: int, degrees: float) -> np.ndarray:
    quat = np.array([0.0, 0.0, 0.0, cos(radians(degrees) / 2.0)])
    quat[axis] = sin(radians(degrees) / 2.0)
    return quat[None]


def test_near_quadratic_is_one_at_its_target_and_a_line_far_away() -> None:
    x = np.array([1.5, 0.0, 3.0, 4.5, -1.5, 0.75])
    values = [1.0, 0.0, 0.0, -1.0, -1.0, 1.0 - 0.5**1.6]
    np.testing.assert_allclose(s.near_quadratic(x, 1.5, 1.5), values, atol=1e-15)
    np.testing.assert_allclose(s.near_quadratic(3.0 - x, 1.5, 1.5), values, atol=1e-15)


def test_tolerance_is_a_plateau_with_a_known_value_at_its_margin() -> None:
    np.testing.assert_allclose(s.tolerance(np.array([-1.0, 0.0, 2.0, 4.0]), 2.0, 0.6), [1.0, 1.0, 0.6, 0.6**4])


def test_speed_counts_ahead_and_upright() -> None:
    term, ahead = s.forward_speed(1.5), np.array([[1.5, 0.3, 0.0]])
    assert term(outcome(lin_vel_b=ahead)) == pytest.approx(1.0)
    assert term(outcome()) == pytest.approx(0.0)
    assert term(outcome(lin_vel_b=-ahead)) == pytest.approx(-1.0)
    assert term(outcome(lin_vel_b=ahead, quat_xyzw=turned(0, 60.0))) == pytest.approx(((1.0 + 0.5) / 2.0) ** 2)
    # pitched by 60 degrees it is half as fast over the ground, 1 - 0.5^1.6 of the reward, and half upright
    pitched = term(outcome(lin_vel_b=ahead, quat_xyzw=turned(1, 60.0)))
    assert pitched == pytest.approx((1.0 - 0.5**1.6) * 0.75**2)


def test_heading_pays_by_speed_and_a_tenth_at_its_limit() -> None:
    term, v = s.heading_kept(0.8), np.array([[0.3, 0.4, 0.0]])
    assert term(outcome(lin_vel_b=v)) == pytest.approx(0.6)
    assert term(outcome(lin_vel_b=v, ang_vel_b=np.array([[0.0, 0.0, -0.8]]))) == pytest.approx(0.06)


def test_pose_is_free_within_its_room() -> None:
    term, pose = s.pose_lost((0.2, 0.4, 0.4) * 4), np.array([GO2.default_pos])
    assert term(outcome(joint_pos=pose + 0.2)) == pytest.approx(0.6 - 1.0)
    pose[0, [0, 4]] += (0.4, -0.8)  # two joints at their margins
    assert term(outcome(joint_pos=pose)) == pytest.approx(0.6 - 0.36)


def test_jumps_of_torque_and_turn_rates_cost_beyond_an_offset() -> None:
    effort = np.zeros((1, 12))
    effort[0, :2] = 3.0, 4.0
    assert s.torque_jump(10.0)(outcome(joint_effort=effort)) == pytest.approx(5.0**1.5 - 10.0)
    spun = outcome(ang_vel_b=np.array([[-2.0, 1.0, 0.0]]))
    assert s.turn_rate(0, 0.2, 0.5)(spun) == pytest.approx(0.2 * 2.0**1.4 - 0.5)
    assert s.turn_rate(1, 0.4, 0.5)(spun) == pytest.approx(0.4 - 0.5)


@pytest.mark.parametrize(
    ("axis", "degrees", "lost"),
    [(0, 29, 0), (0, 31, 1), (0, -31, 1), (1, 19, 0), (1, 21, 1), (1, -24, 0), (1, -26, 1), (2, 90, 0), (0, 180, 1)],
)
def test_episode_ends_where_it_leans(axis: int, degrees: float, lost: int) -> None:
    assert TASK.dones["fallen"](outcome(quat_xyzw=turned(axis, degrees))) == lost


def test_zero_is_the_stance_one_is_a_limit_and_the_restricted_task_stops_on_the_way() -> None:
    law, offset = CONTRACT.action, np.array(GO2.default_pos)
    below = np.array(law.scale_below)
    np.testing.assert_allclose(offset + law.scale, GO2.pos_high)
    np.testing.assert_allclose(offset - below, GO2.pos_low)
    assert law.offset == GO2.default_pos and law.lowpass_hz == 8.0
    narrow = zoo.load("sim", "tasks/go2_aprl_restricted").task().contract(GO2).action
    assert narrow.scale == (0.2, 0.4, 0.4) * 4 and narrow.scale_below is None and narrow.offset == law.offset
    assert (np.array(narrow.scale) < np.minimum(law.scale, below)).all()


def test_task_has_a_mirror_image_and_one_that_is_uneven_is_refused() -> None:
    reflections = make_reflections(GO2, CONTRACT, tuple(TASK.privileged))
    action = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 12))
    np.testing.assert_array_equal(reflections.action(reflections.action(action)), action)
    law = replace(CONTRACT.action, scale=(9.0, *CONTRACT.action.scale[1:]))
    with pytest.raises(ValueError, match=r"action\.scale and scale_below are \(9\.0"):
        make_reflections(GO2, replace(CONTRACT, action=law))


def test_good_walk_earns_nearly_the_most_and_standing_is_worth_little() -> None:
    def total(o: Outcome) -> float:
        return float(sum(r.weight * r.term(o) for r in TASK.rewards.values())[0]) * 0.05

    # pose 2 (1 - 0.6), torque 0.005 150, roll and pitch 0.5, heading 4 0.1
    assert total(outcome()) == pytest.approx(0.8 + 0.75 + 1.0 + 0.4)
    assert total(outcome(lin_vel_b=np.array([[3.0, 0.0, 0.0]]))) == pytest.approx(60.0 + 2.55 + 12.4)


# -- getting up --------------------------------------------------------------------------------------------------------


def test_standing_is_worth_most_in_the_stance_and_nothing_on_the_back() -> None:
    term, high = s.standing(0.29), np.array([[0.0, 0.0, 0.29]])
    assert term(outcome(base_pos_w=high)) == pytest.approx(1.0)
    assert term(outcome(base_pos_w=0.5 * high)) == pytest.approx(0.9)
    bent = np.array(GO2.default_pos) + np.eye(12)[0]
    assert term(outcome(base_pos_w=high, joint_pos=bent[None])) == pytest.approx(0.4 + 0.6 * np.exp(-0.6))
    assert term(outcome(base_pos_w=high, joint_vel=np.full((1, 12), 2.0))) == pytest.approx(0.8 + 0.2 * np.exp(-0.96))
    side = outcome(base_pos_w=high, quat_xyzw=turned(0, 90.0))
    assert term(side) == pytest.approx(0.25) and s.upright(side) == pytest.approx(0.25)
    assert term(outcome(base_pos_w=high, quat_xyzw=turned(0, 180.0))) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("height", "degrees", "speed", "stands"),
    [(0.25, 10.0, 0.5, 1.0), (0.2, 10.0, 0.5, 0.0), (0.25, 20.0, 0.5, 0.0), (0.25, 10.0, -1.5, 0.0)],
)
def test_who_stands_is_high_level_and_calm(height: float, degrees: float, speed: float, stands: float) -> None:
    moving = np.zeros((1, 12))
    moving[0, 3] = speed
    there = outcome(base_pos_w=np.array([[0.0, 0.0, height]]), quat_xyzw=turned(1, degrees), joint_vel=moving)
    assert s.stood(radians(15.0), 0.23, 1.0)(there) == stands


def test_the_go2_is_dropped_in_any_attitude_and_rarely_stands_by_itself() -> None:
    task = zoo.load("sim", "tasks/go2_recover").task()
    with closing(World(task, make_physics(task, num_envs=64, threads=1), seed=0)) as world:
        world.reset()
        up = -gravity_parts(world.state.quat_xyzw)[2]
        assert (up < -0.5).sum() >= 8 and (up > 0.5).sum() >= 8
        still = np.zeros((64, 12), dtype=np.float32)
        for _ in range(248):
            world.step(still)
        step = world.step(still)
        assert step.outcome.after.base_pos_w is not None and step.outcome.after.base_pos_w[:, 2].min() > 0.04
        assert task.success
        assert 0.05 < task.success(step.outcome).mean() < 0.5  # held in the stance, some land on their feet
