"""The losses of proximal policy optimisation, Schulman et al. 2017 (arXiv:1707.06347), shared by its variants.

Knows: ratios, advantages, values, Gaussians.
Does not know: networks, rollouts.

Shapes: B minibatch · A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def surrogate_loss(ratio: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """Return minus the clipped surrogate, eq. 7: ``-mean(min(r A, clip(r) A))``, from shapes (B,)."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage).mean()


def value_loss(value: Tensor, old_value: Tensor, ret: Tensor, *, clip: float | None) -> Tensor:
    """Return the mean squared error to the returns, pessimistically clipped around the old values, from (B,)."""
    error = (value - ret).square()
    if clip is None:
        return error.mean()
    near = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum(error, (near - ret).square()).mean()


def gaussian_kl(old_mean: Tensor, old_std: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return KL(old || new) of diagonal Gaussians, summed over actions, shape (B,)."""
    spread = (old_std.square() + (old_mean - mean).square()) / (2.0 * std.square())
    return (torch.log(std / old_std) + spread - 0.5).sum(-1)
