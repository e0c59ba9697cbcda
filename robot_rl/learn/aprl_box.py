"""A box of actions that grows with the steps behind it and shrinks on demand, and what lies beyond it costs.

Smith, Cao, Levine 2024, arXiv 2310.17634, section IV, in the form of the released code: all or nothing per sample. One
action outside makes the whole vector pay, also the dimensions inside, and the cost jumps at the border.
``overshoot=True`` is the continuous variant, ``k sum relu(|a| - c)``.

Knows: numbers, gradients in closed form. Does not know: why the box shrinks (``aprl_dynamics``), learners.

Shapes: B batch · A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Growth:
    """How the half width of the box grows, the same for all actions, whose bounds are +-1."""

    low: float = 0.35
    """At the first step, and at least after the box shrank."""
    high: float = 0.6
    """Behind the ramp; 1 is all that the joints allow."""
    steps: int = 30_000
    """Length of a ramp [environment steps]; 0 is ``high`` from the beginning and for ever."""
    power: float = 1.0
    """1 is linear, 2 quadratic in time."""

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.high <= 1.0:
            raise ValueError(f"growth: low is {self.low} and high {self.high}; 0 < low <= high <= 1 must hold")
        if self.steps < 0 or self.power <= 0.0:
            raise ValueError(f"growth: steps is {self.steps} and power {self.power}; at least 0, and positive")


class Ramp(NamedTuple):
    """One stretch of growth."""

    start: float
    """Half width at its beginning."""
    begun: int
    """Environment step of its beginning."""


def reach(growth: Growth, ramp: Ramp, step: int) -> float:
    """Return the half width of the box at ``step``."""
    if growth.steps == 0:
        return growth.high
    x = min(1.0, max(0.0, (step - ramp.begun) / growth.steps)) ** growth.power
    return (1.0 - x) * ramp.start + x * growth.high


def shrink(growth: Growth, ramp: Ramp, step: int) -> Ramp:
    """Return the ramp that begins at ``step`` from half the box, or from ``growth.low`` where that is larger."""
    return Ramp(max(growth.low, 0.5 * reach(growth, ramp, step)), step)


@dataclass(frozen=True, slots=True)
class Penalty:
    """What actions cost the actor, and only the actor: values stay those of the world.

    The numbers are for rewards of at most 30 per step; with others keep ``linear`` at 0.4 times the largest.
    """

    linear: float = 12.0
    """Outside: per unit of the sum of |a|."""
    euclidean: float = 0.0
    """Outside: per unit of the norm of a."""
    inside: float = 0.0
    """Inside: weight of ``linear / (3 c^3) sum a^4``."""
    overshoot: bool = False
    """Only what is beyond the border costs, continuously; ``euclidean`` and ``inside`` must be 0."""

    def __post_init__(self) -> None:
        if min(self.linear, self.euclidean, self.inside) < 0.0:
            raise ValueError(f"penalty: {self}; no weight may be negative")
        if self.overshoot and (self.euclidean or self.inside):
            raise ValueError("penalty: overshoot has one weight, linear; euclidean and inside must be 0")


def range_penalty(action: Tensor, half_width: float, penalty: Penalty) -> tuple[Tensor, Tensor]:
    """Return what each action costs, (B,), and the gradient of that by the action, (B, A).

    Args:
        action: In [-1, 1], (B, A).
        half_width: c of the box [-c, c].
        penalty: The weights.
    """
    size, sign = action.abs(), action.sign()
    if penalty.overshoot:
        beyond = (size - half_width).clamp_(min=0.0)
        return penalty.linear * beyond.sum(-1), penalty.linear * sign * (beyond > 0.0)
    out = beyond_box(action, half_width).unsqueeze(-1).to(action.dtype)  # (B, 1)
    cost, slope = penalty.linear * size.sum(-1), penalty.linear * sign
    if penalty.euclidean:
        norm = torch.linalg.vector_norm(action, dim=-1, keepdim=True)
        cost, slope = cost + penalty.euclidean * norm.squeeze(-1), slope + penalty.euclidean * action / norm
    cost, slope = cost * out.squeeze(-1), slope * out
    if penalty.inside:
        weight = penalty.inside * penalty.linear / (3.0 * half_width**3) * (1.0 - out)
        cost = cost + weight.squeeze(-1) * action.pow(4).sum(-1)
        slope = slope + 4.0 * weight * action.pow(3)
    return cost, slope


def beyond_box(action: Tensor, half_width: float) -> Tensor:
    """Return whether any dimension lies outside [-c, c], bool (...)."""
    return (action.abs() > half_width).any(-1)
