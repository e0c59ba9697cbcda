"""Commands, pushes and spreads are drawn as the task says."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest

from robot_rl.contract.spec import Command
from robot_rl.hardware.robot import Robot
from robot_rl.sim.events import CommandSource, Pusher, initial_state
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.task import Commands, Push, Range
from tests.sim.hopper import hopper_task

SPEC = Command(("a", "b"), (-1.0, 0.5), (1.0, 2.0))


def source(n: int, **changes: object) -> CommandSource:
    commands = dataclasses.replace(Commands(SPEC, resample_s=(0.1, 0.3), zero_fraction=0.25), **changes)
    made = CommandSource(commands, n, 0.02, np.random.default_rng(0))
    made.draw(np.arange(n))
    return made


def test_commands_stay_in_their_ranges_and_some_ask_to_stand() -> None:
    value = source(4000).value
    resting = (value == 0.0).all(axis=1)
    assert resting.mean() == pytest.approx(0.25, abs=0.03)
    moving = value[~resting]
    assert (moving >= SPEC.low).all() and (moving <= SPEC.high).all()
    np.testing.assert_allclose(moving.mean(axis=0), [0.0, 1.25], atol=0.05)


def test_a_command_holds_for_a_time_from_its_range() -> None:
    made = source(200, zero_fraction=0.0)
    before, held = made.value.copy(), np.zeros(200)
    for step in range(1, 16):
        made.advance()
        changed = (made.value != before).any(axis=1) & (held == 0)
        held[changed] = step * 0.02
    assert held.min() >= 0.1 - 1e-9 and held.max() <= 0.3 + 0.02
    assert held.std() > 0.03


def test_fixed_commands_never_change() -> None:
    made = source(3)
    made.fixed = np.array([[1.0, 1.0], [0.0, 0.5], [-1.0, 2.0]])
    made.draw(np.arange(3))
    for _ in range(100):
        made.advance()
    np.testing.assert_array_equal(made.value, made.fixed)


def test_a_task_without_commands_has_none() -> None:
    made = CommandSource(Commands(Command((), (), ())), 2, 0.02, np.random.default_rng(0))
    made.draw(np.arange(2))
    made.advance()
    assert made.value.shape == (2, 0)


def test_pushes_are_horizontal_bounded_and_now_and_then(hopper: Robot) -> None:
    physics = MujocoCpu(hopper, 50, threads=1)
    pusher = Pusher(Push(every_s=(0.1, 0.2), lin_vel=0.5, ang_vel=0.3), 50, 0.02, np.random.default_rng(0))
    pushed = np.zeros(50)
    for _ in range(50):
        physics.reset(np.arange(50))
        pusher.advance(physics)
        state = physics.state()
        assert np.abs(state.lin_vel_b[:, :2]).max() <= 0.5 and not state.lin_vel_b[:, 2].any()
        assert np.abs(state.ang_vel_b).max() <= 0.3
        pushed += state.lin_vel_b.any(axis=1)
    assert pushed.min() >= 5 and pushed.max() <= 10  # 1 s at 0.1 to 0.2 s


def test_initial_states_are_spread_as_the_task_says(hopper: Robot) -> None:
    task = dataclasses.replace(
        hopper_task(),
        resets={"joint_pos": Range(-0.5, 0.05), "yaw": Range(-3.0, 3.0), "height": Range(0.1, 0.2)},
    )
    state = initial_state(hopper, task, np.random.default_rng(0), 500)
    assert state["joint_pos"].min() == pytest.approx(0.05)  # the joint's limit cuts the spread
    assert 0.33 < state["joint_pos"].max() <= 0.35
    np.testing.assert_allclose(np.linalg.norm(state["quat_xyzw"], axis=1), 1.0)
    yaw = 2.0 * np.arctan2(state["quat_xyzw"][:, 2], state["quat_xyzw"][:, 3])
    assert yaw.min() < -2.8 and yaw.max() > 2.8
    assert state["base_pos_w"][:, 2].min() >= 0.41 and state["base_pos_w"][:, 2].max() <= 0.51
    assert set(state) == {"joint_pos", "quat_xyzw", "base_pos_w"}


def test_a_body_is_turned_by_yaw_then_pitch_then_roll(hopper: Robot) -> None:
    spans = {"roll": Range(-3.0, 3.0), "pitch": Range(-1.5, 1.5), "yaw": Range(-3.0, 3.0)}
    task = dataclasses.replace(hopper_task(), resets=spans)
    quat = initial_state(hopper, task, np.random.default_rng(0), 500)["quat_xyzw"]
    rng = np.random.default_rng(0)
    roll, pitch, yaw = (rng.uniform(span.low, span.high, size=500) for span in spans.values())
    expected = np.empty(4)  # w first
    for i in range(500):
        mujoco.mju_euler2Quat(expected, np.array([yaw[i], pitch[i], roll[i]]), "zyx")
        np.testing.assert_allclose(abs(quat[i, [3, 0, 1, 2]] @ expected), 1.0, atol=1e-12)


def test_yaw_alone_draws_what_it_always_drew(hopper: Robot) -> None:
    task = dataclasses.replace(hopper_task(), resets={"yaw": Range(-3.0, 3.0)})
    quat = initial_state(hopper, task, np.random.default_rng(0), 5)["quat_xyzw"]
    half = 0.5 * np.random.default_rng(0).uniform(-3.0, 3.0, size=5)
    np.testing.assert_allclose(quat, np.stack((0 * half, 0 * half, np.sin(half), np.cos(half)), axis=1), atol=1e-15)
