"""What the runtime needs of a robot's driver, and a mirror driver that can fail on cue.

Knows: one state in, one target out.
Does not know: policies, modes, the shield.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot


class Driver(Protocol):
    """One robot. Called from the control thread only; neither ``read`` nor ``write`` may block for long."""

    robot: Robot

    def connect(self) -> None:
        """Open the link and check that the live robot is the one described; raise ConnectionError otherwise."""
        ...

    def read(self) -> RobotState:
        """Return the newest state, every array one-dimensional, joints in the robot's order.

        ``stamp_s`` is ``time.monotonic()`` of the measurement. ``command`` and ``last_action`` are empty:
        the loop fills them. A stale stamp is the sign of a lost link; this method does not raise for it.
        """
        ...

    def write(self, target: JointTarget) -> JointTarget:
        """Send a target and return what was really sent, after the driver's own clipping."""
        ...

    def close(self) -> None:
        """Leave the joints damped and close the link."""
        ...


def empty_target(robot: Robot) -> JointTarget:
    """Return a target of zeros, shape (J,) each: no stiffness, no damping, no torque."""
    zeros = [np.zeros(len(robot.joints)) for _ in range(5)]
    return JointTarget(*zeros)


def damp_target(robot: Robot) -> JointTarget:
    """Return the DAMP target: zero stiffness, the robot's safe damping, shape (J,) each."""
    target = empty_target(robot)
    target.damping[:] = robot.safety.damp
    return target
