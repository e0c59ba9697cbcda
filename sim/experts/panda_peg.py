"""Puts the peg of ``panda_peg`` into its hole from what the state shows, without memory: over the hole, then down."""

from __future__ import annotations

import numpy as np

from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.expert import Goal, down

OVER_M = 0.115
"""Height of the peg's centre over the table while it travels; its lower end is 1.5 cm above the hole's rim."""
NEAR_M, DOWN_M, INSIDE_M = 0.004, 0.006, 0.03
"""Nearer to the axis than the first the peg goes down, by up to the second a step, by the third in the hole: joints
differ in speed, so that long ways are not straight [m]."""
WALL_M = 0.05


def goal(robot: Robot, state: RobotState) -> Goal:
    """Say where the tool should go from one state; the fingers stay closed."""
    assert state.object_pos_b is not None and state.tool_pos_b is not None
    (peg, hole), tool = state.object_pos_b, state.tool_pos_b
    aside = hole[:2] - peg[:2]
    share = max(0.0, 1.0 - float(np.hypot(*aside)) / NEAR_M)
    if peg[2] < WALL_M + 0.05 - 0.004:
        down_m = INSIDE_M
    elif share > 0.0 and peg[2] < OVER_M + 0.005:
        down_m = DOWN_M * share
    else:
        down_m = peg[2] - OVER_M
    return Goal(np.array((*(tool[:2] + aside), tool[2] - down_m)), down(0.0), closed=True)
