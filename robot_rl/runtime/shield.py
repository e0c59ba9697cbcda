"""The shield: the last thing that every target passes before the driver, whoever commanded it.

Pure: the same state, target, previous target and times give the same answer. Idempotent. A target that breaks no
limit passes bit for bit; only the position of a joint without stiffness, which holds nothing, is brought within
limits and rate without a word. Four findings demand damping, whatever the target says: a state that is not finite, a
stale state, a tilt beyond ``max_tilt_rad``, a joint faster than it may be.

Order: state → target finite → gains, feed-forward and velocity into bounds → position into limits and within the rate
of the previous target → PD effort within ``effort_fraction`` of the limit, first by pulling the position target in,
then, where the rate forbids that, by lowering the gains: just what the saturated motor would do.

Knows: a robot's limits. Does not know: policies, modes, drivers, clocks.

Shapes: J joints, the robot's order.
"""

from __future__ import annotations

import dataclasses
import math
from enum import IntFlag

import numpy as np

from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.driver import damp_target
from robot_rl.hardware.robot import Robot

GAIN_CEILING = 4.0
"""Largest stiffness and damping, as multiples of the robot's own; the damping of DAMP is always allowed."""
EFFORT_SLACK = 1e-9
"""Relative excess of an effort that still counts as within the limit, so that rounding is no violation."""


class Reason(IntFlag):
    """Why the shield (low 16 bits) or the loop (high 16 bits) changed a target; a bitmask in every row."""

    STATE_INVALID = 1 << 0
    """The state holds NaN or infinity, a quaternion that is no rotation, or a position no encoder can give."""
    STATE_STALE = 1 << 1
    """The newest state is older than ``state_timeout_s``, or lies in the future by as much."""
    TILT = 1 << 2
    OVERSPEED = 1 << 3
    """A measured velocity is beyond ``vel_fraction`` of its limit."""
    TARGET_INVALID = 1 << 4
    """The target holds NaN or infinity; the previous one is held instead."""
    JOINT_AT_LIMIT = 1 << 5
    """A measured position is outside its limits; said, not acted on: the clipped target pulls it back."""
    POSITION_CLIPPED = 1 << 6
    VELOCITY_CLIPPED = 1 << 7
    RATE_LIMITED = 1 << 8
    EFFORT_CLIPPED = 1 << 9
    GAIN_CLIPPED = 1 << 10
    BEYOND_BOX = 1 << 11
    """The policy's raw action lay beyond the box that its learner assumed (``robot_rl.contract.box``); said, and acted
    on only where the contract says so."""
    COMMANDER_LOST = 1 << 16
    """The human, or the source of commands, fell silent for ``command_timeout_s``."""
    ESTOP = 1 << 17
    LINK_LOST = 1 << 18
    """The driver said that the link to the robot is down."""
    CAMERA_LOST = 1 << 19
    """A camera that the policy sees through shows nothing new; ends POLICY, no other mode."""


DAMPING = Reason.STATE_INVALID | Reason.STATE_STALE | Reason.TILT | Reason.OVERSPEED
"""Findings of the shield that replace any target by the DAMP target."""
NONE = Reason(0)
_DAMPING = int(DAMPING)  # plain integers: arithmetic on an IntFlag costs a microsecond each
_STATE_INVALID, _STATE_STALE, _TILT = int(Reason.STATE_INVALID), int(Reason.STATE_STALE), int(Reason.TILT)
_OVERSPEED, _TARGET_INVALID = int(Reason.OVERSPEED), int(Reason.TARGET_INVALID)
_JOINT_AT_LIMIT, _RATE_LIMITED = int(Reason.JOINT_AT_LIMIT), int(Reason.RATE_LIMITED)
_EFFORT_CLIPPED = int(Reason.EFFORT_CLIPPED)
_ROW_BITS = tuple(
    int(reason)
    for reason in (
        Reason.POSITION_CLIPPED,
        Reason.VELOCITY_CLIPPED,
        Reason.EFFORT_CLIPPED,
        Reason.GAIN_CLIPPED,
        Reason.GAIN_CLIPPED,
    )
)


class Shield:
    """The limits of one robot, prepared once; ``limit`` holds no state."""

    def __init__(self, robot: Robot) -> None:
        """Prepare the bounds of ``robot``."""
        safety = robot.safety
        self.robot = robot
        self._damp = damp_target(robot)
        self._low = np.array(robot.pos_low)
        self._high = np.array(robot.pos_high)
        middle = (self._low + self._high) / 2
        self._pos_low = np.minimum(self._low + safety.pos_margin, middle)
        self._pos_high = np.maximum(self._high - safety.pos_margin, middle)
        reach = self._high - self._low
        self._absurd_low, self._absurd_high = self._low - reach, self._high + reach
        self._vel = np.array(robot.vel)
        self._overspeed = self._vel * safety.vel_fraction
        self._rate = np.array(safety.target_rate)
        self._effort = np.array(robot.effort) * safety.effort_fraction
        self._effort_allowed = self._effort * (1 + EFFORT_SLACK)
        self._kp_max = np.array(robot.stiffness) * GAIN_CEILING
        self._kd_max = np.maximum(np.array(robot.damping) * GAIN_CEILING, safety.damp)
        self._upright = -math.inf if safety.max_tilt_rad >= math.pi else math.cos(safety.max_tilt_rad)
        zeros = np.zeros_like(self._vel)
        self._lower = np.stack((self._pos_low, -self._vel, -self._effort, zeros, zeros))  # (5, J)
        self._upper = np.stack((self._pos_high, self._vel, self._effort, self._kp_max, self._kd_max))

    def limit(
        self, state: RobotState, target: JointTarget, previous: JointTarget | None, *, dt_s: float, now_s: float
    ) -> tuple[JointTarget, Reason]:
        """Return the nearest safe target, in new arrays, and why it differs.

        Args:
            state: The newest measurement, fields (J,).
            target: What is asked, fields (J,).
            previous: What was sent a tick ago; None, or a joint of zero stiffness, moves from where it is measured.
            dt_s: Time since ``previous`` was sent; what the rate limit multiplies.
            now_s: The time, on the clock of ``state.stamp_s``.
        """
        reasons = self._inspect(state, now_s)
        if reasons & _DAMPING:
            return _copy(self._damp), Reason(reasons)
        asked = np.array((target.pos, target.vel, target.effort_ff, target.stiffness, target.damping), dtype=np.float64)
        if not _finite(asked):
            reasons |= _TARGET_INVALID
            if previous is None:
                return self._brake(state, previous), Reason(reasons)
            asked = np.array((previous.pos, previous.vel, previous.effort_ff, previous.stiffness, previous.damping))
            if not _finite(asked):
                return self._brake(state, previous), Reason(reasons)
        safe = np.minimum(np.maximum(asked, self._lower), self._upper)  # (5, J)
        changed, held = safe != asked, safe[3] > 0.0
        if _any(changed):
            changed[0] &= held
            for row, bit in enumerate(_ROW_BITS):
                reasons |= bit * _any(changed[row])
        start, reach = self._start(state, previous), self._rate * dt_s
        low, high = np.maximum(start - reach, self._pos_low), np.minimum(start + reach, self._pos_high)
        pos = np.minimum(np.maximum(safe[0], low), high)
        moved = pos != safe[0]
        if _any(moved):
            reasons |= _RATE_LIMITED * _any(moved & held)
            safe[0] = pos
        if self._pull(safe, state, low, high):
            reasons |= _EFFORT_CLIPPED
        return JointTarget(*safe), Reason(reasons)

    def inspect(self, state: RobotState, *, now_s: float) -> Reason:
        """Return what the state alone says, whatever the target."""
        return Reason(self._inspect(state, now_s))

    def _inspect(self, state: RobotState, now_s: float) -> int:
        q, qd, quat = state.joint_pos, state.joint_vel, state.quat_xyzw
        stamp_s = float(state.stamp_s)
        x, y, z, w = quat.tolist()
        norm2 = x * x + y * y + z * z + w * w
        finite = _finite(np.concatenate((q, qd, state.ang_vel_b))) and math.isfinite(stamp_s)
        if not finite or not 0.81 <= norm2 <= 1.21:
            return _STATE_INVALID
        reasons = 0
        if _any(q < self._low) or _any(q > self._high):
            reasons |= _JOINT_AT_LIMIT
            if _any(q < self._absurd_low) or _any(q > self._absurd_high):
                return _STATE_INVALID
        if abs(now_s - stamp_s) > self.robot.safety.state_timeout_s:
            reasons |= _STATE_STALE
        if 1.0 - 2.0 * (x * x + y * y) / norm2 < self._upright:
            reasons |= _TILT
        if _any(np.abs(qd) > self._overspeed):
            reasons |= _OVERSPEED
        return reasons

    def _start(self, state: RobotState, previous: JointTarget | None) -> np.ndarray:
        """Return where the rate limit starts: the previous target where it held, else the measurement, in limits."""
        start = state.joint_pos
        if previous is not None:
            start = np.where(previous.stiffness > 0.0, previous.pos, start)
            if not _finite(start):  # a driver that reports nonsense as sent
                start = state.joint_pos
        return np.minimum(np.maximum(start, self._pos_low), self._pos_high)

    def _brake(self, state: RobotState, previous: JointTarget | None) -> JointTarget:
        """Return the DAMP target at where the rate limit starts, so that a second look leaves it as it is."""
        return dataclasses.replace(_copy(self._damp), pos=self._start(state, previous))

    def _pull(self, safe: np.ndarray, state: RobotState, low: np.ndarray, high: np.ndarray) -> bool:
        """Bring the PD effort of ``safe``, (5, J), within the limit, in place; return whether anything changed.

        A joint that only brakes (no stiffness, no feed-forward, no wanted velocity) is left alone: it takes energy
        out, and less damping would not be safer.
        """
        pos, vel, feed, kp, kd = safe
        q, qd = state.joint_pos, state.joint_vel
        damp = kd * (vel - qd)
        effort = kp * (pos - q) + damp + feed
        over = np.abs(effort) > self._effort_allowed
        if not _any(over):
            return False
        over &= (kp != 0.0) | (feed != 0.0) | (vel != 0.0)
        if not _any(over):
            return False
        bound = np.copysign(self._effort, effort)
        pulled = over & (kp > 0.0)
        with np.errstate(over="ignore"):  # a tiny stiffness asks for a target at infinity, which the limits cut
            wanted = q + (bound - damp - feed) / np.where(pulled, kp, 1.0)
            pos[:] = np.where(pulled, np.minimum(np.maximum(wanted, low), high), pos)
            over &= np.abs(kp * (pos - q) + damp + feed) > self._effort_allowed
            if _any(over):
                self._soften(safe, q, qd, over)
        return True

    def _soften(self, safe: np.ndarray, q: np.ndarray, qd: np.ndarray, over: np.ndarray) -> None:
        """Lower the damping, then the stiffness of the joints ``over`` until their effort is within the limit."""
        pos, vel, feed, kp, kd = safe
        damp = kd * (vel - qd)
        sign = np.sign(damp + feed)
        excess = over & (np.abs(damp + feed) > self._effort)
        kd[:] = np.where(excess, kd * _fraction(sign * self._effort - feed, damp), kd)
        rest = kd * (vel - qd) + feed
        spring = kp * (pos - q)
        still = over & (np.abs(spring + rest) > self._effort_allowed)
        kp[:] = np.where(still, kp * _fraction(np.copysign(self._effort, spring) - rest, spring), kp)


def limit(
    state: RobotState, target: JointTarget, previous: JointTarget | None, dt_s: float, robot: Robot, *, now_s: float
) -> tuple[JointTarget, Reason]:
    """Limit one target without a prepared ``Shield``; for scripts and tests."""
    return Shield(robot).limit(state, target, previous, dt_s=dt_s, now_s=now_s)


def _any(mask: np.ndarray) -> bool:
    """Whether a boolean array holds a True; ten times as fast as ``mask.any()`` on a dozen joints."""
    return 1 in mask.tobytes()


def _finite(x: np.ndarray) -> bool:
    return 0 not in np.isfinite(x).tobytes()


def _fraction(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole in [0, 1], 0 where whole is 0."""
    return np.minimum(np.maximum(part / np.where(whole == 0.0, np.inf, whole), 0.0), 1.0)


def _copy(target: JointTarget) -> JointTarget:
    return JointTarget(
        target.pos.copy(), target.vel.copy(), target.effort_ff.copy(), target.stiffness.copy(), target.damping.copy()
    )
