"""A task's objects in MuJoCo: bodies of the model, and their poses and the tool's in a batch on CPU.

A free object is a body with a free joint, a fixed one a mocap body, which stays where it is put. MuJoCo's quaternions
are wxyz; they are turned to xyzw here.

Knows: MuJoCo's model specification, ``mujoco.batch``. Does not know: tasks, robots' joints.

Shapes: N environments · n the copies named by ``ids`` · O objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mujoco
import numpy as np

from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.objects import Object, yaw_quat

PREFIX = "object/"
"""Begins the names of the objects' bodies."""
TOOL = "tool"
"""Body of a robot's MJCF whose pose is the tool's."""
KINDS = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
}
XYZW, WXYZ = [1, 2, 3, 0], [3, 0, 1, 2]


def add_objects(spec: Any, robot: Robot, objects: Mapping[str, Object]) -> None:
    """Put the objects into the specification of a robot's model; everything is said, whatever its MJCF's defaults.

    Raises:
        ValueError: The robot's base floats.
    """
    if objects and robot.floating_base:
        raise ValueError(
            f"robot {robot.name!r} has a floating base; objects {sorted(objects)} need a fixed one, which stands at "
            "the world's origin"
        )
    for name, thing in objects.items():
        free, volume = thing.mass_kg > 0.0, sum(shape.volume for shape in thing.shapes)
        quat = yaw_quat(np.array(thing.yaw))[WXYZ].tolist()
        body = spec.worldbody.add_body(name=PREFIX + name, pos=list(thing.pos), quat=quat, mocap=not free)
        if free:
            body.add_freejoint()
        for shape in thing.shapes:
            body.add_geom(
                type=KINDS[shape.kind],
                size=[*shape.size, 0.0, 0.0][:3],
                pos=list(shape.pos),
                rgba=[*shape.rgb, 1.0],
                mass=thing.mass_kg * shape.volume / volume,
                contype=1,
                conaffinity=1,
                condim=4,
                friction=[thing.friction, 0.005, 0.0001],
                group=0,
            )


class Workspace:
    """The tool and the objects of N copies in a batch; both may be missing."""

    def __init__(self, model: mujoco.MjModel, batch: Any, robot: Robot, names: Iterable[str]) -> None:
        """Find them by name."""
        bodies = {model.body(i).name: i for i in range(model.nbody)}
        self.names = tuple(names)
        self._tool = None if robot.floating_base else bodies.get(TOOL)
        self.stage = int(mujoco.mjtStage.mjSTAGE_NONE if self._tool is None else mujoco.mjtStage.mjSTAGE_POS)
        """What has to be computed after the last substep, so that poses are not one substep old."""
        if self._tool is not None:
            self._xpos, self._xquat = batch.bind("xpos"), batch.bind("xquat")
        self._places = [_place(model, bodies[PREFIX + name]) for name in self.names]
        self._batch = batch

    def measure(self, state: RobotState) -> None:
        """Fill in the poses of tool and objects, fresh arrays."""
        if self._tool is not None:
            state.tool_pos_b = self._xpos[:, self._tool].copy()
            state.tool_quat_xyzw = self._xquat[:, self._tool][:, XYZW]
        if self._places:
            poses = [self._batch.bind(pos)[:, at] for pos, _, at in self._places]
            turns = [self._batch.bind(quat)[:, at_quat] for _, quat, at_quat in map(_quat_of, self._places)]
            state.object_pos_b = np.stack(poses, 1)  # (N, O, 3)
            state.object_quat_xyzw = np.stack(turns, 1)[..., XYZW]

    def place(self, ids: np.ndarray, name: str, value: np.ndarray) -> bool:
        """Put the objects of copies ``ids`` somewhere; False where ``name`` is no state of theirs.

        Args:
            ids: (n,).
            name: ``object_pos`` with value (n, O, 3), or ``object_quat_xyzw`` with (n, O, 4).
            value: In the base frame.
        """
        if name not in ("object_pos", "object_quat_xyzw"):
            return False
        for i, place in enumerate(self._places):
            if name == "object_pos":
                field, _, at = place
                self._batch.bind(field)[_at(ids, at)] = value[:, i]
            else:
                _, field, at = _quat_of(place)
                self._batch.bind(field)[_at(ids, at)] = value[:, i][:, WXYZ]
        return True


_Place = tuple[str, str, Any]
"""Field of the position, field of the orientation, where in the row of the first."""


def _place(model: mujoco.MjModel, body: int) -> _Place:
    mocap = int(model.body_mocapid[body])
    if mocap >= 0:
        return "mocap_pos", "mocap_quat", mocap
    start = int(model.jnt_qposadr[model.body_jntadr[body]])
    return "qpos", "qpos", slice(start, start + 3)


def _quat_of(place: _Place) -> _Place:
    pos, quat, at = place
    return pos, quat, slice(at.stop, at.stop + 4) if isinstance(at, slice) else at


def _at(ids: np.ndarray, at: Any) -> Any:
    return (ids, at)
