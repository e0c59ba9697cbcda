"""Rewards divided by the running deviation of the discounted return, so that one learning rate fits every world.

As in Engstrom et al. 2020 (arXiv 2005.12729, section 3, "reward scaling") and Stable-Baselines3's ``VecNormalize``:
nothing is subtracted, so that no state becomes good or bad by it.

Knows: a ``VecEnv``. Does not know: learners. Watch the world *inside* to report raw returns.

Shapes: N environments.
"""

from __future__ import annotations

from torch import Tensor, zeros

from robot_rl.learn.env import Step, VecEnv
from robot_rl.learn.nets import Normaliser


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
        self._return = zeros(env.num_envs)
        self._spread = Normaliser(1, floor=1e-4)

    def reset(self) -> dict[str, Tensor]:
        """Reset every environment; the statistics stay."""
        self._return.zero_()
        return self._env.reset()

    def step(self, action: Tensor) -> Step:
        """Step, learn the deviation and pay in its unit."""
        step = self._env.step(action)
        self._return = self._discount * self._return + step.reward
        self._spread.update(self._return.unsqueeze(-1))
        reward = (step.reward / (self._spread.var.sqrt() + self._spread.floor)).clamp(-self._clip, self._clip)
        self._return = self._return * (1.0 - step.terminated) * (~step.truncated)
        return Step(step.obs, reward, step.terminated, step.truncated, step.next_obs, step.log)

    def close(self) -> None:
        """Close the world."""
        self._env.close()
