"""A driver without a robot: joints follow their targets with a first-order lag, and it can fail on cue.

For tests of the runtime, benchmarks and dry runs at a desk. The base hangs still, level and weightless.

Knows: targets in, states out, the usual ways in which a link fails.
Does not know: physics (``sim/twin.py`` has it).

Shapes: J joints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

import numpy as np

from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot


class Failure(Enum):
    """What may go wrong between a robot and its computer."""

    STALE = "stale"
    """The newest state gets old; reads and writes still return."""
    NAN = "nan"
    """An encoder reads NaN."""
    TILT = "tilt"
    """The base lies on its side."""
    OVERSPEED = "overspeed"
    """A joint is measured at twice the velocity that the robot damps at."""
    DISCONNECT = "disconnect"
    """Reads and writes raise ConnectionError."""
    SLOW = "slow"
    """Reads take ``slow_s``."""
    BLIND = "blind"
    """The cameras show no new picture."""


class MirrorDriver:
    """Joints that go where they are told, as ``Driver``. ``fail`` and ``heal`` are for any thread."""

    def __init__(
        self,
        robot: Robot,
        *,
        lag_s: float = 0.03,
        now: Callable[[], float] = time.monotonic,
        slow_s: float = 0.05,
    ) -> None:
        """Stand in the default pose.

        Args:
            robot: The robot to mirror.
            lag_s: Time constant of a joint with stiffness; without, it stays where it is.
            now: The clock of the stamps, the loop's own ``clock.now_s``.
            slow_s: What a read takes under ``Failure.SLOW``.
        """
        self.robot = robot
        self.slow_s = slow_s
        self.connected = False
        self.sent: list[JointTarget] = []
        """The newest targets written, at most ``history``, oldest first."""
        self.history = 1000
        self._lag_s, self._now = lag_s, now
        self._pos = np.array(robot.default_pos)
        self._vel = np.zeros_like(self._pos)
        self._effort = np.zeros_like(self._pos)
        self._target: JointTarget | None = None
        self._updated_s = now()
        self._failures: frozenset[Failure] = frozenset()

    def fail(self, failure: Failure) -> None:
        """Fail from now on; several failures may hold at once."""
        self._failures |= {failure}

    def heal(self) -> None:
        """End all failures."""
        self._failures = frozenset()

    def place(self, pos: np.ndarray) -> None:
        """Put the joints at ``pos``, shape (J,), at rest."""
        self._pos, self._vel = np.array(pos, dtype=np.float64), np.zeros(len(self.robot.joints))

    def connect(self) -> None:
        """Open the link; raise ConnectionError under ``Failure.DISCONNECT``."""
        self._check_link()
        self.connected = True

    def read(self) -> RobotState:
        """Return the state now, under the failures in force; raise ConnectionError where the link is down."""
        failures = self._failures
        self._check_link()
        if Failure.SLOW in failures:
            time.sleep(self.slow_s)
        if Failure.STALE not in failures:
            self._advance()
        pos, vel = self._pos.copy(), self._vel.copy()
        if Failure.NAN in failures:
            pos[0] = np.nan
        if Failure.OVERSPEED in failures:
            vel[0] = 2.0 * self.robot.safety.vel_fraction * self.robot.vel[0]
        quat = np.array((0.0, 0.0, 0.0, 1.0))
        if Failure.TILT in failures:
            quat[:] = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))  # a quarter turn about x
        zeros, empty = np.zeros(3), np.zeros(0)
        gravity = np.array((0.0, 0.0, 9.81))
        return RobotState(self._updated_s, pos, vel, self._effort.copy(), quat, zeros, gravity, empty, empty)

    def write(self, target: JointTarget) -> JointTarget:
        """Follow ``target`` from now on and return it; raise ConnectionError where the link is down."""
        self._check_link()
        self._target = target
        self.sent.append(target)
        if len(self.sent) > self.history:
            del self.sent[: -self.history // 2]
        return target

    def close(self) -> None:
        """Close the link; the joints keep their place."""
        self.connected = False

    def _check_link(self) -> None:
        if Failure.DISCONNECT in self._failures:
            raise ConnectionError(f"mirror of {self.robot.name}: the link is down")

    def _advance(self) -> None:
        """Move the joints from the last update to now."""
        now_s = self._now()
        dt_s = now_s - self._updated_s
        self._updated_s = now_s
        if self._target is None or dt_s <= 0.0:
            return
        held = self._target.stiffness > 0.0
        share = 1.0 - np.exp(-dt_s / self._lag_s) if self._lag_s > 0 else 1.0
        moved = np.where(held, share * (self._target.pos - self._pos), 0.0)
        limit = np.array(self.robot.vel)
        self._vel = np.clip(moved / dt_s, -limit, limit)
        self._pos = self._pos + self._vel * dt_s
        self._effort = np.where(held, self._target.stiffness * (self._target.pos - self._pos), 0.0)
