"""A world that is watched while somebody learns or is tested in it: returns of episodes, smoothness of the commands.

The continuity cost of training, noise included, is the proxy for wear of Raffin et al. 2021 (arXiv 2005.05719,
section 4.1): ``C = 100 E[((a_{t+1} - a_t) / range)^2]``, 0 for a constant command, 100 from limit to limit every step.

Knows: a ``VecEnv``. Does not know: learners, what the world is.

Shapes: N environments · A action.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from robot_rl.learn.env import Step, VecEnv


class Watched:
    """Passes a ``VecEnv`` through unchanged and keeps count."""

    def __init__(self, env: VecEnv) -> None:
        """Wrap ``env``, whose actions lie in [-1, 1]; what is beyond counts as the bound, as it is executed."""
        self._env = env
        self.num_envs, self.obs_sizes, self.num_actions = env.num_envs, env.obs_sizes, env.num_actions
        self.steps = 0
        """Transitions so far, over all environments."""
        self.episodes: list[tuple[int, int, float]] = []
        """Finished episodes in the order of their ends: transitions so far, environment, sum of raw rewards."""
        self.costs: list[float] = []
        """C until the end of each of them."""
        self._return = np.zeros(env.num_envs)
        self._last = np.zeros((env.num_envs, env.num_actions), dtype=np.float32)
        self._fresh = np.ones(env.num_envs, dtype=np.bool_)
        self._jumps, self._pairs = 0.0, 0

    def reset(self) -> dict[str, Tensor]:
        """Reset every environment; episodes under way are forgotten."""
        self._return[:] = 0.0
        self._fresh[:] = True
        return self._env.reset()

    def step(self, action: Tensor) -> Step:
        """Step and count."""
        step = self._env.step(action)
        executed = action.detach().cpu().numpy().clip(-1.0, 1.0)
        pairs = ~self._fresh
        self._jumps += 0.25 * float(np.square(executed - self._last, dtype=np.float64)[pairs].sum())
        self._pairs += int(pairs.sum()) * self.num_actions
        self._last = executed
        self.steps += self.num_envs
        self._return += step.reward.cpu().numpy()
        self._fresh = ((step.terminated >= 1.0) | step.truncated).cpu().numpy()
        for i in np.flatnonzero(self._fresh).tolist():
            self.episodes.append((self.steps, i, float(self._return[i])))
            self.costs.append(self.continuity())
            self._return[i] = 0.0
        return step

    def close(self) -> None:
        """Close the world."""
        self._env.close()

    def continuity(self) -> float:
        """Return C over all pairs of consecutive actions within episodes so far; 0 where there is none."""
        return 100.0 * self._jumps / max(self._pairs, 1)


@torch.no_grad()
def evaluate(env: VecEnv, policy: Callable[[Tensor], Tensor]) -> tuple[list[float], float]:
    """Run one episode in each environment.

    Args:
        env: N fresh environments; those that are done early go on unseen until the last one is.
        policy: From observations (N, D) to actions (N, A).

    Returns:
        The N returns, in the order of the environments, and the continuity cost of the actions.
    """
    watched = Watched(env)
    obs = watched.reset()
    first: dict[int, float] = {}
    while len(first) < env.num_envs:
        seen = len(watched.episodes)
        obs = watched.step(policy(obs["policy"])).obs
        for _, i, value in watched.episodes[seen:]:
            first.setdefault(i, value)
    return [first[i] for i in range(env.num_envs)], watched.continuity()
