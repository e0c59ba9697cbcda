"""Scripted experts solve the Panda's tasks through a policy's own contract, and leave transitions to learn from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("mujoco.batch")

from robot_rl import zoo
from robot_rl.hardware.robot import load_robot
from robot_rl.sim.backends import make_physics
from robot_rl.sim.demonstrations import demonstrate
from robot_rl.sim.expert import down, load_expert, object_yaw, quarter
from robot_rl.sim.kinematics import Kinematics, Pose, rotation_between
from robot_rl.sim.objects import yaw_quat
from robot_rl.sim.task import Task
from robot_rl.sim.world import World

PANDA = load_robot("panda")


def load_task(name: str) -> Task:
    return zoo.load("sim", f"tasks/{name}").task()


@pytest.mark.parametrize("name", ["panda_lift", "panda_peg"])
def test_the_expert_solves_its_task(name: str) -> None:
    """All of 10 resets here; 50 in the slow test."""
    found = demonstrate(load_task(name), name, episodes=10, seed=1, only_solved=False, num_envs=5)
    assert found.success == 1.0
    assert found.tried == found.episodes == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["panda_lift", "panda_peg"])
def test_the_expert_solves_at_least_95_percent_of_50_resets(name: str) -> None:
    assert demonstrate(load_task(name), name, episodes=50, seed=2, only_solved=False, num_envs=10).success >= 0.95


def test_demonstrations_are_whole_solved_episodes_in_the_columns_of_learning() -> None:
    task = load_task("panda_lift")
    found = demonstrate(task, "panda_lift", episodes=3, seed=3, noise=0.1, num_envs=2)
    rows = found.replay.split(found.replay.rows[: len(found.replay)])
    assert rows["obs"].shape == (len(found.replay), task.contract(PANDA).obs_size)
    ends = np.flatnonzero(rows["terminated"])
    assert len(ends) == found.episodes == 3 and ends[-1] == len(found.replay) - 1
    np.testing.assert_array_equal(np.flatnonzero(rows["reward"]), ends)
    np.testing.assert_allclose(rows["reward"][ends], 1.0)
    assert np.abs(rows["action"]).max() <= 1.0
    inside = np.setdiff1d(np.arange(len(rows["obs"]) - 1), ends)
    np.testing.assert_array_equal(rows["next_obs"][inside], rows["obs"][inside + 1])


def test_an_expert_that_solves_nothing_is_an_error() -> None:
    task = dataclasses.replace(load_task("panda_lift"), episode_s=0.5)
    with pytest.raises(ValueError, match=r"the expert solved 0 of 4 episodes of 'panda_lift'; 1 were asked"):
        demonstrate(task, lambda state: np.zeros((4, 8)), episodes=1, seed=0)


def test_the_episode_log_tells_the_share_of_solved_episodes() -> None:
    task = load_task("panda_lift")
    world = World(task, make_physics(task, num_envs=2, threads=1), seed=0)
    act, logs = load_expert("panda_lift", world.contract, world.robot), []
    world.reset()
    for _ in range(40):
        action = act(world.state)
        action[1] = 0.0  # nothing happens in this copy, whose episodes do not end yet
        logs.append(world.step(action).log)
    ended = [log for log in logs if log]
    assert ended and all(log["episode/success"] == 1.0 for log in ended)
    world.close()
    idle = dataclasses.replace(task, episode_s=0.5)
    world = World(idle, make_physics(idle, num_envs=2, threads=1), seed=0)
    world.reset()
    assert [world.step(np.zeros((2, 8))).log for _ in range(5)][-1]["episode/success"] == 0.0
    world.close()


def test_an_action_law_that_is_not_relative_is_refused() -> None:
    task = dataclasses.replace(load_task("panda_lift"), action_kind="joint_position")
    with pytest.raises(ValueError, match=r"acts by 'joint_position_relative'; the contract says 'joint_position'"):
        load_expert("panda_lift", task.contract(PANDA), PANDA)


def test_the_jacobian_is_the_slope_of_the_tools_pose() -> None:
    kinematics, q = Kinematics(PANDA), np.array(PANDA.default_pos)
    jacobian, start, eps = kinematics.jacobian(q), kinematics.pose(q), 1e-6
    for column, joint in enumerate(kinematics.carrying):
        moved = kinematics.pose(q + eps * np.eye(9)[joint])
        np.testing.assert_allclose(jacobian[:3, column], (moved.pos - start.pos) / eps, atol=1e-5)
        turn = rotation_between(start.quat_xyzw, moved.quat_xyzw)
        np.testing.assert_allclose(jacobian[3:, column], turn / eps, atol=1e-5)


def test_what_cannot_be_reached_is_an_error() -> None:
    with pytest.raises(ValueError, match="no joint positions reach"):
        Kinematics(PANDA).solve(np.array(PANDA.default_pos), Pose(np.array((2.0, 0.0, 0.5)), down(0.0)))


@pytest.mark.parametrize("yaw", [-1.2, 0.0, 0.4, 2.0])
def test_a_square_is_grasped_at_the_nearest_of_four_angles(yaw: float) -> None:
    assert object_yaw(yaw_quat(np.array(yaw))) == pytest.approx(yaw)
    near = quarter(yaw)
    assert -np.pi / 4 <= near < np.pi / 4
    assert np.sin(4.0 * (near - yaw)) == pytest.approx(0.0, abs=1e-9)
