"""When a tick begins: absolute deadlines on the machine's monotonic clock, or simulated time for a twin.

A deadline is ``start + k * period``, never "now plus a period", so lateness does not add up. A tick that misses whole
periods skips them and counts them; it never runs two ticks back to back to catch up.

Knows: a rate. Does not know: what happens in a tick.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Time for a control loop and for the driver that stamps its states."""

    period_s: float
    overruns: int
    """Deadlines that passed while a tick still ran."""

    def now_s(self) -> float:
        """Return the time [s]; ``RobotState.stamp_s`` is on this clock."""
        ...

    def start(self) -> None:
        """Set the first deadline to now."""
        ...

    def wait(self) -> float:
        """Wait for the next deadline and return how late the caller wakes [s], at least 0."""
        ...


class WallClock:
    """Real time: ``time.monotonic`` and absolute deadlines."""

    def __init__(
        self,
        rate_hz: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Tick at ``rate_hz``; ``now`` and ``sleep`` are replaced in tests of the arithmetic only."""
        self.period_s = _period(rate_hz)
        self.overruns = 0
        self._now, self._sleep = now, sleep
        self._origin_s = now()
        self._tick = 0

    def now_s(self) -> float:
        """Return the machine's monotonic time [s]."""
        return self._now()

    def start(self) -> None:
        """Set the first deadline to now."""
        self._origin_s = self._now()
        self._tick = 0

    def wait(self) -> float:
        """Sleep until the next deadline that lies ahead; deadlines already missed are counted and skipped."""
        self._tick += 1
        left_s = self._origin_s + self._tick * self.period_s - self._now()
        if left_s < 0.0:
            missed = math.ceil(-left_s / self.period_s)
            self.overruns += missed
            self._tick += missed
            left_s += missed * self.period_s
        if left_s > 0.0:
            self._sleep(left_s)
        return max(0.0, self._now() - (self._origin_s + self._tick * self.period_s))


class SimClock:
    """Simulated time: every ``wait`` is one period, as fast as possible or at ``speed`` times real time."""

    def __init__(self, rate_hz: float, *, speed: float | None = None) -> None:
        """Tick at ``rate_hz`` of simulated time.

        Args:
            rate_hz: Control rate [Hz of simulated time].
            speed: Simulated seconds per real second; None runs as fast as possible.
        """
        self.period_s = _period(rate_hz)
        self.overruns = 0
        self._tick = 0
        self._pace = None if speed is None else WallClock(rate_hz * _positive("speed", speed))

    def now_s(self) -> float:
        """Return the simulated time [s]."""
        return self._tick * self.period_s

    def start(self) -> None:
        """Begin pacing now; the simulated time goes on from where it is."""
        if self._pace is not None:
            self._pace.start()

    def wait(self) -> float:
        """Advance the simulated time by one period; a simulated tick is never late."""
        self._tick += 1
        if self._pace is not None:
            self._pace.wait()
            self.overruns = self._pace.overruns
        return 0.0


def _period(rate_hz: float) -> float:
    return 1.0 / _positive("rate_hz", rate_hz)


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value}; it must be positive and finite")
    return value
