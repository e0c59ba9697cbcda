"""Reward, termination and privileged terms, by the field's standard names; NumPy and torch alike.

Every reward or termination maps an ``Outcome`` to (N,); every privileged term maps a state to (N, k).

Does not know: weights, tasks, backends.
"""

from __future__ import annotations

from math import cos

from robot_rl.contract.arrays import Array, as_float, like, namespace
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.contract.terms import projected_gravity
from robot_rl.sim.task import Outcome, OutcomeTerm

MOVING = 0.1
"""Commands shorter than this ask to stand still [m/s, rad/s]."""


# -- tracking --


def track_lin_vel_xy(sigma: float) -> OutcomeTerm:
    """exp(-|v_xy* - v_xy|^2 / sigma^2), 1 at best (legged_gym's tracking term)."""

    def track_lin_vel_xy(o: Outcome) -> Array:
        error = o.after.command[..., :2] - o.after.lin_vel_b[..., :2]  # type: ignore[index]  # floating base measured
        return namespace(error).exp(-(error * error).sum(-1) / sigma**2)

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
    command = o.after.command[..., :2]
    xp = namespace(command)
    speed = xp.sqrt((command * command).sum(-1) + 1e-12)
    along = (o.after.lin_vel_b[..., :2] * command).sum(-1) / speed  # type: ignore[index]  # floating base measured
    return xp.minimum(along, speed)


# -- penalties, all >= 0: give them negative weights --


def lin_vel_z(o: Outcome) -> Array:
    """Squared vertical velocity of the base [m^2/s^2]."""
    v = o.after.lin_vel_b[..., 2]  # type: ignore[index]  # floating base measured
    return v * v


def ang_vel_xy(o: Outcome) -> Array:
    """Squared roll and pitch rates [rad^2/s^2]."""
    w = o.after.ang_vel_b[..., :2]
    return (w * w).sum(-1)


def flat_orientation(o: Outcome) -> Array:
    """Squared horizontal part of gravity in the body frame, sin^2 of the tilt."""
    g = projected_gravity(o.after, o.contract)[..., :2]
    return (g * g).sum(-1)


def joint_torques(o: Outcome) -> Array:
    """Sum of squared torques [N^2 m^2]."""
    return (o.after.joint_effort * o.after.joint_effort).sum(-1)


def joint_power(o: Outcome) -> Array:
    """Sum of |torque * velocity| [W]."""
    return abs(o.after.joint_effort * o.after.joint_vel).sum(-1)


def joint_acc(o: Outcome) -> Array:
    """Sum of squared joint accelerations over the control period [rad^2/s^4]."""
    acc = (o.after.joint_vel - o.before.joint_vel) / o.dt_s
    return (acc * acc).sum(-1)


def action_rate(o: Outcome) -> Array:
    """Squared change of the raw action."""
    change = o.action - o.before.last_action
    return (change * change).sum(-1)


def joint_deviation(joints: tuple[int, ...], standing_only: bool = False) -> OutcomeTerm:
    """Sum of |q - q_default| over ``joints`` (indices in contract order), optionally only when told to stand."""

    def joint_deviation(o: Outcome) -> Array:
        q = o.after.joint_pos[..., list(joints)]
        deviation = abs(q - like([o.contract.action.offset[j] for j in joints], q)).sum(-1)
        return deviation * as_float(~moving(o.after.command), q) if standing_only else deviation

    return joint_deviation


def joint_limits(o: Outcome) -> Array:
    """How far joints are beyond 95 % of their range [rad]."""
    q, limits = o.after.joint_pos, o.contract.limits
    xp = namespace(q)
    low, high = like(limits.pos_low, q), like(limits.pos_high, q)
    margin = 0.025 * (high - low)
    return (xp.clip(low + margin - q, 0.0, None) + xp.clip(q - high + margin, 0.0, None)).sum(-1)


# -- feet --


def feet_air_time(threshold_s: float) -> OutcomeTerm:
    """At each touchdown while told to move: how much longer than ``threshold_s`` the foot was in the air, up to 0.5 s.

    Never negative: where short steps cost, a beginner learns to stand.
    """

    def feet_air_time(o: Outcome) -> Array:
        touch = as_float(o.after.foot_contact > 0.5, o.action)  # type: ignore[operator]
        first = touch * as_float(o.foot_air_s > 0.0, o.action)  # type: ignore[operator]
        gain = ((namespace(touch).clip(o.foot_air_s, threshold_s, 0.5) - threshold_s) * first).sum(-1)
        return gain * as_float(moving(o.after.command), gain) / o.dt_s

    return feet_air_time


def feet_slip(o: Outcome) -> Array:
    """Squared horizontal speed of the feet that touch the ground [m^2/s^2]."""
    v = o.foot_vel_w[..., :2]  # type: ignore[index]  # simulation only
    return ((v * v).sum(-1) * o.after.foot_contact).sum(-1)


def feet_clearance(height_m: float) -> OutcomeTerm:
    """Missing height of moving feet: squared distance to ``height_m`` times horizontal speed."""

    def feet_clearance(o: Outcome) -> Array:
        xp = namespace(o.foot_pos_w)
        v = o.foot_vel_w[..., :2]  # type: ignore[index]
        gap = o.foot_pos_w[..., 2] - height_m  # type: ignore[index]
        return (gap * gap * xp.sqrt(xp.sqrt((v * v).sum(-1) + 1e-12))).sum(-1)

    return feet_clearance


# -- alive and fallen --


def alive(o: Outcome) -> Array:
    """One."""
    return namespace(o.action).ones_like(o.action[..., 0])


def fallen(max_tilt_rad: float, min_height_m: float) -> OutcomeTerm:
    """1 where the base is tilted or low."""

    def fallen(o: Outcome) -> Array:
        up = -projected_gravity(o.after, o.contract)[..., 2]
        low = o.after.base_pos_w[..., 2] < min_height_m  # type: ignore[index]
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


def foot_contact(state: RobotState, contract: Contract) -> Array:
    """Foot contacts, (N, F)."""
    return state.foot_contact


def moving(command: Array) -> Array:
    """Whether the command asks to move, bool (N,)."""
    return (command * command).sum(-1) > MOVING**2
