"""Which hidden units sit out: exact Bernoulli trials, drawn as the gaps between the units that drop.

Hiraoka et al. 2022, arXiv 2110.02034 (DroQ), drop one unit in ten to one in ten thousand. A random number for every
unit costs more than the matrix products around it; a random number for every *dropped* unit costs next to nothing,
and the law is the same: the distance from one success to the next in a row of trials is geometric.

Knows: rates, random numbers. Does not know: networks.

Shapes: E members · B batch · H units of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Drops(NamedTuple):
    """What one pass through an ensemble leaves out."""

    at: tuple[Tensor, ...]
    """For each hidden layer the units that drop, positions in its flattened (E, B, H), int64, ascending."""
    scale: float
    """Of those that stay, ``1 / (1 - rate)``: the expected value is that of a pass without drops."""


def draw(
    rate: float, hidden: Sequence[int], *, members: int, rows: int, passes: int, generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> list[Drops] | list[None]:  # fmt: skip
    """Draw the units that drop in some passes, each with ``rate``, all independent of each other.

    Args:
        rate: Probability, in [0, 1).
        hidden: Widths of the hidden layers.
        members: E.
        rows: B.
        passes: How many.
        generator: Source of randomness, on the CPU; untouched where ``rate`` is 0.
        device: Where they are needed. Elsewhere than on a CPU each list is filled up with units that it names already,
            so that the next ones are as long and a graph can be replayed.

    Returns:
        One per pass; None each where ``rate`` is 0.
    """
    if rate == 0.0:
        return [None] * passes
    sizes = torch.tensor([members * rows * width for width in hidden]).repeat(passes)
    ends = sizes.cumsum(0)
    found = _successes(rate, int(ends[-1]), generator)
    parts = found.tensor_split(torch.searchsorted(found, ends)[:-1])
    begins = (ends - sizes).tolist()
    at = [part - begin for part, begin in zip(parts, begins, strict=True)]
    if torch.device(device).type != "cpu":
        at = [filled(x, rate * size).to(device) for x, size in zip(at, sizes.tolist(), strict=True)]
    depth, scale = len(hidden), 1.0 / (1.0 - rate)
    return [Drops(tuple(at[i : i + depth]), scale) for i in range(0, len(at), depth)]


def filled(at: Tensor, expected: float) -> Tensor:
    """Fill up ``at`` to a length that one draw in a billion exceeds, which then stays as it is, like an empty one."""
    length = int(expected + 7.0 * math.sqrt(expected)) + 8
    return torch.cat((at, at[:1].expand(length - len(at)))) if 0 < len(at) <= length else at


def _successes(rate: float, trials: int, generator: torch.Generator) -> Tensor:
    """Return the successes among so many Bernoulli trials, positions (k,), int64, ascending."""
    found, last = [torch.empty(0, dtype=torch.int64)], -1
    while last < trials:
        left = rate * (trials - last)
        count = int(left + 4.0 * math.sqrt(left)) + 8
        # in (0, 1], with 53 bits: a gap is 1 + floor(log u / log(1 - rate))
        u = 1.0 - torch.rand(count, dtype=torch.float64, generator=generator)
        at = u.log_().div_(math.log1p(-rate)).floor_().add_(1.0).cumsum_(0).add_(last).to(torch.int64)
        found.append(at)
        last = int(at[-1])
    joined = torch.cat(found)
    return joined[: int(torch.searchsorted(joined, trials))]
