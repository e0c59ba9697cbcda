"""Exploration on the robot: small, smooth, seeded noise on the policy's raw action, for a learner that is off-policy.

The noise is a first-order autoregressive Gaussian, so that neighbouring ticks differ little; like every other command
it passes the shield. What the policy itself wanted is recorded beside what was commanded.

Knows: a deviation and a seed. Does not know: policies, learners.

Shapes: A action.
"""

from __future__ import annotations

import math

import numpy as np

MAX_STD = 0.5
"""Largest deviation that may be asked for, in units of the raw action's [-1, 1]."""


def check_std(std: float) -> float:
    """Return ``std``; raise ValueError where it is not in [0, MAX_STD]."""
    if not 0.0 <= std <= MAX_STD:
        raise ValueError(f"exploration deviation is {std}; it must lie in [0, {MAX_STD}] of the action's [-1, 1]")
    return std


class Probe:
    """Noise with deviation ``std`` and correlation ``smoothness`` between neighbouring ticks."""

    def __init__(self, num_actions: int, *, std: float = 0.0, smoothness: float = 0.5, seed: int = 0) -> None:
        """Start silent where ``std`` is 0.

        Raises:
            ValueError: ``std`` or ``smoothness`` is out of its range.
        """
        if not 0.0 <= smoothness < 1.0:
            raise ValueError(f"exploration smoothness is {smoothness}; it must lie in [0, 1)")
        self.std = check_std(std)
        self._keep, self._fresh = smoothness, math.sqrt(1.0 - smoothness**2)
        self._rng = np.random.default_rng(seed)
        self._noise = np.zeros(num_actions, np.float32)

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Return the action, shape (A,), with this tick's noise, within [-1, 1]; the same array where silent."""
        if self.std == 0.0:
            return action
        fresh = self._rng.standard_normal(self._noise.shape, dtype=np.float32)
        self._noise = self._keep * self._noise + self._fresh * fresh
        return np.clip(action + np.float32(self.std) * self._noise, -1.0, 1.0)

    def reset(self) -> None:
        """Forget the noise of the tick before."""
        self._noise = np.zeros_like(self._noise)
