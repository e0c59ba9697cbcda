"""Constraint terms: how far beyond a limit a step went; NumPy and torch alike.

Every factory returns a margin, an ``Outcome`` to (N, C): positive where violated, in the unit of its limit. Which
quantities and masks: CaT (Chane-Sane et al. 2024, arXiv:2403.18765), section IV and its released configurations.
A mask multiplies the margin after the limit is taken off, so that it can only switch a constraint off.

Joints are named by patterns, e.g. ``*_calf_joint``; one that fits no joint is an error that lists the joints.

Does not know: probabilities (``cat``), tasks, backends.

Shapes: N environments · C columns of a constraint · J joints · F feet.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from math import inf

from robot_rl.contract.arrays import Array, as_float, like, namespace
from robot_rl.contract.terms import projected_gravity
from robot_rl.sim.task import Outcome, OutcomeTerm
from robot_rl.sim.terms import Ground, height_above, moving

ALL = ("*",)


# -- joints --


def joint_position(limit: float, joints: tuple[str, ...] = ALL) -> OutcomeTerm:
    """Distance from the default position beyond ``limit`` [rad or m], (N, joints)."""

    def joint_position(o: Outcome) -> Array:
        columns = _columns(o, joints)
        q = o.after.joint_pos[..., columns]
        default = tuple(o.contract.action.offset[i] for i in columns)
        return abs(q - like(default, q)) - limit

    return joint_position


def joint_velocity(limit: float, joints: tuple[str, ...] = ALL) -> OutcomeTerm:
    """Speed beyond ``limit`` [rad/s or m/s], (N, joints)."""

    def joint_velocity(o: Outcome) -> Array:
        return abs(o.after.joint_vel[..., _columns(o, joints)]) - limit

    return joint_velocity


def joint_acceleration(limit: float, joints: tuple[str, ...] = ALL) -> OutcomeTerm:
    """Mean acceleration over the control period beyond ``limit`` [rad/s^2 or m/s^2], (N, joints)."""

    def joint_acceleration(o: Outcome) -> Array:
        columns = _columns(o, joints)
        return abs(o.after.joint_vel[..., columns] - o.before.joint_vel[..., columns]) / o.dt_s - limit

    return joint_acceleration


def joint_torque(limit: float, joints: tuple[str, ...] = ALL) -> OutcomeTerm:
    """Torque at the end of the step beyond ``limit`` [N m or N], (N, joints)."""

    def joint_torque(o: Outcome) -> Array:
        return abs(o.after.joint_effort[..., _columns(o, joints)]) - limit

    return joint_torque


def action_rate(limit: float) -> OutcomeTerm:
    """Change of the raw action per second beyond ``limit`` [1/s], (N, A)."""

    def action_rate(o: Outcome) -> Array:
        return abs(o.action - o.before.last_action) / o.dt_s - limit

    return action_rate


def no_move(limit: float, joints: tuple[str, ...] = ALL) -> OutcomeTerm:
    """Joint speed beyond ``limit`` [rad/s or m/s] while told to stand, (N, joints)."""

    def no_move(o: Outcome) -> Array:
        speed = abs(o.after.joint_vel[..., _columns(o, joints)])
        return (speed - limit) * as_float(~moving(o.after.command), speed)[..., None]

    return no_move


# -- base --


def base_orientation(limit: float) -> OutcomeTerm:
    """Sine of the tilt beyond ``limit``, (N, 1)."""

    def base_orientation(o: Outcome) -> Array:
        g = projected_gravity(o.after, o.contract)[..., :2]
        return namespace(g).sqrt((g * g).sum(-1))[..., None] - limit

    return base_orientation


def base_height(low: float, high: float, ground: Ground | None = None) -> OutcomeTerm:
    """Height of the base over the ground below ``low`` or above ``high`` [m], (N, 1)."""

    def base_height(o: Outcome) -> Array:
        z = height_above(o.after.base_pos_w, ground)[..., None]
        return namespace(z).maximum(low - z, z - high)

    return base_height


# -- feet --


def foot_force(limit: float, most: float = inf) -> OutcomeTerm:
    """Normal force on each foot at the end of the step beyond ``limit``, up to ``most`` [N], (N, F).

    A stiff impact peaks at many times the common force; without ``most`` that peak is the measure of every other
    violation, which then costs next to nothing.
    """

    def foot_force(o: Outcome) -> Array:
        force = _feet(o.foot_force, o, "foot_force")
        return namespace(force).clip(force - limit, None, most)

    return foot_force


def foot_air_time(limit: float) -> OutcomeTerm:
    """At each touchdown while told to move: how much shorter than ``limit`` the foot was in the air [s], (N, F)."""

    def foot_air_time(o: Outcome) -> Array:
        air = _feet(o.foot_air_s, o, "foot_air_time")
        landed = as_float((o.after.foot_contact > 0.5) & (air > 0.0), air)  # type: ignore[operator]
        return (limit - air) * landed * as_float(moving(o.after.command), air)[..., None]

    return foot_air_time


def feet_on_ground(count: int) -> OutcomeTerm:
    """How far the number of feet on the ground is from ``count`` while told to move, (N, 1)."""

    def feet_on_ground(o: Outcome) -> Array:
        touching = _feet(o.after.foot_contact, o, "feet_on_ground").sum(-1)
        return (abs(touching - count) * as_float(moving(o.after.command), touching))[..., None]

    return feet_on_ground


# -- names --


def _columns(o: Outcome, patterns: tuple[str, ...]) -> list[int]:
    return list(find_joints(o.contract.joints, patterns))


@lru_cache(maxsize=256)
def find_joints(joints: tuple[str, ...], patterns: tuple[str, ...]) -> tuple[int, ...]:
    """Return the indices of the joints that fit any pattern, in order.

    Raises:
        ValueError: A pattern fits no joint; the error lists the joints.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in joints):
            raise ValueError(f"constraint on joint {pattern!r}, which fits none of the robot's joints {list(joints)}")
    return tuple(i for i, name in enumerate(joints) if any(fnmatchcase(name, p) for p in patterns))


def _feet(values: Array | None, o: Outcome, name: str) -> Array:
    if values is None:
        raise ValueError(f"constraint {name!r} needs feet with touch sensors; robot {o.contract.robot!r} measures none")
    return values
