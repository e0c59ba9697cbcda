"""A world seen through one camera of 12 x 12: a bright spot that is to be brought to the middle, in pure NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.learn.env import Step

SIZE, NEAR, MOVE, LIMIT = 12, 0.3, 0.3, 15


class SpotWorld:
    """N spots; an action moves one by up to ``MOVE``. Within ``NEAR`` of the middle it is solved, which pays 1."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.num_envs, self.num_actions, self.obs_sizes = num_envs, 2, {"policy": 2}
        self.rng = np.random.default_rng(seed)
        self.at, self.last, self.age = np.zeros((num_envs, 2)), np.zeros((num_envs, 2)), np.zeros(num_envs, int)

    def reset(self) -> dict[str, Tensor]:
        self._restart(np.arange(self.num_envs))
        return self._see()

    def step(self, action: Tensor) -> Step:
        self.last = action.numpy().astype(np.float64).clip(-1, 1)
        self.at = (self.at + MOVE * self.last).clip(-1, 1)
        self.age += 1
        solved = np.abs(self.at).max(-1) < NEAR
        late = (self.age >= LIMIT) & ~solved
        next_obs = self._see()
        ids = np.flatnonzero(solved | late)
        self._restart(ids)
        obs = self._see() if ids.size else next_obs
        reward = torch.from_numpy(solved.astype(np.float32))
        return Step(obs, reward, reward.clone(), torch.from_numpy(late), next_obs, {})

    def close(self) -> None:
        """Nothing to free."""

    def snapshot(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "at": self.at, "last": self.last, "age": self.age}

    def restore(self, snapshot: dict[str, Any]) -> None:
        self.rng.bit_generator.state = snapshot["rng"]
        self.at, self.last, self.age = (np.asarray(snapshot[name]).copy() for name in ("at", "last", "age"))

    def expert(self, noise: np.random.Generator) -> np.ndarray:
        """Return actions towards the middle, with some noise."""
        return (-self.at / MOVE + noise.normal(0.0, 0.3, self.at.shape)).clip(-1, 1)

    def _restart(self, ids: np.ndarray) -> None:
        self.at[ids] = self.rng.uniform(-1, 1, (len(ids), 2))
        self.last[ids], self.age[ids] = 0.0, 0

    def _see(self) -> dict[str, Tensor]:
        shown = np.zeros((self.num_envs, SIZE, SIZE, 3), np.uint8)
        place = np.round((self.at + 1) / 2 * (SIZE - 1)).astype(int)
        shown[np.arange(self.num_envs), place[:, 0], place[:, 1]] = 255
        return {"policy": torch.from_numpy(self.last.astype(np.float32)), "pixels/eye": torch.from_numpy(shown)}
