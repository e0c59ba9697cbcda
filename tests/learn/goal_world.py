"""A tiny world in pure torch: N points in a square that shall come to a goal, a judge who knows how, a poor expert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.learn.env import Step
from robot_rl.learn.overseer import Overseer, Strategy

STRIDE = 0.1
RADIUS = 0.05


class GoalWorld:
    """Positions in [-1, 1]^2; an action moves by up to ``STRIDE`` per axis; the goal pays 1 and ends an episode.

    What is seen is the way to the goal.
    """

    def __init__(self, num_envs: int, *, seed: int = 0, episode: int = 30) -> None:
        self.num_envs, self.num_actions, self.episode = num_envs, 2, episode
        self.obs_sizes = {"policy": 2}
        self._generator = torch.Generator().manual_seed(seed)
        self._x = torch.zeros(num_envs, 4)  # position, goal
        self._age = torch.zeros(num_envs, dtype=torch.int64)

    def reset(self) -> dict[str, Tensor]:
        self._start(torch.ones(self.num_envs, dtype=torch.bool))
        return self._observe()

    def step(self, action: Tensor) -> Step:
        assert action.abs().max() <= 1.0
        pos = (self._x[:, :2] + STRIDE * action).clamp(-1.0, 1.0)
        self._x = torch.cat((pos, self._x[:, 2:]), -1)
        self._age = self._age + 1
        there = (pos - self._x[:, 2:]).norm(dim=-1) < RADIUS
        truncated = (self._age >= self.episode) & ~there
        next_obs = self._observe()
        self._start(there | truncated)
        return Step(self._observe(), there.float(), there.float(), truncated, next_obs, {})

    def close(self) -> None:
        pass

    def snapshot(self) -> dict[str, Any]:
        return {"x": self._x, "age": self._age, "generator": self._generator.get_state()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._x, self._age = snapshot["x"].clone(), snapshot["age"].clone()
        self._generator.set_state(snapshot["generator"])

    def _start(self, which: Tensor) -> None:
        fresh = torch.rand(self.num_envs, 4, generator=self._generator) * 2.0 - 1.0
        self._x = torch.where(which[:, None], fresh, self._x)
        self._age = torch.where(which, 0, self._age)

    def _observe(self) -> dict[str, Tensor]:
        return {"policy": self._x[:, 2:] - self._x[:, :2]}


def straight(obs: dict[str, Tensor]) -> Tensor:
    """The best action."""
    way = obs["policy"] / STRIDE
    return way / way.abs().amax(-1, keepdim=True).clamp_min(1.0)


def slow(obs: dict[str, Tensor]) -> Tensor:
    """The right direction at half the speed."""
    return 0.5 * straight(obs)


def value(obs: dict[str, Tensor], action: Tensor) -> Tensor:
    """5 - 10 times the distance that is left after ``action``."""
    return 5.0 - 10.0 * (obs["policy"] - STRIDE * action).norm(dim=-1)


BY_VALUE = Strategy("value", margin=0.25, certainty=0.95, hindsight=True, errors=0.5)


def overseer(strategy: Strategy, num_envs: int, *, seed: int = 0) -> Overseer:
    """Judge with the world's own value; drive slowly, and at random in ``strategy.errors`` of the steps."""
    return Overseer(strategy, num_envs, expert=slow, judge=value, reference=straight, seed=seed)


def success(act: Any, *, episodes: int = 100, seed: int = 99, episode: int = 30) -> float:
    """Return the share of episodes in which ``act``, from observations to actions, comes to the goal."""
    world = GoalWorld(episodes, seed=seed, episode=episode)
    obs, reached = world.reset(), torch.zeros(episodes, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(episode):
            step = world.step(act(obs["policy"]).clamp(-1.0, 1.0))
            reached |= step.terminated > 0.0
            obs = step.obs
    return float(reached.float().mean())
