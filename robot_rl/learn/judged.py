"""A world whose reward is a judge's: 1 in every step that it takes for a success, whatever the task itself would pay.

The task ends its episodes as before. What the judge said and what the task paid are told beside each other, so that a
policy that deceives the judge is seen.

Knows: a ``VecEnv``, a judge of one group of observations. Does not know: how judges are made (``success``).

Shapes: N environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.learn import checkpoint
from robot_rl.learn.env import Step, VecEnv

Success = Callable[[np.ndarray], np.ndarray]
"""Maps a group of observations (N, ...) to bool (N,), such as ``contract.judge.Judge.success``."""


class Judged:
    """N environments whose reward is a judge's; satisfies ``VecEnv`` and, where the world does, ``Restorable``."""

    def __init__(self, env: VecEnv, success: Success, source: str) -> None:
        """Let ``success`` look at the group ``source`` of what each step led to."""
        self.env, self._success, self._source = env, success, source
        self.num_envs, self.num_actions, self.obs_sizes = env.num_envs, env.num_actions, env.obs_sizes

    def reset(self) -> dict[str, Tensor]:
        """Reset every environment.

        Raises:
            ValueError: The world does not show what the judge looks at.
        """
        obs = self.env.reset()
        if self._source not in obs:
            raise ValueError(f"the judge looks at {self._source!r}; the world shows {sorted(obs)}")
        return obs

    def step(self, action: Tensor) -> Step:
        """Step, and pay what the judge says."""
        step = self.env.step(action)
        says = torch.from_numpy(self._success(step.next_obs[self._source].cpu().numpy()).astype(np.float32))
        log = step.log | {"judge/success": float(says.mean()), "judge/task_reward": float(step.reward.mean())}
        return Step(step.obs, says, step.terminated, step.truncated, step.next_obs, log)

    def close(self) -> None:
        """Close the world."""
        self.env.close()

    def snapshot(self) -> dict[str, Any]:
        """Return the world's state; empty where it cannot be stored."""
        return self.env.snapshot() if isinstance(self.env, checkpoint.Restorable) else {}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        if isinstance(self.env, checkpoint.Restorable):
            self.env.restore(snapshot)
