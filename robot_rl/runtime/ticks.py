"""How long ticks took and how late they began: counters the control thread fills, numbers others read.

Knows: the last few thousand ticks. Does not know: what a tick does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over the newest ticks [s]."""

    ticks: int
    """Ticks since the loop began."""
    work_p50_s: float
    work_p99_s: float
    work_max_s: float
    late_p99_s: float
    late_max_s: float
    """How late a tick began."""


class TickLog:
    """A ring of durations. One thread adds, any thread summarises."""

    def __init__(self, capacity: int = 4096) -> None:
        """Keep the newest ``capacity`` ticks."""
        self.count = 0
        self._work_s = np.zeros(capacity)
        self._late_s = np.zeros(capacity)

    def add(self, work_s: float, late_s: float) -> None:
        """Add one tick: what it took without the wait, and how late it began [s]."""
        i = self.count % len(self._work_s)
        self._work_s[i] = work_s
        self._late_s[i] = late_s
        self.count += 1

    def newest(self, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return work and lateness of the newest ``count`` ticks, oldest first, copies of shape (n,) [s]."""
        kept = min(self.count, len(self._work_s), self.count if count is None else count)
        order = np.arange(self.count - kept, self.count) % len(self._work_s)
        return self._work_s[order], self._late_s[order]

    def summary(self) -> Latency:
        """Return the percentiles; sorts a copy, so it is not for the control thread."""
        work_s, late_s = self.newest()
        if not work_s.size:
            return Latency(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p99 = np.percentile(work_s, (50, 99))
        late = float(np.percentile(late_s, 99))
        return Latency(self.count, float(p50), float(p99), float(work_s.max()), late, float(late_s.max()))
