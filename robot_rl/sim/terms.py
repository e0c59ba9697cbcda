"""Reward, termination and privileged terms, by the field's standard names; NumPy and torch alike.

Every reward or termination maps an ``Outcome`` to (N,); every privileged term maps a state to (N, k).

Does not know: weights, tasks, backends.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos

from robot_rl.contract.arrays import Array, as_float, like, namespace
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.contract.terms import gravity_parts
from robot_rl.sim.task import Outcome, OutcomeTerm

Ground = Callable[[Array], Array]
"""Maps points (..., 2) [m] to the height of the ground there, (...); ``terrain.Relief`` has two such methods."""
MOVING = 0.1
"""Commands shorter than this ask to stand still [m/s, rad/s]."""


# -- tracking --


def track_lin_vel_xy(sigma: float) -> OutcomeTerm:
    """exp(-|v_xy* - v_xy|^2 / sigma^2), 1 at best (legged_gym's tracking term)."""

    def track_lin_vel_xy(o: Outcome) -> Array:
        error = o.after.command[..., :2] - o.after.lin_vel_b[..., :2]  # type: ignore[index]  # floating base measured
        return namespace(error).exp(-_square_xy(error) / sigma**2)

    return track_lin_vel_xy


def track_ang_vel_z(sigma: float) -> OutcomeTerm:
    """exp(-(w_z* - w_z)^2 / sigma^2), 1 at best."""

    def track_ang_vel_z(o: Outcome) -> Array:
        error = o.after.command[..., 2] - o.after.ang_vel_b[..., 2]
        return namespace(error).exp(-(error * error) / sigma**2)

    return track_ang_vel_z


def progress(o: Outcome) -> Array:
    """Velocity along the commanded direction, at most the commanded speed [m/s]; 0 when told to stand.

    Unlike the tracking term it has a slope far from the command too (the forward reward of RMA, Kumar et al. 2021).
    """
    command, v = o.after.command, o.after.lin_vel_b
    xp = namespace(command)
    speed = xp.sqrt(_square_xy(command) + 1e-12)
    along = (v[..., 0] * command[..., 0] + v[..., 1] * command[..., 1]) / speed  # type: ignore[index]  # floating base
    return xp.minimum(along, speed)


# -- penalties, all >= 0: give them negative weights --


def lin_vel_z(o: Outcome) -> Array:
    """Squared vertical velocity of the base [m^2/s^2]."""
    v = o.after.lin_vel_b[..., 2]  # type: ignore[index]  # floating base measured
    return v * v


def ang_vel_xy(o: Outcome) -> Array:
    """Squared roll and pitch rates [rad^2/s^2]."""
    return _square_xy(o.after.ang_vel_b)


def flat_orientation(o: Outcome) -> Array:
    """Squared horizontal part of gravity in the body frame, sin^2 of the tilt."""
    x, y, _ = gravity_parts(o.after.quat_xyzw)
    return x * x + y * y


def joint_torques(o: Outcome) -> Array:
    """Sum of squared torques [N^2 m^2]."""
    return _square(o.after.joint_effort)


def joint_power(o: Outcome) -> Array:
    """Sum of |torque * velocity| [W]."""
    return abs(o.after.joint_effort * o.after.joint_vel).sum(-1)


def joint_acc(o: Outcome) -> Array:
    """Sum of squared joint accelerations over the control period [rad^2/s^4]."""
    return _square((o.after.joint_vel - o.before.joint_vel) / o.dt_s)


def action_rate(o: Outcome) -> Array:
    """Squared change of the raw action."""
    return _square(o.action - o.before.last_action)


def joint_deviation(joints: tuple[int, ...], standing_only: bool = False) -> OutcomeTerm:
    """Sum of |q - q_default| over ``joints`` (indices in contract order), optionally only when told to stand."""
    columns = _as_slice(joints)

    def joint_deviation(o: Outcome) -> Array:
        q = o.after.joint_pos[..., columns]
        deviation = abs(q - like(tuple(o.contract.action.offset[j] for j in joints), q)).sum(-1)
        return deviation * as_float(~moving(o.after.command), q) if standing_only else deviation

    return joint_deviation


def joint_limits(o: Outcome) -> Array:
    """How far joints are beyond 95 % of their range [rad]."""
    q, limits = o.after.joint_pos, o.contract.limits
    xp = namespace(q)
    low, high = like(limits.pos_low, q), like(limits.pos_high, q)
    margin = 0.025 * (high - low)
    beyond = xp.maximum(low + margin - q, q - high + margin)  # never beyond both
    return xp.clip(beyond, 0.0, None).sum(-1)


# -- feet --


def feet_air_time(threshold_s: float) -> OutcomeTerm:
    """At each touchdown while told to move: how much longer than ``threshold_s`` the foot was in the air, up to 0.5 s.

    Never negative: where short steps cost, a beginner learns to stand.
    """

    def feet_air_time(o: Outcome) -> Array:
        first = (o.after.foot_contact > 0.5) & (o.foot_air_s > 0.0)  # type: ignore[operator]
        gain = ((namespace(first).clip(o.foot_air_s, threshold_s, 0.5) - threshold_s) * first).sum(-1)
        return gain * as_float(moving(o.after.command), gain) / o.dt_s

    return feet_air_time


def feet_slip(o: Outcome) -> Array:
    """Squared horizontal speed of the feet that touch the ground [m^2/s^2]."""
    return (_square_xy(o.foot_vel_w) * o.after.foot_contact).sum(-1)


def feet_clearance(height_m: float, ground: Ground | None = None) -> OutcomeTerm:
    """Missing height of moving feet: squared distance to ``height_m`` over the ground times horizontal speed."""

    def feet_clearance(o: Outcome) -> Array:
        xp = namespace(o.foot_pos_w)
        gap = height_above(o.foot_pos_w, ground) - height_m
        return (gap * gap * xp.sqrt(xp.sqrt(_square_xy(o.foot_vel_w) + 1e-12))).sum(-1)

    return feet_clearance


# -- alive and fallen --


def alive(o: Outcome) -> Array:
    """One."""
    return namespace(o.action).ones_like(o.action[..., 0])


def fallen(max_tilt_rad: float, min_height_m: float, ground: Ground | None = None) -> OutcomeTerm:
    """1 where the base is tilted or low over the ground."""

    def fallen(o: Outcome) -> Array:
        up = -gravity_parts(o.after.quat_xyzw)[2]
        low = height_above(o.after.base_pos_w, ground) < min_height_m
        return as_float((up < cos(max_tilt_rad)) | low, o.action)

    return fallen


def out_of_range(joint: int, limit: float) -> OutcomeTerm:
    """1 where the measured joint is beyond +-limit [rad or m]."""

    def out_of_range(o: Outcome) -> Array:
        return as_float(abs(o.after.joint_pos[..., joint]) > limit, o.action)

    return out_of_range


# -- privileged --


def base_lin_vel(state: RobotState, contract: Contract) -> Array:
    """True linear velocity in the body frame [m/s], (N, 3)."""
    return state.lin_vel_b


def base_height(state: RobotState, contract: Contract) -> Array:
    """Height of the base [m], (N, 1)."""
    return state.base_pos_w[..., 2:3]  # type: ignore[index]


def base_height_over(ground: Ground) -> Callable[[RobotState, Contract], Array]:
    """Height of the base over the ground under it [m], (N, 1)."""

    def base_height(state: RobotState, contract: Contract) -> Array:
        return height_above(state.base_pos_w, ground)[..., None]

    return base_height


def foot_contact(state: RobotState, contract: Contract) -> Array:
    """Foot contacts, (N, F)."""
    return state.foot_contact


def height_above(pos_w: Array | None, ground: Ground | None) -> Array:
    """Return the height of points (..., 3) over the ground, or over 0 without one [m], (...)."""
    z = pos_w[..., 2]  # type: ignore[index]  # simulation only
    return z if ground is None else z - ground(pos_w[..., :2])  # type: ignore[index]


def moving(command: Array) -> Array:
    """Whether the command asks to move, bool (N,)."""
    return _square(command) > MOVING**2


# -- arithmetic: few and whole operations, for small arrays cost by their number --


def _square(x: Array) -> Array:
    """Sum of squares over the last axis, without the array of squares."""
    return namespace(x).einsum("...j,...j->...", x, x)


def _square_xy(x: Array) -> Array:
    """Sum of the squares of the first two columns."""
    return x[..., 0] * x[..., 0] + x[..., 1] * x[..., 1]


def _as_slice(columns: tuple[int, ...]) -> slice | list[int]:
    """Return evenly spaced columns as a slice, which is not copied."""
    if len(columns) > 1 and columns[1] > columns[0]:
        even = range(columns[0], columns[-1] + 1, columns[1] - columns[0])
        if columns == tuple(even):
            return slice(even.start, even.stop, even.step)
    return list(columns)
