"""Where a robot's tool is and how its joints move it: forward kinematics and damped least squares on the robot's MJCF.

One Newton step of the inverse per call, dq = J^T (J J^T + damping^2 I)^-1 e (Wampler 1986; Nakamura and Hanafusa 1986),
which is small near singular poses, where the plain inverse explodes.

Knows: a robot of fixed base with a body called ``tool``. Does not know: tasks, physics backends.

Shapes: J joints (robot order) · A joints that carry the tool.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from robot_rl.hardware.robot import Robot
from robot_rl.sim.object_model import TOOL, XYZW


class Pose(NamedTuple):
    """Of the tool in the base frame."""

    pos: np.ndarray
    """[m], (3,)."""
    quat_xyzw: np.ndarray
    """(4,)."""


class Kinematics:
    """A robot's tool as a function of its joints."""

    def __init__(self, robot: Robot) -> None:
        """Compile the robot's MJCF alone.

        Raises:
            ValueError: Its base floats, or no body is called ``tool``.
        """
        self._model = mujoco.MjModel.from_xml_path(str(robot.mjcf))
        names = [self._model.body(i).name for i in range(self._model.nbody)]
        if robot.floating_base or TOOL not in names:
            raise ValueError(f"robot {robot.name!r} needs a fixed base and a body {TOOL!r}; its bodies are {names}")
        self._data = mujoco.MjData(self._model)
        self._tool = names.index(TOOL)
        joints = [self._model.joint(name) for name in robot.joints]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        self.carrying = self._find_carrying()
        """Joints between base and tool, indices in the robot's order, (A,)."""

    def pose(self, joint_pos: np.ndarray) -> Pose:
        """Return where the tool is for joint positions (J,)."""
        self._data.qpos[self._qpos] = joint_pos
        mujoco.mj_kinematics(self._model, self._data)
        return Pose(self._data.xpos[self._tool].copy(), self._data.xquat[self._tool][XYZW])

    def jacobian(self, joint_pos: np.ndarray) -> np.ndarray:
        """Return d(position, rotation vector) of the tool per joint that carries it, in the base frame, (6, A)."""
        self.pose(joint_pos)
        mujoco.mj_comPos(self._model, self._data)
        linear, angular = np.zeros((2, 3, self._model.nv))
        mujoco.mj_jacBody(self._model, self._data, linear, angular, self._tool)
        return np.concatenate((linear, angular))[:, self._dofs[self.carrying]]

    def step(self, joint_pos: np.ndarray, goal: Pose, *, damping: float = 0.03) -> np.ndarray:
        """Return how the carrying joints should move to bring the tool nearer to ``goal``, (A,) [rad or m]."""
        jacobian, now = self.jacobian(joint_pos), self.pose(joint_pos)
        error = np.concatenate((goal.pos - now.pos, rotation_between(now.quat_xyzw, goal.quat_xyzw)))
        return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping**2 * np.eye(6), error)

    def solve(self, start: np.ndarray, goal: Pose, *, steps: int = 200, most: float = 0.1) -> np.ndarray:
        """Return joint positions (J,) whose tool is at ``goal``, from ``start`` on.

        Raises:
            ValueError: It is still 1 mm or 0.01 rad off after ``steps`` steps of at most ``most`` per joint.
        """
        q = np.array(start, dtype=float)
        for _ in range(steps):
            q[self.carrying] += np.clip(self.step(q, goal), -most, most)
        end = self.pose(q)
        off = np.linalg.norm(goal.pos - end.pos), np.linalg.norm(rotation_between(end.quat_xyzw, goal.quat_xyzw))
        if off[0] > 1e-3 or off[1] > 0.01:
            raise ValueError(f"no joint positions reach {goal}: {off[0]:.4f} m and {off[1]:.4f} rad are left")
        return q

    def _find_carrying(self) -> np.ndarray:
        model, chain, body = self._model, set(), self._tool
        while body:
            chain |= set(range(model.body_dofadr[body], model.body_dofadr[body] + model.body_dofnum[body]))
            body = int(model.body_parentid[body])
        return np.array([i for i, dof in enumerate(self._dofs) if dof in chain])


def rotation_between(quat_xyzw: np.ndarray, goal_xyzw: np.ndarray) -> np.ndarray:
    """Return the rotation vector that turns the first orientation into the second, in their frame, (3,) [rad]."""
    x, y, z, w = -quat_xyzw[0], -quat_xyzw[1], -quat_xyzw[2], quat_xyzw[3]
    a, b, c, d = goal_xyzw
    turn = np.array((d * x + a * w + b * z - c * y, d * y - a * z + b * w + c * x, d * z + a * y - b * x + c * w))
    cosine = d * w - a * x - b * y - c * z
    sine = float(np.linalg.norm(turn))
    if sine < 1e-12:
        return np.zeros(3)
    angle = 2.0 * np.arctan2(sine, cosine)
    return turn / sine * (angle if angle <= np.pi else angle - 2.0 * np.pi)
