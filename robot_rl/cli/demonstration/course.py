"""The course that the demo drives: commands drawn from a seed, and a robot that is put back on its feet.

Knows: the operator's end of the wire. Does not know: processes, files, what the robot learns meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot_rl.data.transition import Mode
from robot_rl.wire.operator import Operator

HOLD_S = 3.0
"""Simulated time that a command holds [s]."""
LOW, HIGH = (0.3, -0.1, -0.6), (1.0, 0.1, 0.6)
"""Ranges of the commands: a patrol, forwards with turns [m/s, m/s, rad/s]."""
SILENCE_S = 10.0
SAY_EVERY_S = 30.0


@dataclass(slots=True)
class Window:
    """A stretch of the recording that is measured, by the robot's own tick counter."""

    name: str
    first_tick: int
    last_tick: int = 0


@dataclass(slots=True)
class Story:
    """What the operator noted down while it drove."""

    windows: list[Window] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    lifts: int = 0


def commands(simulated_s: float, *, seed: int) -> np.ndarray:
    """Return the commands of a course, one per ``HOLD_S``, shape (n, 3)."""
    n = int(np.ceil(simulated_s / HOLD_S))
    return np.random.default_rng(seed).uniform(LOW, HIGH, size=(n, 3))


class Driver:
    """Walks one robot over courses; ``alive`` raises where a process that is needed has ended."""

    def __init__(
        self, operator: Operator, story: Story, *, say: Callable[[str], None], alive: Callable[[], None]
    ) -> None:
        """Remember who is driven, and whom to tell."""
        self.operator, self.story = operator, story
        self._say, self._alive = say, alive
        self._said_s = time.monotonic()

    def begin(self, *, timeout_s: float = 60.0) -> None:
        """Wait for the robot to appear on the wire, and let the policy drive."""
        end_s = time.monotonic() + timeout_s
        while self.operator.status is None and time.monotonic() < end_s:
            self._alive()
            time.sleep(0.1)
        self.operator.start_policy()

    def course(self, name: str, simulated_s: float, *, seed: int) -> None:
        """Drive the commands of ``seed`` for ``simulated_s`` of the robot's own time, and note the window."""
        status = self.operator.status
        assert status is not None, "start_policy has seen a status"
        first, ticks = int(status.tick), round(simulated_s * status.rate_hz)
        window = Window(name, first)
        self.story.windows.append(window)
        for k, command in enumerate(commands(simulated_s, seed=seed)):
            self.operator.drive(command)
            end = first + min(ticks, round((k + 1) * HOLD_S * status.rate_hz))
            while self._tick() < end:
                time.sleep(0.01)
                self._look_after()
                self._tell(name, first, ticks)
        window.last_tick = self._tick()

    def _tick(self) -> int:
        assert self.operator.status is not None
        return int(self.operator.status.tick)

    def _look_after(self) -> None:
        """Lift a fallen robot and let the policy go on; raise where somebody died or the robot fell silent."""
        self._alive()
        operator = self.operator
        assert operator.status is not None
        if time.monotonic() - operator.status_at_s > SILENCE_S:
            raise TimeoutError(f"the robot has said nothing for {SILENCE_S:g} s; see robot.log")
        if operator.status.mode == Mode.DAMP:
            self.story.lifts += 1
            operator.ask("lift")
            time.sleep(0.1)
            operator.start_policy()

    def _tell(self, name: str, first: int, ticks: int) -> None:
        if time.monotonic() - self._said_s < SAY_EVERY_S:
            return
        self._said_s = time.monotonic()
        status, learner = self.operator.status, self.operator.learner
        assert status is not None
        learnt = f", {learner.updates} updates, {learner.offers} policies offered" if learner else ""
        done = 100.0 * (int(status.tick) - first) / max(1, ticks)
        self._say(f"  {name}: {done:.0f} %{learnt}, {status.swaps} swaps, {self.story.lifts} falls so far")
