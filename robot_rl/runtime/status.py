"""What an operator wants to see of a control loop.

Knows: names of what is shown. Does not know: the loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.data.transition import Mode, Who
from robot_rl.runtime.shield import Reason
from robot_rl.runtime.swap import Stage
from robot_rl.runtime.ticks import Latency


@dataclass(frozen=True, slots=True)
class Status:
    """One snapshot; built by whoever asks, not by the control thread."""

    tick: int
    mode: Mode
    estopped: bool
    fault: Reason
    """Why the robot last fell back to DAMP."""
    stood_up: bool
    who: Who
    reasons: Reason
    command: tuple[float, ...]
    policy: str
    """SHA-256 of the live policy's file."""
    policy_path: str
    swap: Stage
    latency: Latency
    overruns: int
    drops: int
    """Rows that the recorder lost."""
    period_s: float
