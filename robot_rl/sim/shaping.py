"""Reward terms in the manner of dm_control and APRL: smooth bumps with wide feet; NumPy and torch alike.

Every term maps an ``Outcome`` to (N,). Shapes and offsets: Smith et al. 2024, arXiv 2310.17634, released code; an
offset makes a good gait cost next to nothing, so that an episode is not better ended.

Does not know: weights, tasks, backends.

Shapes: N environments · J joints.
"""

from __future__ import annotations

from math import cos, inf, log

from robot_rl.contract.arrays import Array, as_float, like, namespace
from robot_rl.contract.terms import gravity_parts
from robot_rl.sim.task import Outcome, OutcomeTerm


def near_quadratic(x: Array, target: float, margin: float, power: float = 1.6) -> Array:
    """Return 1 at ``target``, 0 at ``margin`` from it, and a straight line from there on, any shape.

    ``1 - |clip(f, -1, 1)|^p - max(|f| - 1, 0)`` with ``f = (x - target) / margin``: far away it still has a slope.
    """
    f = abs((x - target) / margin)
    xp = namespace(f)
    return 1.0 - xp.clip(f, 0.0, 1.0) ** power - xp.clip(f - 1.0, 0.0, None)


def tolerance(distance: Array, margin: float, value_at_margin: float) -> Array:
    """Return 1 where ``distance`` is at most 0, falling like a Gaussian to ``value_at_margin`` at ``margin``."""
    xp = namespace(distance)
    return xp.exp(log(value_at_margin) * (xp.clip(distance, 0.0, None) / margin) ** 2)


def forward_speed(target: float) -> OutcomeTerm:
    """Horizontal speed ahead, 1 at ``target`` [m/s], 0 at rest, less behind; times ((1 + up) / 2)^2."""

    def forward_speed(o: Outcome) -> Array:
        _, y, z = gravity_parts(o.after.quat_xyzw)
        level = (y * y + z * z) ** 0.5  # cosine of the pitch
        upright = (0.5 - 0.5 * z) ** 2
        return near_quadratic(level * o.after.lin_vel_b[..., 0], target, target) * upright  # type: ignore[index]

    return forward_speed


def heading_kept(limit: float) -> OutcomeTerm:
    """(0.1 + horizontal speed) [m/s] while the robot does not turn, a tenth of it at ``limit`` [rad/s]."""

    def heading_kept(o: Outcome) -> Array:
        v = o.after.lin_vel_b
        speed = (v[..., 0] * v[..., 0] + v[..., 1] * v[..., 1]) ** 0.5  # type: ignore[index]  # floating base measured
        return (0.1 + speed) * tolerance(abs(o.after.ang_vel_b[..., 2]), limit, 0.1)

    return heading_kept


def pose_lost(free: tuple[float, ...], value_at_margin: float = 0.6) -> OutcomeTerm:
    """``value_at_margin`` less the product over joints of their tolerance around the default pose.

    Args:
        free: How far each joint may go for nothing, and as far again to ``value_at_margin`` [rad], contract order.
        value_at_margin: Of one joint.
    """

    def pose_lost(o: Outcome) -> Array:
        q = o.after.joint_pos
        room = like(free, q)
        gap = namespace(q).clip(abs(q - like(o.contract.action.offset, q)) / room - 1.0, 0.0, None)
        return value_at_margin - namespace(q).exp(log(value_at_margin) * (gap * gap).sum(-1))

    return pose_lost


def torque_jump(offset: float, power: float = 1.5) -> OutcomeTerm:
    """Norm of the change of all torques over the control period, to ``power``, less ``offset`` [(N m)^power]."""

    def torque_jump(o: Outcome) -> Array:
        change = o.after.joint_effort - o.before.joint_effort
        return (change * change).sum(-1) ** (0.5 * power) - offset

    return torque_jump


def turn_rate(axis: int, weight: float, offset: float, power: float = 1.4) -> OutcomeTerm:
    """``weight |w|^power - offset`` of the turn rate about one axis of the body [rad/s]."""

    def turn_rate(o: Outcome) -> Array:
        return weight * abs(o.after.ang_vel_b[..., axis]) ** power - offset

    return turn_rate


def upright(o: Outcome) -> Array:
    """((1 + up) / 2)^2: 1 upright, a quarter on the side, 0 on the back."""
    return (0.5 - 0.5 * gravity_parts(o.after.quat_xyzw)[2]) ** 2


def standing(height_m: float) -> OutcomeTerm:
    """``upright`` times how nearly the robot stands still in its default pose, 1 at best.

    That is a fifth for the base's height, up to ``height_m`` over flat ground, three fifths for the pose,
    ``exp(-0.6 |q - q_default|^2)``, and a fifth for rest, ``exp(-0.02 |qd|^2)``; the released code's reset policy.
    """

    def standing(o: Outcome) -> Array:
        q, qd = o.after.joint_pos, o.after.joint_vel
        xp, gap = namespace(q), q - like(o.contract.action.offset, q)
        height = xp.clip(o.after.base_pos_w[..., 2] / height_m, 0.0, 1.0)  # type: ignore[index]  # simulated
        pose, rest = xp.exp(-0.6 * (gap * gap).sum(-1)), xp.exp(-0.02 * (qd * qd).sum(-1))
        return upright(o) * (0.2 * height + 0.6 * pose + 0.2 * rest)

    return standing


def stood(max_tilt_rad: float, height_m: float, max_speed: float) -> OutcomeTerm:
    """1 where the base is level and high over flat ground, and no joint moves faster than ``max_speed`` [rad/s]."""

    def stood(o: Outcome) -> Array:
        up = -gravity_parts(o.after.quat_xyzw)[2]
        high = o.after.base_pos_w[..., 2] >= height_m  # type: ignore[index]  # simulated
        calm = namespace(up).amax(abs(o.after.joint_vel), -1) <= max_speed
        return as_float((up >= cos(max_tilt_rad)) & high & calm, o.action)

    return stood


def leaning(roll: float, pitch_low: float = -inf, pitch_high: float = inf) -> OutcomeTerm:
    """1 where the base rolls by more than ``roll`` or its pitch, positive nose down, leaves the range [rad]."""

    def leaning(o: Outcome) -> Array:
        x, y, z = gravity_parts(o.after.quat_xyzw)
        xp = namespace(x)
        pitch = xp.arcsin(xp.clip(x, -1.0, 1.0))
        lost = (abs(xp.arctan2(-y, -z)) > roll) | (pitch < pitch_low) | (pitch > pitch_high)
        return as_float(lost, o.action)

    return leaning
