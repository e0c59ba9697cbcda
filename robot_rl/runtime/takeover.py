"""Who drives: the policy, a person, or a ramp from one to the other, so that neither take-over nor hand-back bumps.

Whenever the driver changes, the action moves in ``ramp_s`` linearly from the last one that drove the robot to what the
new driver wants; until the person's first action arrives, that last one is held. So the action is continuous however
often and however fast the driver changes, and what it changes per tick is further bounded by the shield's rate limit.

Knows: actions. Does not know: joints, modes, where a person's actions come from.

Shapes: A action.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from robot_rl.data.transition import Who

RAMP_S = 0.3
_POLICY, _HOLD, _HUMAN = range(3)


@dataclass(frozen=True, slots=True)
class Span:
    """One entry of the ledger: who drove from when to when, why, and how far the policy would have gone elsewhere."""

    who: Who
    why: str
    first_tick: int
    ticks: int
    gap_mean: float
    """Mean absolute difference per joint between what drove and what the policy wanted, in raw action units."""
    gap_max: float


class Takeover:
    """Blend the policy's and a person's actions and keep the ledger."""

    def __init__(self, num_actions: int, *, period_s: float, ramp_s: float = RAMP_S) -> None:
        """Prepare for actions of A numbers at one call per ``period_s``."""
        self.ledger: deque[Span] = deque(maxlen=256)
        """Closed spans, oldest first."""
        self._top = max(1, round(ramp_s / period_s))  # ticks of a whole ramp
        self._level = self._top  # of them, how many the present driver has had
        self._driver = _POLICY
        self._last = np.zeros(num_actions, np.float32)
        self._from = self._last
        self._who, self._why, self._first = Who.NONE, "", 0
        self._ticks, self._gap_sum, self._gap_max = 0, 0.0, 0.0

    def reset(self) -> None:
        """Forget the person and the last action; called where the policy starts from standing."""
        self._level, self._driver = self._top, _POLICY
        self._last = self._from = np.zeros_like(self._last)

    def blend(
        self, policy: np.ndarray, human: np.ndarray | None, *, engaged: bool, tick: int, why: str = ""
    ) -> tuple[np.ndarray, Who]:
        """Return the action that drives, shape (A,), and who it belongs to; the person until a hand-back is over.

        Args:
            policy: What the policy wants, shape (A,).
            human: The person's newest action, shape (A,); None where none came since the take-over.
            engaged: Whether the person drives; a change starts a ramp.
            tick: Number of the tick, for the ledger.
            why: What the ledger says of a change.
        """
        driver = _POLICY if not engaged else _HOLD if human is None else _HUMAN
        if driver != self._driver:
            self._driver, self._from, self._level = driver, self._last, 0
        self._level = min(self._top, self._level + 1)
        goal = policy if driver == _POLICY else self._from if human is None else human
        arrived = self._level == self._top
        action = goal if arrived else self._from + np.float32(self._level / self._top) * (goal - self._from)
        who = Who.POLICY if driver == _POLICY and arrived else Who.HUMAN
        self._account(who, why, tick, policy, action)
        self._last = action
        return action, who

    def close(self) -> Span | None:
        """Close the open span and return it; None where nobody drove."""
        if self._ticks == 0:
            return None
        gap = self._gap_sum / self._ticks
        span = Span(self._who, self._why, self._first, self._ticks, gap, self._gap_max)
        self.ledger.append(span)
        self._ticks, self._gap_sum, self._gap_max, self._who = 0, 0.0, 0.0, Who.NONE
        return span

    def _account(self, who: Who, why: str, tick: int, policy: np.ndarray, action: np.ndarray) -> None:
        if who is not self._who:
            self.close()
            self._who, self._why, self._first = who, why, tick
        self._ticks += 1
        if who is Who.HUMAN:
            gap = float(np.abs(action - policy).mean())
            self._gap_sum += gap
            self._gap_max = max(self._gap_max, gap)
