"""A world of CPU tensors for a learner that lives on a graphics card.

Knows: ``VecEnv``, what worlds may offer beside it. Does not know: physics, learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from robot_rl.learn.checkpoint import Restorable
from robot_rl.learn.env import Step, VecEnv
from robot_rl.learn.rollout import Staggered


class OnDevice:
    """The world's steps with all tensors on ``device``; actions go back to the CPU."""

    def __init__(self, env: VecEnv, device: str) -> None:
        """Wrap ``env``; ``device`` is torch's name for it, e.g. ``cuda:0``."""
        self._env, self._device = env, device
        self.num_envs, self.obs_sizes, self.num_actions = env.num_envs, env.obs_sizes, env.num_actions

    def reset(self) -> dict[str, Tensor]:
        """Reset every environment and return the first observations."""
        return self._moved(self._env.reset())

    def stagger(self) -> None:
        """Give first episodes random ages, where the world can."""
        if isinstance(self._env, Staggered):
            self._env.stagger()

    def step(self, action: Tensor) -> Step:
        """Apply raw actions in [-1, 1], (N, A), from any device."""
        s = self._env.step(action.cpu())
        next_obs = self._moved(s.next_obs)
        return Step(
            next_obs if s.obs is s.next_obs else self._moved(s.obs),
            s.reward.to(self._device),
            s.terminated.to(self._device),
            s.truncated.to(self._device),
            next_obs,
            s.log,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the world's state; empty where it cannot be stored."""
        return self._env.snapshot() if isinstance(self._env, Restorable) else {}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        assert isinstance(self._env, Restorable), "what could be stored can be restored"
        self._env.restore(snapshot)

    def close(self) -> None:
        """Free the world."""
        self._env.close()

    def _moved(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.to(self._device) for name, x in obs.items()}
