"""Lifts the cube of ``panda_lift`` from what the state shows, without memory: above it, down, close, up.

Without memory it can take over from any state, as a person would who corrects a policy.
"""

from __future__ import annotations

import numpy as np

from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.expert import Goal, down, object_yaw, quarter

CLOSED_M = 0.0225
"""Fingers further in than this are on the cube, whose half width is 2 cm [m]."""
ABOVE_M, UP_M = 0.08, 0.25


def goal(robot: Robot, state: RobotState) -> Goal:
    """Say where the tool should go from one state, and whether the fingers should be closed."""
    assert state.object_pos_b is not None and state.object_quat_xyzw is not None and state.tool_pos_b is not None
    cube, tool = state.object_pos_b[0], state.tool_pos_b
    turn = down(quarter(object_yaw(state.object_quat_xyzw[0])))
    away = cube - tool
    aside, below = float(np.hypot(away[0], away[1])), float(-away[2])
    finger = float(state.joint_pos[robot.index("panda_finger_joint1")])
    if aside < 0.02 and abs(below) < 0.015:  # the cube is between the fingers
        if finger < CLOSED_M:
            return Goal(np.array((tool[0], tool[1], UP_M)), turn, closed=True)
        return Goal(cube, turn, closed=True)
    if aside < 0.012 and finger > CLOSED_M + 0.008:
        return Goal(cube, turn, closed=False)
    return Goal(cube + np.array((0.0, 0.0, ABOVE_M)), turn, closed=False)
