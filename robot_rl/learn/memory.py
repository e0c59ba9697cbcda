"""Transitions in memory: one packed float32 row each, so that drawing a block of minibatches is one gather.

Knows: a ring of rows, minibatches that mix prior and new data. Does not know: stores, rewards, learners.

Shapes: n transitions · D observation · A action · U minibatches of B.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions; minibatch u of a block is rows [u*B, (u+1)*B)."""

    obs: Tensor
    """(U*B, D)"""
    action: Tensor
    """In [-1, 1], (U*B, A)."""
    reward: Tensor
    """(U*B,)"""
    next_obs: Tensor
    """(U*B, D)"""
    terminated: Tensor
    """1 where the episode ended in a terminal state (time-outs are 0), (U*B,)."""


class Memory:
    """The newest ``capacity`` transitions."""

    def __init__(self, capacity: int, obs_size: int, num_actions: int) -> None:
        """Allocate; pages are touched only when filled."""
        if capacity < 1:
            raise ValueError(f"memory capacity is {capacity}; it must be at least 1")
        self.sizes = (obs_size, num_actions, 1, obs_size, 1)
        self.rows = torch.empty(capacity, sum(self.sizes))
        self.total = 0
        """Transitions ever appended."""

    def __len__(self) -> int:
        return min(self.total, len(self.rows))

    def append(self, batch: Batch) -> Tensor:
        """Append transitions, overwriting the oldest; return them packed, (n, W)."""
        packed = torch.cat(
            (batch.obs, batch.action, batch.reward[:, None], batch.next_obs, batch.terminated[:, None]), -1
        ).float()
        self.append_packed(packed)
        return packed

    def append_packed(self, packed: Tensor) -> None:
        """Append rows that ``append`` packed, (n, W)."""
        if packed.shape[1:] != self.rows.shape[1:]:
            raise ValueError(
                f"packed transitions have {tuple(packed.shape)}; this memory's rows are {self.rows.shape[1]} wide"
            )
        capacity = len(self.rows)
        at = (self.total + torch.arange(len(packed))) % capacity
        self.rows[at[-capacity:]] = packed[-capacity:]
        self.total += len(packed)

    def gather(self, indices: Tensor) -> Batch:
        """Return the transitions at ``indices`` (n,)."""
        return unpack(self.rows.index_select(0, indices), self.sizes)

    def all(self) -> Batch:
        """Return every transition, in no particular order."""
        return unpack(self.rows[: len(self)], self.sizes)


def unpack(packed: Tensor, sizes: tuple[int, ...]) -> Batch:
    """Return packed rows as views."""
    obs, action, reward, next_obs, terminated = packed.split(sizes, -1)
    return Batch(obs, action, reward.squeeze(-1), next_obs, terminated.squeeze(-1))


def draw(
    online: Memory,
    prior: Memory | None,
    *,
    minibatches: int,
    size: int,
    prior_ratio: float,
    generator: torch.Generator,
) -> Batch:
    """Draw a block with replacement; every minibatch holds ``round(prior_ratio * size)`` prior rows, first.

    Symmetric sampling (RLPD, section 4.1) is ``prior_ratio = 0.5``. Where one memory is empty the other fills all.
    """
    ours = size if prior is None or not len(prior) else size - round(prior_ratio * size)
    if not len(online):
        ours = 0
    rows = torch.empty(minibatches, size, online.rows.shape[1])
    for memory, part in ((prior, rows[:, : size - ours]), (online, rows[:, size - ours :])):
        if memory is not None and part.shape[1]:
            indices = torch.randint(len(memory), (minibatches * part.shape[1],), generator=generator)
            part.copy_(memory.rows.index_select(0, indices).view(part.shape))
    return unpack(rows.flatten(0, 1), online.sizes)
