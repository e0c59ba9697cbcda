"""A tiny world in pure torch: one runner in the plane whose motors are five times as strong as standing up needs.

The faster it runs along x the better, up to ``BEST``; beyond ``LIMIT`` in any direction it falls. Within the smallest
box of actions it can only walk; random actions out of the largest one make it fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.learn.env import Step

BEST, LIMIT = 2.0, 2.6


class Sprint:
    """Velocities follow ``v' = 0.6 v + 0.4 gain a + noise``; what is seen is the velocity. ``reach`` scales actions."""

    def __init__(self, *, seed: int = 0, episode: int = 50, reach: float = 1.0) -> None:
        self.num_envs, self.num_actions, self.obs_sizes = 1, 2, {"policy": 2}
        self.gain, self.reach, self.episode = 5.0, reach, episode
        self._generator = torch.Generator().manual_seed(seed)
        self._v, self._age = torch.zeros(1, 2), 0

    def reset(self) -> dict[str, Tensor]:
        self._v, self._age = torch.zeros(1, 2), 0
        return {"policy": self._v}

    def step(self, action: Tensor) -> Step:
        assert action.abs().max() <= 1.0
        noise = 0.05 * torch.randn((1, 2), generator=self._generator)
        self._v = 0.6 * self._v + 0.4 * self.gain * self.reach * action + noise
        self._age += 1
        x, y = self._v.unbind(-1)
        reward = 1.0 - ((x - BEST) / BEST).square() - 0.25 * y.square()
        terminated = (self._v.norm(dim=-1) > LIMIT).float()
        truncated = torch.tensor([self._age >= self.episode]) & (terminated < 1.0)
        next_obs = {"policy": self._v}
        obs = self.reset() if bool(truncated) or bool(terminated >= 1.0) else next_obs
        return Step(obs, reward, terminated, truncated, next_obs, {})

    def speed(self) -> dict[str, float]:
        """Along x."""
        return {"speed": float(self._v[0, 0])}

    def close(self) -> None:
        pass

    def snapshot(self) -> dict[str, Any]:
        return {"v": self._v, "age": self._age, "generator": self._generator.get_state()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._v, self._age = snapshot["v"].clone(), snapshot["age"]
        self._generator.set_state(snapshot["generator"])
