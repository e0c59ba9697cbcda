"""What a learner needs of a world: ``VecEnv`` and its ``Step``.

Knows: shapes and the meaning of termination and truncation.
Does not know: physics, robots, rewards.

Shapes: N environments · D observation (per group) · A action.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Step(NamedTuple):
    """The outcome of one control step in N environments, which reset themselves."""

    obs: dict[str, Tensor]
    """Act on this next; already reset where an episode ended. Groups ``policy`` and, where the task has
    privileged terms, ``critic``; each (N, D_group), float32."""
    reward: Tensor
    """Shape (N,), float32."""
    terminated: Tensor
    """Probability in [0, 1] that the step ended the episode, (N,), float32. 1 cuts the bootstrap and resets."""
    truncated: Tensor
    """Whether the clock alone ended the episode, (N,), bool. The value bootstraps from ``next_obs``."""
    next_obs: dict[str, Tensor]
    """The true successor, before any reset, (N, D_group)."""
    log: dict[str, float]
    """Means over environments: reward terms, episode returns and lengths where episodes ended."""


class VecEnv(Protocol):
    """N environments that step together and reset themselves."""

    num_envs: int
    obs_sizes: dict[str, int]
    """Width of each observation group, e.g. ``{"policy": 45, "critic": 60}``."""
    num_actions: int

    def reset(self) -> dict[str, Tensor]:
        """Reset every environment and return the first observations, each (N, D_group)."""
        ...

    def step(self, action: Tensor) -> Step:
        """Apply raw actions in [-1, 1], shape (N, A), for one control period."""
        ...

    def close(self) -> None:
        """Free threads and memory."""
        ...


def joined(obs: dict[str, Tensor]) -> Tensor:
    """Return what critics see, (N, D): the policy's observation first, then the other groups."""
    return torch.cat([obs["policy"], *(x for name, x in obs.items() if name != "policy")], -1)
