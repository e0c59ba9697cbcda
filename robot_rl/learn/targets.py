"""Value targets: generalised advantages, one-step and n-step returns.

Knows: rewards, values, the two ways an episode ends.
Does not know: networks, buffers, algorithms.

Shapes: T time · N environments · B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    discount: float,
    trace: float,
) -> Tensor:
    """Estimate advantages, Schulman et al. 2016 (arXiv:1506.02438), eq. 16.

    A truncated step bootstraps from its true successor but ends the trace.

    Args:
        reward: Reward of each step, shape (T, N).
        value: V(s_t), shape (T, N).
        next_value: V of the true successor, before any reset, shape (T, N).
        terminated: Probability that the step ended the episode, in [0, 1], shape (T, N).
        truncated: Whether the clock ended it, shape (T, N).
        discount: Discount per control step.
        trace: Exponential weight of longer returns.

    Returns:
        Advantages, shape (T, N).
    """
    alive = discount * (1.0 - terminated)
    delta = reward + alive * next_value - value
    decay = trace * alive * (~truncated.bool()).to(alive.dtype)
    advantage = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in range(delta.shape[0] - 1, -1, -1):
        running = torch.addcmul(delta[t], decay[t], running, out=advantage[t])
    return advantage


def td_target(reward: Tensor, next_value: Tensor, terminated: Tensor, *, discount: float | Tensor) -> Tensor:
    """Return the one-step target ``r + discount (1 - terminated) V(s')``; truncation does not cut it.

    Args:
        reward: Reward (or n-step return) of each transition, shape (...).
        next_value: Value of the true successor, shape (...).
        terminated: Probability that the step ended the episode, in [0, 1], shape (...).
        discount: Discount per transition; the discount of ``n_step`` where the reward is its return.

    Returns:
        Targets, shape (...).
    """
    return reward + discount * (1.0 - terminated) * next_value


def n_step(reward: Tensor, terminated: Tensor, truncated: Tensor, *, discount: float) -> tuple[Tensor, Tensor, Tensor]:
    """Join n consecutive steps into one transition that stops where the episode stops.

    The full target is ``td_target(ret, V(successor of step used - 1), 0, discount=discount_n)``: the survival
    probabilities are already multiplied into both results.

    Args:
        reward: Rewards of n consecutive steps, oldest first, shape (n, B).
        terminated: Probability that each step ended the episode, in [0, 1], shape (n, B).
        truncated: Whether the clock ended the episode at the step, shape (n, B).
        discount: Discount per control step.

    Returns:
        The discounted sum of rewards (B,), the discount in front of the bootstrap value (B,), and how many steps
        were used (B,), int64: the bootstrap comes from the successor of step ``used - 1``.
    """
    ret = torch.zeros_like(reward[0])
    weight = torch.ones_like(reward[0])
    running = torch.ones_like(reward[0], dtype=torch.bool)
    used = torch.zeros(reward.shape[1:], dtype=torch.int64, device=reward.device)
    for r, end, clock in zip(reward, terminated, truncated, strict=True):
        ret = torch.where(running, ret + weight * r, ret)
        weight = torch.where(running, weight * discount * (1.0 - end), weight)
        used = used + running
        running = running & (end < 1.0) & ~clock.bool()
    return ret, weight, used
