"""Observation terms that a robot can measure, by the field's standard names.

Every term maps ``(RobotState, Contract)`` to an array (..., k), NumPy or torch alike, so that one robot and 4096
environments run the same line. The state's joints are in the contract's order here (``apply`` permutes).
Privileged terms (friction, true velocity …) live in ``robot_rl/sim/terms.py`` and cannot enter a contract.

Does not know: clip, scale, history, noise (``apply``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot_rl.contract.arrays import Array, like, namespace, stack_last
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState

Term = Callable[[RobotState, Contract], Array]


def base_ang_vel(state: RobotState, contract: Contract) -> Array:
    """Angular velocity in the body frame [rad/s], (..., 3)."""
    return state.ang_vel_b


def projected_gravity(state: RobotState, contract: Contract) -> Array:
    """Unit vector of gravity in the body frame, R(q)^T (0, 0, -1), (..., 3); (0, 0, -1) when upright."""
    q = state.quat_xyzw
    if type(q) is np.ndarray and q.ndim == 1:  # one robot: numbers are ten times faster than arrays of one element
        x, y, z, w = q.tolist()
        return np.array((2.0 * (w * y - x * z), -2.0 * (y * z + w * x), 2.0 * (x * x + y * y) - 1.0), dtype=q.dtype)
    return stack_last(gravity_parts(q))


def gravity_parts(quat_xyzw: Array) -> tuple[Array, Array, Array]:
    """Return the columns of ``projected_gravity`` of a batch of orientations, (..., 4), each (...)."""
    x, y, z, w = (quat_xyzw[..., i] for i in range(4))
    return 2.0 * (w * y - x * z), -2.0 * (y * z + w * x), 2.0 * (x * x + y * y) - 1.0


def velocity_commands(state: RobotState, contract: Contract) -> Array:
    """The command in force, (..., K)."""
    return state.command


def joint_pos_rel(state: RobotState, contract: Contract) -> Array:
    """Joint positions less the default positions (0 for passive joints) [rad or m], (..., J)."""
    return state.joint_pos - like(contract.action.offset + (0.0,) * len(contract.passive), state.joint_pos)


def joint_pos(state: RobotState, contract: Contract) -> Array:
    """Joint positions [rad or m], (..., J)."""
    return state.joint_pos


def joint_vel_rel(state: RobotState, contract: Contract) -> Array:
    """Joint velocities (the default velocity is zero) [rad/s or m/s], (..., J)."""
    return state.joint_vel


def joint_effort(state: RobotState, contract: Contract) -> Array:
    """Measured joint torques [N m or N], (..., J)."""
    return state.joint_effort


def last_action(state: RobotState, contract: Contract) -> Array:
    """Raw action of the step before, in front of scale and offset, (..., A)."""
    return state.last_action


def base_lin_vel(state: RobotState, contract: Contract) -> Array:
    """Linear velocity in the body frame [m/s], (..., 3); only robots with an estimator measure it."""
    if state.lin_vel_b is None:
        raise ValueError("observation term 'base_lin_vel' needs a robot that measures lin_vel_b; this one does not")
    return state.lin_vel_b


def base_lin_acc(state: RobotState, contract: Contract) -> Array:
    """Specific force in the body frame [m/s^2], (..., 3)."""
    return state.lin_acc_b


def foot_contact(state: RobotState, contract: Contract) -> Array:
    """Foot contacts, 0 or 1, (..., F); only robots with foot sensors measure them."""
    if state.foot_contact is None:
        raise ValueError("observation term 'foot_contact' needs a robot that measures it; this one does not")
    return state.foot_contact


def joint_sin_cos(state: RobotState, contract: Contract) -> Array:
    """Sines, then cosines of the joint positions, (..., 2J); for joints that turn without limit."""
    xp = namespace(state.joint_pos)
    return xp.concat((xp.sin(state.joint_pos), xp.cos(state.joint_pos)), -1)


def command(state: RobotState, contract: Contract) -> Array:
    """The command in force where it is no velocity, e.g. a goal [m], (..., K)."""
    return state.command


def tool_pos(state: RobotState, contract: Contract) -> Array:
    """Position of the tool in the base frame [m], (..., 3)."""
    if state.tool_pos_b is None:
        raise ValueError("observation term 'tool_pos' needs a robot that measures tool_pos_b; this one does not")
    return state.tool_pos_b


def tool_axes(state: RobotState, contract: Contract) -> Array:
    """The tool's x and y axes in the base frame, (..., 6): continuous in every rotation (Zhou et al. 2019)."""
    if state.tool_quat_xyzw is None:
        raise ValueError("observation term 'tool_axes' needs a robot that measures tool_quat_xyzw; this one does not")
    return _axes(state.tool_quat_xyzw)


def object_pos(state: RobotState, contract: Contract) -> Array:
    """Positions of the task's objects in the base frame, one after the other [m], (..., 3 O)."""
    return _flat(_seen(state.object_pos_b, "object_pos"))


def object_axes(state: RobotState, contract: Contract) -> Array:
    """X and y axes of the task's objects in the base frame, one object after the other, (..., 6 O)."""
    return _flat(_axes(_seen(state.object_quat_xyzw, "object_axes")))


def tool_to_object(state: RobotState, contract: Contract) -> Array:
    """From the tool to each object, in the base frame [m], (..., 3 O)."""
    seen = _seen(state.object_pos_b, "tool_to_object")
    if state.tool_pos_b is None:
        raise ValueError("observation term 'tool_to_object' needs a robot that measures tool_pos_b; this one does not")
    return _flat(seen - state.tool_pos_b[..., None, :])


def _seen(poses: Array | None, term: str) -> Array:
    if poses is None:
        raise ValueError(f"observation term {term!r} needs someone who sees the objects; nothing fills object_pos_b")
    return poses


def _flat(x: Array) -> Array:
    """Join the last two axes."""
    return x.reshape(*x.shape[:-2], -1)


def _axes(quat_xyzw: Array) -> Array:
    """First two columns of the rotation, (..., 6)."""
    x, y, z, w = (quat_xyzw[..., i] for i in range(4))
    return stack_last(
        (
            1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
            2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
        )
    )  # fmt: skip


TERMS: dict[str, Term] = {
    term.__name__: term
    for term in (
        base_ang_vel,
        base_lin_acc,
        base_lin_vel,
        command,
        foot_contact,
        joint_effort,
        joint_pos,
        joint_pos_rel,
        joint_sin_cos,
        joint_vel_rel,
        last_action,
        object_axes,
        object_pos,
        projected_gravity,
        tool_axes,
        tool_pos,
        tool_to_object,
        velocity_commands,
    )
}
"""Every term by its name; the whole vocabulary of a contract."""


def find_term(name: str) -> Term:
    """Return the term called ``name``; raise ValueError with the choices for an unknown one."""
    if name not in TERMS:
        raise ValueError(f"no observation term {name!r}; the choices are {sorted(TERMS)}")
    return TERMS[name]
