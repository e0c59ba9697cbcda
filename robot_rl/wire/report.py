"""What a control loop knows, as messages: pure functions from a tick, a status or an event.

Knows: fields and frames of the messages.
Does not know: transports, when to publish (``station``).

Shapes: J joints, the robot's order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.hardware.robot import Robot
from robot_rl.runtime.loop import Status, Tick
from robot_rl.runtime.shield import Reason
from robot_rl.wire import standard as std
from robot_rl.wire.messages import JointTargetArray, PolicyEvent, PolicyStatus
from robot_rl.wire.standard import Header

ODOM_FRAME, BASE_FRAME = "odom", "base_link"


def joint_state(tick: Tick, robot: Robot, header: Header) -> std.JointState:
    """Return position, velocity and effort of every joint, (J,) each."""
    state = tick.state
    return std.JointState(header, robot.joints, state.joint_pos, state.joint_vel, state.joint_effort)


def imu(tick: Tick, header: Header) -> std.Imu:
    """Return orientation, angular velocity and specific force in the IMU's frame; covariances 0 are unknown."""
    state = tick.state
    return std.Imu(
        header,
        orientation=_quaternion(state.quat_xyzw),
        angular_velocity=_vector(state.ang_vel_b),
        linear_acceleration=_vector(state.lin_acc_b),
    )


def odometry(tick: Tick, header: Header) -> std.Odometry | None:
    """Return pose and twist of the base; None where the robot measures neither position nor velocity."""
    state = tick.state
    if state.base_pos_w is None and state.lin_vel_b is None:
        return None
    position = std.Point() if state.base_pos_w is None else std.Point(*map(float, state.base_pos_w))
    linear = std.Vector3() if state.lin_vel_b is None else _vector(state.lin_vel_b)
    pose = std.PoseWithCovariance(std.Pose(position, _quaternion(state.quat_xyzw)))
    twist = std.TwistWithCovariance(std.Twist(linear, _vector(state.ang_vel_b)))
    return std.Odometry(header, BASE_FRAME, pose, twist)


def joint_targets(tick: Tick, robot: Robot, header: Header) -> JointTargetArray:
    """Return the target that the driver really sent, (J,) each."""
    sent = tick.sent
    return JointTargetArray(header, robot.joints, sent.pos, sent.vel, sent.effort_ff, sent.stiffness, sent.damping)


def policy_status(status: Status, counts: Mapping[str, int], header: Header) -> PolicyStatus:
    """Return the loop's status; ``counts`` has the numbers of ``swaps, rollbacks, refusals``."""
    latency = status.latency
    return PolicyStatus(
        header,
        mode=int(status.mode),
        who=int(status.who),
        estop=status.estopped,
        stood_up=status.stood_up,
        tick=status.tick,
        rate_hz=1.0 / status.period_s,
        policy=status.policy,
        policy_path=status.policy_path,
        stage=status.swap.value,
        fault=reason_names(status.fault),
        reasons=reason_names(status.reasons),
        command=np.array(status.command, np.float64),
        work_p50_s=latency.work_p50_s,
        work_p99_s=latency.work_p99_s,
        work_max_s=latency.work_max_s,
        late_p99_s=latency.late_p99_s,
        late_max_s=latency.late_max_s,
        overruns=status.overruns,
        drops=status.drops,
        **counts,
    )


def policy_event(event: Mapping[str, Any], header: Header) -> PolicyEvent:
    """Return an event of the runtime; all that it said rides along as JSON."""
    kind = str(event["event"])
    reason = str(event.get("reason") or event.get("why") or "")
    if kind == "mode":
        reason = f"{event['from']} -> {event['to']}: {reason}"
    return PolicyEvent(
        header,
        kind=kind,
        policy=str(event.get("policy", "")),
        tick=int(event.get("tick", 0)),
        reason=reason,
        detail=json.dumps(event, sort_keys=True, default=str),
    )


def diagnostics(status: Status, header: Header, *, new_overruns: int, new_drops: int) -> std.DiagnosticArray:
    """Return the health of the loop for ``/diagnostics``: error after a fault or an e-stop, warn where it was late."""
    level, text = 0, status.mode.name
    if new_overruns or new_drops:
        level, text = 1, f"{new_overruns} late ticks, {new_drops} lost rows in the last second"
    if status.estopped or status.fault:
        level, text = 2, "e-stop" if status.estopped else ", ".join(reason_names(status.fault))
    latency = status.latency
    values = {
        "mode": status.mode.name,
        "tick": str(status.tick),
        "work_p99_us": f"{latency.work_p99_s * 1e6:.0f}",
        "late_p99_us": f"{latency.late_p99_s * 1e6:.0f}",
        "overruns": str(status.overruns),
        "drops": str(status.drops),
        "policy": status.policy[:12],
    }
    pairs = tuple(std.KeyValue(k, v) for k, v in values.items())
    return std.DiagnosticArray(header, (std.DiagnosticStatus(level, "robot_rl: control loop", text, "", pairs),))


def reason_names(reasons: Reason) -> tuple[str, ...]:
    """Return a bitmask of reasons as their names."""
    return tuple(reason.name or "" for reason in Reason if reason & reasons)


def _vector(values: Any) -> std.Vector3:
    return std.Vector3(float(values[0]), float(values[1]), float(values[2]))


def _quaternion(xyzw: Any) -> std.Quaternion:
    return std.Quaternion(*map(float, xyzw))
