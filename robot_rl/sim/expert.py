"""Scripted experts: a task's script says where the tool should go, damped least squares says how the joints get there.

A script is a file of ``sim/experts`` with a function ``goal(robot, state) -> Goal`` of one robot's state, which has no
memory: an expert can say at any state what it would do there, for demonstrations, for labels, for taking over.

Knows: the tool's kinematics, an action law relative to the measured joints. Does not know: tasks, learners.

Shapes: N environments · A action · J joints (robot order).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from robot_rl import zoo
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.contract.vectors import split
from robot_rl.hardware.robot import Robot
from robot_rl.sim.kinematics import Kinematics, Pose

FOLLOW = 1.2
"""How much further a target goes than the joint shall: in a tenth of a second a joint goes two thirds of the way."""


class Goal(NamedTuple):
    """What a script wants next."""

    pos: np.ndarray
    """Of the tool in the base frame [m], (3,)."""
    quat_xyzw: np.ndarray
    """Of the tool in the base frame, (4,)."""
    closed: bool
    """Whether the gripper should close, or be open."""


Script = Callable[[Robot, RobotState], Goal]


class Expert:
    """Acts in a batch of environments: states in, raw actions out."""

    def __init__(self, script: Script, contract: Contract, robot: Robot) -> None:
        """Prepare for ``contract``.

        Raises:
            ValueError: Its action law is not relative to the measured joints, or the robot has no tool.
        """
        if contract.action.kind != "joint_position_relative":
            raise ValueError(
                f"a scripted expert acts by 'joint_position_relative'; the contract says {contract.action.kind!r}"
            )
        self._script, self._robot, self._kinematics = script, robot, Kinematics(robot)
        scale = dict(zip(contract.joints, contract.action.scale, strict=True))
        carrying = [robot.joints[i] for i in self._kinematics.carrying]
        self._arm = [contract.joints.index(name) for name in carrying]
        self._scale = np.array([scale[name] for name in carrying])
        self._gripper = [i for i, name in enumerate(contract.joints) if name not in carrying]
        self._width = contract.num_actions

    def __call__(self, state: RobotState) -> np.ndarray:
        """Return the actions in a batch of states, (N, A), in [-1, 1]."""
        return np.stack([self._act(one) for one in split(state)])

    def _act(self, state: RobotState) -> np.ndarray:
        goal = self._script(self._robot, state)
        move = FOLLOW * self._kinematics.step(state.joint_pos, Pose(goal.pos, goal.quat_xyzw)) / self._scale
        action = np.zeros(self._width)
        action[self._arm] = move / max(1.0, float(np.abs(move).max()))  # slower, but in the same direction
        action[self._gripper] = -1.0 if goal.closed else 1.0
        return action


def load_expert(name: str, contract: Contract, robot: Robot) -> Expert:
    """Return the expert of the file ``sim/experts/<name>.py``; an unknown name lists those that exist."""
    return Expert(zoo.load("sim", f"experts/{name}").goal, contract, robot)


def down(yaw: float) -> np.ndarray:
    """Return the orientation xyzw of a tool that points down and is turned by ``yaw`` about the vertical, (4,)."""
    return np.array((np.cos(0.5 * yaw), np.sin(0.5 * yaw), 0.0, 0.0))


def object_yaw(quat_xyzw: np.ndarray) -> float:
    """Return the turn of an upright object about the vertical [rad]."""
    x, y, z, w = quat_xyzw
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def quarter(angle: float) -> float:
    """Return the angle in [-pi/4, pi/4) at which a square looks the same [rad]."""
    return (angle + 0.25 * np.pi) % (0.5 * np.pi) - 0.25 * np.pi
