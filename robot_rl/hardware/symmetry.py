"""Left and right exchanged: what observations and actions become when a robot and its world are seen in a mirror.

The plane is the robot's sagittal one, y to -y: vectors turn their y, angular velocities their x and z, joints go where
``robot.symmetry`` says.

Knows: robots, contracts, the standard terms by name.
Does not know: learners, how terms are computed.

Shapes: ... batch · D observation · A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_rl.contract.arrays import Array
from robot_rl.contract.spec import ActionLaw, Contract, ObsTerm
from robot_rl.hardware.robot import Robot, Symmetry

COMMANDS = {"lin_vel_x": 1.0, "lin_vel_y": -1.0, "ang_vel_z": -1.0, "heading": -1.0, "height": 1.0}
"""Signs of commands in the mirror, by the names that a contract gives them."""


@dataclass(frozen=True, slots=True)
class Reflection:
    """A permutation with signs: element i becomes ``sign[i] * x[index[i]]``."""

    index: tuple[int, ...]
    sign: tuple[float, ...]

    def __call__(self, x: Array) -> Array:
        """Return ``x``, shape (..., D), as a mirror shows it; NumPy."""
        return x[..., list(self.index)] * np.asarray(self.sign, dtype=x.dtype)


@dataclass(frozen=True, slots=True)
class Reflections:
    """How each observation group and the action are mirrored."""

    obs: dict[str, Reflection]
    """Groups ``policy`` and, where the task has privileged terms, ``critic``."""
    action: Reflection
    """Of raw actions."""


def make_reflections(
    robot: Robot, contract: Contract, privileged: Sequence[str] = (), own: Mapping[str, Reflection] | None = None
) -> Reflections:
    """Build the reflections of a contract on its robot.

    Args:
        robot: The body; it must declare its symmetry.
        contract: What the policy sees and does.
        privileged: Names of the terms that the critic sees behind the policy's, one frame each, unscaled.
        own: Reflections of privileged terms that are the task's own, by name.

    Raises:
        ValueError: The robot declares no symmetry, a term or command has no known mirror image, or scales or clips
            differ between a joint and its image.
    """
    if robot.symmetry is None:
        raise ValueError(
            f"robot {robot.name!r} declares no symmetry; write [symmetry] into its robot.toml, or learn without"
        )
    frames = _frames(robot, robot.symmetry, contract)
    policy = _joined([_with_history(term, _find(frames, term.name)) for term in contract.obs])
    action = _of_joints(robot, robot.symmetry, contract.joints)
    _check_scales(contract.action, action)
    if min(action.sign) < 0.0 and contract.action.clip[0] != -contract.action.clip[1]:
        raise ValueError(f"action.clip is {contract.action.clip}; actions that turn their sign need equal bounds")
    groups = {"policy": policy}
    if privileged:
        known = {**frames, **(own or {})}
        groups["critic"] = _joined([policy, *(_find(known, name) for name in privileged)])
    return Reflections(groups, action)


def _frames(robot: Robot, symmetry: Symmetry, contract: Contract) -> dict[str, Reflection]:
    """Return the reflection of one raw frame of every standard term that has one."""
    vector, axial = Reflection((0, 1, 2), (1.0, -1.0, 1.0)), Reflection((0, 1, 2), (-1.0, 1.0, -1.0))
    joints = _of_joints(robot, symmetry, contract.joints + contract.passive)
    cosines = Reflection(joints.index, (1.0,) * len(joints.index))
    feet = tuple(robot.feet.index(name) for name in symmetry.feet)
    return {
        "base_ang_vel": axial,
        "base_height": Reflection((0,), (1.0,)),
        "base_lin_acc": vector,
        "base_lin_vel": vector,
        "foot_contact": Reflection(feet, (1.0,) * len(feet)),
        "joint_effort": joints,
        "joint_pos": joints,
        "joint_pos_rel": joints,
        "joint_sin_cos": _joined([joints, cosines]),
        "joint_vel_rel": joints,
        "last_action": _of_joints(robot, symmetry, contract.joints),
        "projected_gravity": vector,
        "velocity_commands": _of_command(contract),
    }


def _find(frames: dict[str, Reflection], name: str) -> Reflection:
    if name not in frames:
        raise ValueError(f"term {name!r} has no known mirror image; those that have are {sorted(frames)}")
    return frames[name]


def _of_joints(robot: Robot, symmetry: Symmetry, names: Sequence[str]) -> Reflection:
    """Return the reflection of one number per joint, in the order of ``names``."""
    where = {name: i for i, name in enumerate(names)}
    rows = [robot.index(name) for name in names]
    images = [symmetry.index[i] for i in rows]
    strangers = sorted(set(images) - set(names))
    if strangers:
        raise ValueError(f"the mirror moves joints to {strangers}, which are not among {list(names)}")
    return Reflection(tuple(where[name] for name in images), tuple(symmetry.sign[i] for i in rows))


def _of_command(contract: Contract) -> Reflection:
    names = contract.command.names
    unknown = sorted(set(names) - set(COMMANDS))
    if unknown:
        raise ValueError(f"commands {unknown} have no known mirror image; those that have are {sorted(COMMANDS)}")
    return Reflection(tuple(range(len(names))), tuple(COMMANDS[name] for name in names))


def _with_history(term: ObsTerm, frame: Reflection) -> Reflection:
    """Return the reflection of a whole observation term: scaled, clipped, every frame of its history."""
    if len(frame.index) != term.size:
        raise ValueError(f"term {term.name!r} is {term.size} wide; its mirror image is {len(frame.index)} wide")
    _check_same(f"scale of obs term {term.name!r}", term.scale, frame)
    if term.clip is not None and min(frame.sign) < 0.0 and term.clip[0] != -term.clip[1]:
        raise ValueError(f"clip of obs term {term.name!r} is {term.clip}; terms that turn their sign need equal bounds")
    return _joined([frame] * term.history)


def _joined(parts: Sequence[Reflection]) -> Reflection:
    index: list[int] = []
    for part in parts:
        start = len(index)
        index += [start + i for i in part.index]
    return Reflection(tuple(index), tuple(s for part in parts for s in part.sign))


def _check_scales(law: ActionLaw, action: Reflection) -> None:
    if law.scale_below is None:
        _check_same("action.scale", law.scale, action)
        return
    for i, (j, sign) in enumerate(zip(action.index, action.sign, strict=True)):
        mine, image = (law.scale[i], law.scale_below[i]), (law.scale[j], law.scale_below[j])
        if not np.allclose(mine, image if sign > 0.0 else image[::-1], rtol=1e-12, atol=0.0):
            raise ValueError(f"action.scale and scale_below are {mine} at {i}; its mirror image {j} has {image}")


def _check_same(what: str, values: Sequence[float], reflection: Reflection) -> None:
    for i, j in enumerate(reflection.index):
        if values[i] != values[j]:
            raise ValueError(f"{what} is {values[i]} at {i} and {values[j]} at {j}, its mirror image; both must agree")
