"""A tiny world in pure torch: N point masses on a line that shall come to rest at the origin.

The optimum is known to be near zero cost; the state can be stored, so that resumed runs can be compared exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.learn.env import Step


class PointMass:
    """Position and velocity in [-2, 2]; the action is a force; leaving the range terminates, 50 steps truncate."""

    def __init__(self, num_envs: int = 64, *, seed: int = 0, episode: int = 50, privileged: bool = True) -> None:
        self.num_envs = num_envs
        self.obs_sizes = {"policy": 2, "critic": 3} if privileged else {"policy": 2}
        self.num_actions = 1
        self.episode = episode
        self._generator = torch.Generator().manual_seed(seed)
        self._x = torch.zeros(num_envs, 2)
        self._age = torch.zeros(num_envs, dtype=torch.int64)

    def reset(self) -> dict[str, Tensor]:
        self._start(torch.ones(self.num_envs, dtype=torch.bool))
        return self._observe()

    def step(self, action: Tensor) -> Step:
        assert action.abs().max() <= 1.0
        pos, vel = self._x.unbind(-1)
        vel = vel + 0.2 * action[:, 0]
        pos = pos + 0.2 * vel
        self._x = torch.stack((pos, vel), -1)
        self._age += 1
        reward = 1.0 - pos.square() - 0.1 * vel.square()
        terminated = (pos.abs() > 2.0).float()
        truncated = (self._age >= self.episode) & (terminated < 1.0)
        next_obs = self._observe()
        self._start((terminated >= 1.0) | truncated)
        return Step(self._observe(), reward, terminated, truncated, next_obs, {"reward/alive": 1.0})

    def close(self) -> None:
        pass

    def snapshot(self) -> dict[str, Any]:
        return {"x": self._x, "age": self._age, "generator": self._generator.get_state()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._x, self._age = snapshot["x"].clone(), snapshot["age"].clone()
        self._generator.set_state(snapshot["generator"])

    def _start(self, which: Tensor) -> None:
        fresh = torch.rand(self.num_envs, 2, generator=self._generator) * 2.0 - 1.0
        self._x = torch.where(which[:, None], fresh, self._x)
        self._age = torch.where(which, torch.zeros_like(self._age), self._age)

    def _observe(self) -> dict[str, Tensor]:
        obs = {"policy": self._x.clone()}
        if "critic" in self.obs_sizes:
            obs["critic"] = torch.cat((self._x, self._age[:, None] / self.episode), -1)
        return obs
