"""A tiny world in pure torch with one far reward: N walkers in a house of two rooms that pays only at its far end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.learn.env import Step

STRIDE = 0.2
EPISODE = 60
START = (0.3, 0.5)


class Corridor:
    """Positions in [0, 4] x [0, 2]; a wall at y = 1 leaves a door at x > 3; a step pays 1 above it where x < 1.

    Whoever always walks in one direction gets stuck in a corner; a random walk ends far from the reward.
    """

    def __init__(self, num_envs: int = 64) -> None:
        self.num_envs, self.num_actions = num_envs, 2
        self.obs_sizes = {"policy": 2}
        self._start = torch.tensor(START).expand(num_envs, 2)
        self._x = self._start.clone()
        self._age = torch.zeros(num_envs, dtype=torch.int64)

    def reset(self) -> dict[str, Tensor]:
        self._x, self._age = self._start.clone(), torch.zeros_like(self._age)
        return self._observe()

    def step(self, action: Tensor) -> Step:
        y = self._x[:, 1]
        x, to = (self._x + STRIDE * action).unbind(-1)
        x = x.clamp(0.0, 4.0)
        low = torch.where((x < 3.0) & (y > 1.0), 1.0 + 1e-3, 0.0)
        high = torch.where((x < 3.0) & (y <= 1.0), 1.0, 2.0)
        self._x = torch.stack((x, to.maximum(low).minimum(high)), -1)
        self._age = self._age + 1
        reward = ((self._x[:, 0] < 1.0) & (self._x[:, 1] > 1.0)).float()
        truncated = self._age >= EPISODE
        next_obs = self._observe()
        self._x = torch.where(truncated[:, None], self._start, self._x)
        self._age = torch.where(truncated, torch.zeros_like(self._age), self._age)
        return Step(self._observe(), reward, torch.zeros(self.num_envs), truncated, next_obs, {})

    def close(self) -> None:
        pass

    def snapshot(self) -> dict[str, Any]:
        return {"x": self._x, "age": self._age}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._x, self._age = snapshot["x"].clone(), snapshot["age"].clone()

    def _observe(self) -> dict[str, Tensor]:
        return {"policy": self._x - 1.0}
