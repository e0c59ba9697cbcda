"""Standing up: a smooth path from any pose to the default pose, and the targets of a robot nobody drives.

Knows: a robot's default pose and gains. Does not know: modes, time beyond what it is told.

Shapes: J joints.
"""

from __future__ import annotations

import math

import numpy as np

from robot_rl.contract.state import JointTarget
from robot_rl.hardware.robot import Robot


class Stand:
    """The path of one robot; ``begin`` sets its start."""

    def __init__(self, robot: Robot) -> None:
        """Prepare for ``robot``."""
        self._goal = np.array(robot.default_pos)
        self._start = self._goal
        self._zeros = np.zeros(len(robot.joints))
        self._stiffness, self._damping = np.array(robot.stiffness), np.array(robot.damping)
        self._duration_s = robot.safety.stand_s
        self._begun_s = -math.inf

    def begin(self, pos: np.ndarray, now_s: float) -> None:
        """Start from positions ``pos``, shape (J,), now."""
        self._start = pos.copy()
        self._begun_s = now_s

    def finished(self, now_s: float) -> bool:
        """Whether the path has reached the default pose."""
        return now_s - self._begun_s >= self._duration_s

    def target(self, now_s: float) -> JointTarget:
        """Return the target at ``now_s``: half a cosine from start to default pose, the robot's own gains."""
        share = min(1.0, max(0.0, (now_s - self._begun_s) / self._duration_s)) if self._duration_s > 0 else 1.0
        eased = (1.0 - math.cos(math.pi * share)) / 2
        pos = self._start + eased * (self._goal - self._start)
        return JointTarget(pos, self._zeros, self._zeros, self._stiffness, self._damping)
