"""Gymnasium in both directions."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from robot_rl import zoo
from robot_rl.sim.gym import GymWorld, TaskEnv, TaskVectorEnv
from robot_rl.sim.task import Task


class Counter(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Shows how many steps it made and the last action; falls at ``fall``, is cut at ``cut``."""

    observation_space = Box(-100.0, 100.0, (2,), np.float32)
    action_space = Box(np.array([10.0], np.float32), np.array([20.0], np.float32))

    def __init__(self, fall: int = 99, cut: int = 99) -> None:
        self._fall, self._cut, self._count = fall, cut, 0
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.seeds.append(seed)
        self._count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count += 1
        seen = np.array([self._count, action[0]], np.float32)
        return seen, float(self._count), self._count >= self._fall, self._count >= self._cut, {}


def task(name: str, **changes: Any) -> Task:
    return dataclasses.replace(zoo.load("sim", f"tasks/{name}").task(), **changes)


def test_actions_are_scaled_to_the_box() -> None:
    env = GymWorld(Counter, num_envs=5, seed=0)
    env.reset()
    s = env.step(torch.tensor([[-1.0], [0.0], [1.0], [0.5], [7.0]]))
    np.testing.assert_allclose(s.obs["policy"][:, 1], [10.0, 15.0, 20.0, 17.5, 20.0])


def test_the_successor_is_true_and_a_fall_is_no_truncation() -> None:
    kinds = iter([Counter(fall=3), Counter(cut=3), Counter(fall=3, cut=3), Counter()])
    env = GymWorld(lambda: next(kinds), num_envs=4, seed=5)
    env.reset()
    for _ in range(2):
        s = env.step(torch.zeros(4, 1))
        assert s.obs is s.next_obs and not s.log
    s = env.step(torch.zeros(4, 1))
    assert s.terminated.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert s.truncated.tolist() == [False, True, False, False]
    assert s.next_obs["policy"][:, 0].tolist() == [3.0, 3.0, 3.0, 3.0]
    assert s.obs["policy"][:, 0].tolist() == [0.0, 0.0, 0.0, 3.0]
    assert s.log == {"episode/return": 6.0, "episode/length": 3.0, "episode/count": 3.0}
    assert [e.seeds for e in env.envs if isinstance(e, Counter)] == [[5, None], [6, None], [7, None], [8]]


def test_a_registered_environment_steps() -> None:
    env = GymWorld("Pendulum-v1", num_envs=2, seed=0)
    assert env.obs_sizes == {"policy": 3} and env.num_actions == 1
    first = env.reset()["policy"]
    torch.testing.assert_close(env.reset()["policy"], first)  # the seed fixes it
    s = env.step(torch.zeros(2, 1))
    assert s.obs["policy"].shape == (2, 3) and s.reward.dtype == torch.float32
    env.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"action_space": gymnasium.spaces.Discrete(3)}, "action space is Discrete"),
        ({"action_space": Box(-np.inf, np.inf, (1,), np.float32)}, "cannot be normalised"),
        ({"observation_space": Box(0, 255, (4, 4, 3), np.uint8)}, "observation space is Box"),
    ],
)
def test_spaces_that_do_not_train_here_are_refused(change: dict[str, Any], why: str) -> None:
    env = Counter()
    for name, space in change.items():
        setattr(env, name, space)
    with pytest.raises(ValueError, match=why):
        GymWorld(lambda: env, num_envs=1, seed=0)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity.*")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
@pytest.mark.parametrize("name", ["cartpole_swingup", "go2_velocity"])
def test_our_tasks_pass_gymnasiums_own_check(name: str) -> None:
    env = TaskEnv(task(name))
    check_env(env, skip_render_check=True)
    env.close()


def test_a_task_ends_by_the_clock_and_shows_the_true_successor() -> None:
    env = TaskEnv(task("cartpole_swingup", episode_s=0.1))
    first, _ = env.reset(seed=1)
    ends = [env.step(np.array([0.5], np.float32)) for _ in range(5)]
    assert [e[3] for e in ends] == [False] * 4 + [True] and not any(e[2] for e in ends)
    gap = np.abs(ends[4][0] - ends[3][0]).max()
    assert 0.0 < gap < np.abs(ends[4][0] - first).max()  # goes on from the fourth, not back to the start
    again, _ = env.reset(seed=1)
    np.testing.assert_array_equal(again, first)
    env.close()


def test_many_copies_reset_in_the_same_step_and_report_the_end() -> None:
    envs = TaskVectorEnv(task("cartpole_swingup", episode_s=0.06), num_envs=3, threads=1)
    first, _ = envs.reset(seed=2)
    assert first in envs.observation_space
    for k in range(3):
        obs, reward, terminated, truncated, info = envs.step(np.full((3, 1), 0.5, np.float32))
        assert (reward.shape, terminated.shape, terminated.dtype) == ((3,), (3,), np.dtype(bool))
        assert ("final_obs" in info) == (k == 2)
    assert truncated.all() and info["_final_obs"].all()
    assert not np.allclose(info["final_obs"], obs)
    envs.close()


def test_a_name_that_gymnasium_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"no environment 'Hoper-v5'.*Hopper"):
        GymWorld("Hoper-v5", num_envs=1, seed=0)


def test_wrong_arguments_are_refused() -> None:
    env = TaskEnv(task("cartpole_swingup"))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="takes no options"):
        env.reset(options={"pose": 1})
    with pytest.raises(ValueError, match="no render mode 'human'"):
        TaskEnv(task("cartpole_swingup"), render_mode="human")
