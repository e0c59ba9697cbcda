"""An oracle for the shield, written joint by joint in plain Python, and random cases around and beyond the limits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.driver import damp_target
from robot_rl.hardware.robot import Robot, Safety
from robot_rl.runtime.shield import DAMPING, GAIN_CEILING, Reason, Shield

FIELDS = tuple(f.name for f in dataclasses.fields(JointTarget))
CHANGES = ~(Reason.JOINT_AT_LIMIT | DAMPING | Reason.TARGET_INVALID)
ROBOT = Robot(
    name="three",
    title="Two hinges and a motor without a spring",
    joints=("a", "b", "c"),
    pos_low=(-1.0, -0.5, -10.0),
    pos_high=(1.0, 2.0, 10.0),
    vel=(10.0, 5.0, 50.0),
    effort=(20.0, 4.0, 1.0),
    default_pos=(0.0, 0.5, 0.0),
    stiffness=(30.0, 60.0, 0.0),
    damping=(0.7, 1.5, 0.0),
    safety=Safety(
        max_tilt_rad=1.0,
        pos_margin=0.05,
        target_rate=(20.0, 8.0, 1e6),
        vel_fraction=0.9,
        effort_fraction=0.8,
        state_timeout_s=0.04,
        command_timeout_s=0.5,
        damp=2.0,
        stand_s=1.0,
    ),
    mjcf=Path("three.xml"),
)


def quat_of_tilt(tilt: float, heading: float = 0.3) -> np.ndarray:
    """Return xyzw of a rotation by ``tilt`` about a horizontal axis."""
    s = math.sin(tilt / 2)
    return np.array((s * math.cos(heading), s * math.sin(heading), 0.0, math.cos(tilt / 2)))


def make_state(
    pos: np.ndarray, vel: np.ndarray, *, quat: np.ndarray | None = None, stamp_s: float = 100.0
) -> RobotState:
    """Return a state of ``ROBOT`` or any robot of as many joints."""
    quat = quat_of_tilt(0.0) if quat is None else quat
    return RobotState(stamp_s, pos, vel, np.zeros_like(pos), quat, np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))


def draw(
    rng: np.random.Generator, robot: Robot, *, wild: float
) -> tuple[RobotState, JointTarget, JointTarget | None, float, float]:
    """Return state, target, previous, dt_s and now_s; ``wild`` scales how far beyond the limits they lie."""
    n, s = len(robot.joints), robot.safety
    low, high = np.array(robot.pos_low), np.array(robot.pos_high)
    spread = lambda k: (1.0 + k * wild) * rng.choice((0.1, 1.0))
    pos = rng.uniform(low - 0.2 * spread(0.2), high + 0.2 * spread(0.2))
    vel = rng.uniform(-1, 1, n) * np.array(robot.vel) * s.vel_fraction * rng.choice((0.3, 1.0, 1.0 + 0.02 * wild))
    tilt = rng.uniform(0.0, s.max_tilt_rad * rng.choice((0.9, 1.0 + 0.05 * wild)))
    state = make_state(pos, vel, quat=quat_of_tilt(tilt, rng.uniform(-3, 3)))
    now_s = 100.0 + rng.choice((0.0, 0.5, 1.0 + 0.05 * wild)) * s.state_timeout_s
    return state, _target(rng, robot, wild), _previous(rng, robot, wild), float(rng.choice((0.002, 0.02, 0.1))), now_s


def _target(rng: np.random.Generator, robot: Robot, wild: float) -> JointTarget:
    n = len(robot.joints)
    low, high = np.array(robot.pos_low), np.array(robot.pos_high)
    middle, half = (low + high) / 2, (high - low) / 2
    factor = rng.choice((0.5, 1.0, 1.0 + wild), 5)
    signed = lambda k: rng.uniform(-1, 1, n) * factor[k] * rng.choice((0.0, 1.0), p=(0.3, 0.7))
    gain = lambda k: rng.uniform(-0.2 * (factor[k] > 1.0), 1.0, n) * factor[k] * rng.choice((0.0, 1.0), n, p=(0.1, 0.9))
    return JointTarget(
        middle + signed(0) * half,
        signed(1) * np.array(robot.vel),
        signed(2) * np.array(robot.effort),
        gain(3) * np.array(robot.stiffness) * GAIN_CEILING,
        gain(4) * np.array(robot.damping) * GAIN_CEILING,
    )


def _previous(rng: np.random.Generator, robot: Robot, wild: float) -> JointTarget | None:
    kind = rng.integers(4)
    if kind == 0:
        return None
    return damp_target(robot) if kind == 1 else _target(rng, robot, wild * (kind == 3))


def check(
    shield: Shield, state: RobotState, target: JointTarget, previous: JointTarget | None, dt_s: float, now_s: float
) -> Reason:
    """Limit once, assert every promise of the shield, return the reasons."""
    robot, before = shield.robot, [getattr(target, f).copy() for f in FIELDS]
    safe, reasons = shield.limit(state, target, previous, dt_s=dt_s, now_s=now_s)
    again, more = shield.limit(state, safe, previous, dt_s=dt_s, now_s=now_s)
    for field, was in zip(FIELDS, before, strict=True):
        x = getattr(safe, field)
        assert np.isfinite(x).all(), (field, x)
        assert np.array_equal(getattr(again, field), x), f"not idempotent in {field}: {getattr(again, field) - x}"
        assert np.array_equal(getattr(target, field), was, equal_nan=True), f"{field} of the input was written"
    assert not more & CHANGES, f"the second pass changed something: {more!r}"
    demanded = must_damp(robot, state, now_s)
    assert demanded == bool(reasons & DAMPING), (demanded, reasons)
    if demanded or (reasons & Reason.TARGET_INVALID and previous is None):
        same = FIELDS if demanded else FIELDS[1:]  # a target that is no number brakes from where the joint is
        assert all(np.array_equal(getattr(safe, f), getattr(damp_target(robot), f)) for f in same)
        assert demanded or safe.pos.tolist() == [_start(robot, j, state, None) for j in range(len(robot.joints))]
        return reasons
    for j in range(len(robot.joints)):
        _check_joint(robot, j, state, safe, previous, dt_s)
    if not reasons & CHANGES and not reasons & Reason.TARGET_INVALID:
        held = target.stiffness > 0.0
        assert np.array_equal(safe.pos[held], target.pos[held]), "moved without a reason"
        assert all(np.array_equal(getattr(safe, f), getattr(target, f)) for f in FIELDS[1:]), "changed without a reason"
    if within_limits(robot, state, target, previous, dt_s):
        assert not reasons & CHANGES, f"a safe target was changed: {reasons!r}"
    return reasons


def must_damp(robot: Robot, state: RobotState, now_s: float) -> bool:
    """Whether the state alone demands damping."""
    s = robot.safety
    numbers = [*state.joint_pos, *state.joint_vel, *state.quat_xyzw, *state.ang_vel_b, state.stamp_s]
    if not all(math.isfinite(x) for x in numbers) or max(abs(state.quat_xyzw)) > 2.0:
        return True
    x, y, z, w = state.quat_xyzw
    norm = x * x + y * y + z * z + w * w
    if not 0.81 <= norm <= 1.21 or abs(now_s - float(state.stamp_s)) > s.state_timeout_s:
        return True
    for q, low, high in zip(state.joint_pos, robot.pos_low, robot.pos_high, strict=True):
        if not low - (high - low) <= q <= high + (high - low):
            return True
    if any(abs(v) > s.vel_fraction * limit for v, limit in zip(state.joint_vel, robot.vel, strict=True)):
        return True
    up = 1.0 - 2.0 * (x * x + y * y) / norm
    return s.max_tilt_rad < math.pi and up < math.cos(s.max_tilt_rad)


def _bounds(robot: Robot, j: int) -> tuple[float, float]:
    margin = robot.safety.pos_margin
    return robot.pos_low[j] + margin, robot.pos_high[j] - margin


def _start(robot: Robot, j: int, state: RobotState, previous: JointTarget | None) -> float:
    low, high = _bounds(robot, j)
    at = float(state.joint_pos[j])
    if previous is not None and previous.stiffness[j] > 0 and np.isfinite(previous.pos[previous.stiffness > 0]).all():
        at = float(previous.pos[j])  # not where a driver reports nonsense as sent
    return min(max(at, low), high)


def _check_joint(
    robot: Robot, j: int, state: RobotState, safe: JointTarget, previous: JointTarget | None, dt_s: float
) -> None:
    low, high = _bounds(robot, j)
    reach = robot.safety.target_rate[j] * dt_s
    pos, vel, feed = (float(x[j]) for x in (safe.pos, safe.vel, safe.effort_ff))
    kp, kd = float(safe.stiffness[j]), float(safe.damping[j])
    assert low <= pos <= high
    assert abs(pos - _start(robot, j, state, previous)) <= reach * (1 + 1e-12) + 1e-12
    assert abs(vel) <= robot.vel[j]
    assert 0.0 <= kp <= GAIN_CEILING * robot.stiffness[j]
    assert 0.0 <= kd <= max(GAIN_CEILING * robot.damping[j], robot.safety.damp)
    effort = kp * (pos - state.joint_pos[j]) + kd * (vel - state.joint_vel[j]) + feed
    limit = robot.effort[j] * robot.safety.effort_fraction
    brakes = kp == 0.0 and feed == 0.0 and vel == 0.0
    assert brakes or abs(effort) <= limit * (1 + 1e-8), (effort, limit)


def within_limits(
    robot: Robot, state: RobotState, target: JointTarget, previous: JointTarget | None, dt_s: float
) -> bool:
    """Whether a target breaks no limit, with a hair's breadth to spare."""
    try:
        for j in range(len(robot.joints)):
            _check_joint(robot, j, state, target, previous, dt_s * (1 - 1e-9))
            effort = (
                target.stiffness[j] * (target.pos[j] - state.joint_pos[j])
                + target.damping[j] * (target.vel[j] - state.joint_vel[j])
                + target.effort_ff[j]
            )
            if abs(effort) > robot.effort[j] * robot.safety.effort_fraction or abs(target.effort_ff[j]) > (
                robot.effort[j] * robot.safety.effort_fraction
            ):
                return False
    except AssertionError:
        return False
    return all(np.isfinite(getattr(target, f)).all() for f in FIELDS)
