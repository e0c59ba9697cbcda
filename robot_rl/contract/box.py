"""The box of actions that a policy's learner assumed, as its contract tells it (APRL, Smith et al. 2024, 2310.17634).

It changes from export to export while all else of a contract stays, so contracts are also compared without it. The
robot says when an action lies beyond the box; it holds actions there only where the contract says by how much at most.

Knows: one entry of ``Contract.extra``. Does not know: learners, the shield.

Shapes: A action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from robot_rl.contract.arrays import Array
from robot_rl.contract.spec import Contract

KEY = "action_box"
"""In ``Contract.extra``."""


@dataclass(frozen=True, slots=True)
class Box:
    """Raw actions in [-half_width, half_width]."""

    half_width: float
    """In (0, 1]."""
    hold_margin: float | None = None
    """Actions are held within the box and this much more; None lets them be."""

    def hold(self, action: Array) -> tuple[Array, bool]:
        """Return the action (A,) as the robot may take it, and whether it lay beyond the box (and the margin, if any).

        What is no number stays so, for the shield to see.
        """
        most = self.half_width + (self.hold_margin or 0.0)
        if not (np.abs(action) > most).any():
            return action, False
        return (action if self.hold_margin is None else np.clip(action, -most, most)), True


def box_of(contract: Contract) -> Box | None:
    """Return the box that the contract tells, None where it tells none.

    Raises:
        ValueError: It is no box.
    """
    told = contract.extra.get(KEY)
    if told is None:
        return None
    if not isinstance(told, dict) or set(told) != {"half_width", "hold_margin"}:
        raise ValueError(f"contract extra {KEY!r} is {told!r}; expected half_width and hold_margin")
    half_width, margin = told["half_width"], told["hold_margin"]
    if not _number(half_width) or not 0.0 < half_width <= 1.0:
        raise ValueError(f"contract extra {KEY!r} has half_width {half_width!r}; it must lie in (0, 1]")
    if margin is not None and (not _number(margin) or margin < 0.0):
        raise ValueError(f"contract extra {KEY!r} has hold_margin {margin!r}; at least 0, or null")
    return Box(float(half_width), None if margin is None else float(margin))


def with_box(contract: Contract, box: Box) -> Contract:
    """Return the contract of a policy whose learner assumed ``box``."""
    told = {"half_width": box.half_width, "hold_margin": box.hold_margin}
    return replace(contract, extra={**contract.extra, KEY: told})


def without_box(contract: Contract) -> Contract:
    """Return the contract as it is for any box; what policies of one learner have in common."""
    return replace(contract, extra={name: value for name, value in contract.extra.items() if name != KEY})


def of_one_learner(contract: Contract, text: str) -> bool:
    """Return whether ``text`` is the JSON of this contract, perhaps with another box."""
    try:
        other = Contract.from_json(text)
    except ValueError:
        return False
    return without_box(other) == without_box(contract)


def _number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and isfinite(x)
