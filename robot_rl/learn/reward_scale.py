"""Rewards divided by the running deviation of the discounted return, so that one learning rate fits every world.

As in Engstrom et al. 2020 (arXiv 2005.12729, section 3, "reward scaling") and Stable-Baselines3's ``VecNormalize``:
nothing is subtracted, so that no state becomes good or bad by it.

Knows: a ``VecEnv``. Does not know: learners. Watch the world *inside* to report raw returns.

Shapes: N environments.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from robot_rl.learn.env import Step, VecEnv

FLOOR = 1e-4
"""Added to the deviation."""


class ScaledRewards:
    """Passes a ``VecEnv`` through and scales what it pays."""

    def __init__(self, env: VecEnv, *, discount: float, clip: float = 10.0) -> None:
        """Wrap ``env``.

        Args:
            env: N environments.
            discount: Of the return whose deviation is the unit.
            clip: Largest size of a scaled reward.
        """
        self._env, self._discount, self._clip = env, discount, clip
        self.num_envs, self.obs_sizes, self.num_actions = env.num_envs, env.obs_sizes, env.num_actions
        self._return = np.zeros(env.num_envs)
        self._count, self._mean, self._var = 0, 0.0, 1.0

    def reset(self) -> dict[str, Tensor]:
        """Reset every environment; the statistics stay."""
        self._return[:] = 0.0
        return self._env.reset()

    def step(self, action: Tensor) -> Step:
        """Step, learn the deviation and pay in its unit."""
        step = self._env.step(action)
        self._return = self._discount * self._return + step.reward.cpu().numpy()
        self._learn()
        reward = (step.reward / (math.sqrt(self._var) + FLOOR)).clamp(-self._clip, self._clip)
        self._return *= (1.0 - step.terminated.cpu().numpy()) * ~step.truncated.cpu().numpy()
        return Step(step.obs, reward, step.terminated, step.truncated, step.next_obs, step.log)

    def _learn(self) -> None:
        """Take the returns into their mean and variance (Chan's parallel formula)."""
        n = len(self._return)
        mean, var = float(self._return.mean()), float(self._return.var())
        weight = n / (self._count + n)
        delta = mean - self._mean
        self._var = self._var * (1.0 - weight) + var * weight + delta * delta * weight * (1.0 - weight)
        self._mean += delta * weight
        self._count += n

    def close(self) -> None:
        """Close the world."""
        self._env.close()
