"""Compare a contract with a robot's description, row by row, before anything moves.

Knows: which differences are harmless, doubtful or refused.
Does not know: files (``golden``), drivers; robots only as a description that ``hardware.robot.Robot`` satisfies.

Shapes: J joints of the robot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robot_rl.contract.apply import ActionMap, Observer
from robot_rl.contract.box import KEY, box_of
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import Contract, Floats
from robot_rl.contract.vectors import split

OK, WARN, ERROR = "ok", "warn", "error"

LIMIT_SLACK = 0.01
"""How far a trained limit may exceed the robot's: rad or m for positions, a fraction for velocities and efforts."""
POSE_SLACK = 0.2
"""How far the policy's default pose may lie from the robot's before it is worth a word [rad or m]."""
GAIN_RATIO = 3.0
"""Policy gains beyond this ratio of the robot's own are worth a word."""


class Timeouts(Protocol):
    """The part of a robot's safety bounds that a control rate must fit."""

    @property
    def command_timeout_s(self) -> float:
        """Age of the newest command beyond which the commander counts as lost [s]."""
        ...


class Body(Protocol):
    """What a contract is compared with, see ``hardware.robot.Robot``; per-joint tuples have J entries."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def joints(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def passive(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def pos_low(self) -> Floats: ...  # noqa: D102
    @property
    def pos_high(self) -> Floats: ...  # noqa: D102
    @property
    def vel(self) -> Floats: ...  # noqa: D102
    @property
    def effort(self) -> Floats: ...  # noqa: D102
    @property
    def default_pos(self) -> Floats: ...  # noqa: D102
    @property
    def stiffness(self) -> Floats: ...  # noqa: D102
    @property
    def damping(self) -> Floats: ...  # noqa: D102
    @property
    def feet(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def imu_frame(self) -> str: ...  # noqa: D102
    @property
    def safety(self) -> Timeouts: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the comparison."""

    name: str
    policy_value: str
    robot_value: str
    severity: str
    """``ok``, ``warn`` (works, but look at it) or ``error`` (refused)."""
    message: str = ""
    """The exact reason where it is not ``ok``, or a remark."""

    @property
    def ok(self) -> bool:
        """Whether the policy may run as far as this row goes."""
        return self.severity != ERROR


def check_robot(contract: Contract, robot: Body, *, rate_hz: float | None = None) -> list[Finding]:
    """Compare ``contract`` with ``robot``; never raises for a mismatch, every one is a row.

    Args:
        contract: What the policy assumes.
        robot: The robot it shall run on.
        rate_hz: The rate of the control loop where that is fixed already [Hz].
    """
    findings = [_name(contract, robot), *_joints(contract, robot)]
    if all(finding.ok for finding in findings[1:]):  # the rest compares joint by joint
        findings += [
            *_limits(contract, robot),
            _action_range(contract, robot),
            *_action_box(contract),
            _default_pose(contract, robot),
            _gains(contract, robot),
            _observation(contract, robot),
        ]
    return [*findings, _rate(contract, robot, rate_hz), _imu_frame(contract, robot), _quaternion(contract)]


def refuse(findings: Sequence[Finding], subject: str) -> None:
    """Raise ValueError that begins with ``subject`` and names every finding of severity ``error``, if there is one."""
    reasons = [f"{finding.name}: {finding.message}" for finding in findings if not finding.ok]
    if reasons:
        raise ValueError(f"{subject}: {'; '.join(reasons)}")


def _name(contract: Contract, robot: Body) -> Finding:
    if contract.robot == robot.name:
        return Finding("robot", contract.robot, robot.name, OK)
    message = f"the policy was trained for robot {contract.robot!r}; this is {robot.name!r}"
    return Finding("robot", contract.robot, robot.name, ERROR, message)


def _joints(contract: Contract, robot: Body) -> list[Finding]:
    measured = contract.joints + contract.passive
    missing, extra = sorted(set(measured) - set(robot.joints)), sorted(set(robot.joints) - set(measured))
    counts = f"{len(measured)} joints", f"{len(robot.joints)} joints"
    if missing or extra:
        message = (
            f"joints differ: the robot lacks {missing}, the policy lacks {extra}; "
            f"policy: {list(measured)}; robot: {list(robot.joints)}"
        )
        return [Finding("joints", *counts, ERROR, message)]
    unmoved = sorted(set(contract.joints) & set(robot.passive))
    unused = sorted(set(contract.passive) - set(robot.passive))
    if unmoved or unused:
        message = f"the policy moves {unmoved}, which have no motor, and takes {unused} for passive, which have one"
        return [Finding("joints", *counts, ERROR, message)]
    same = measured == robot.joints
    remark = "" if same else f"mapped by name, the policy begins with {measured[0]}, the robot with {robot.joints[0]}"
    order = Finding("joint order", "its own" if not same else "the robot's", "the robot's", OK, remark)
    return [Finding("joints", *counts, OK), order]


def _limits(contract: Contract, robot: Body) -> list[Finding]:
    trained = contract.limits
    index = [robot.joints.index(joint) for joint in contract.joints]
    rows = (
        ("lower position limit", trained.pos_low, robot.pos_low, -1.0, False),
        ("upper position limit", trained.pos_high, robot.pos_high, 1.0, False),
        ("velocity limit", trained.vel, robot.vel, 1.0, True),
        ("effort limit", trained.effort, robot.effort, 1.0, True),
    )
    findings: list[Finding] = []
    for name, policy, body, sign, relative in rows:
        has = [body[i] for i in index]
        beyond = [
            f"{joint} {p:g} (robot {b:g})"
            for joint, p, b in zip(contract.joints, policy, has, strict=True)
            if sign * (p - b) > LIMIT_SLACK * (abs(b) if relative else 1.0)
        ]
        message = f"trained beyond the robot's {name}: {', '.join(beyond)}" if beyond else ""
        findings.append(Finding(name, _span(policy), _span(has), ERROR if beyond else OK, message))
    return findings


def _action_range(contract: Contract, robot: Body) -> Finding:
    """Where the extreme actions lead: beyond a limit the shield clips, which the policy should know from training."""
    law = contract.action
    name = "action range"
    if law.kind != "joint_position":
        return Finding(name, law.kind, "", OK, f"scale {_span(law.scale)}")
    most = max(map(abs, law.clip))
    ends = [
        (o - abs(b) * most, o + abs(s) * most)
        for o, s, b in zip(law.offset, law.scale, law.scale_below or law.scale, strict=True)
    ]
    index = [robot.joints.index(joint) for joint in contract.joints]
    low, high = [robot.pos_low[i] for i in index], [robot.pos_high[i] for i in index]
    values = _span([x for end in ends for x in end]), _span([*low, *high])
    outside = [j for j, o, a, b in zip(contract.joints, law.offset, low, high, strict=True) if not a <= o <= b]
    if outside:
        return Finding(name, *values, ERROR, f"the default position lies outside the robot's limits at {outside}")
    bounds = zip(contract.joints, ends, low, high, strict=True)
    reach = [j for j, e, a, b in bounds if e[0] < a - 1e-9 or e[1] > b + 1e-9]
    message = f"extreme actions pass the limits of {', '.join(reach)}; the shield clips them" if reach else ""
    return Finding(name, *values, WARN if reach else OK, message)


def _action_box(contract: Contract) -> list[Finding]:
    """What the learner assumed of the raw actions, where it tells that; a word only where the robot will hold them."""
    name = "action box"
    try:
        box = box_of(contract)
    except ValueError as error:
        return [Finding(name, str(contract.extra.get(KEY)), "", ERROR, str(error))]
    if box is None:
        return []
    held = "" if box.hold_margin is None else f"actions are held within {box.half_width + box.hold_margin:g}"
    return [Finding(name, f"±{box.half_width:g}", f"±{max(map(abs, contract.action.clip)):g}", OK, held)]


def _default_pose(contract: Contract, robot: Body) -> Finding:
    has = [robot.default_pos[robot.joints.index(joint)] for joint in contract.joints]
    away = [
        f"{j} {o:g} (robot {d:g})"
        for j, o, d in zip(contract.joints, contract.action.offset, has, strict=True)
        if abs(o - d) > POSE_SLACK
    ]
    message = f"the policy centres on another pose than STAND moves to: {', '.join(away)}" if away else ""
    return Finding("default pose", _span(contract.action.offset), _span(has), WARN if away else OK, message)


def _gains(contract: Contract, robot: Body) -> Finding:
    index = [robot.joints.index(joint) for joint in contract.joints]
    kp, kd = [robot.stiffness[i] for i in index], [robot.damping[i] for i in index]
    values = (f"kp {_span(contract.stiffness)}, kd {_span(contract.damping)}", f"kp {_span(kp)}, kd {_span(kd)}")
    negative = [
        j for j, p, d in zip(contract.joints, contract.stiffness, contract.damping, strict=True) if min(p, d) < 0
    ]
    if negative:
        return Finding("gains", *values, ERROR, f"negative gains would push the joints away: {negative}")
    far = [
        joint
        for joint, *pairs in zip(contract.joints, contract.stiffness, kp, contract.damping, kd, strict=True)
        for mine, own in (pairs[:2], pairs[2:])
        if own > 0 and not own / GAIN_RATIO <= mine <= own * GAIN_RATIO
    ]
    message = f"gains far from the robot's own at {', '.join(dict.fromkeys(far))}" if far else ""
    return Finding("gains", *values, WARN if far else OK, message)


def _observation(contract: Contract, robot: Body) -> Finding:
    """Run the contract once on a sampled state: unknown terms and wrong sizes show here."""
    name, wide = "observation", f"{len(contract.obs)} terms, {contract.obs_size} numbers"
    feet = next((term.size for term in contract.obs if term.name == "foot_contact"), None)
    if feet is not None and feet != len(robot.feet):
        return Finding(name, wide, "", ERROR, f"foot_contact is {feet} wide; the robot has the feet {list(robot.feet)}")
    try:
        states = sample_states(contract, robot.joints, 1, np.random.default_rng(0))
        obs = Observer(contract, robot.joints)(split(states)[0])
        ActionMap(contract, robot.joints)
    except ValueError as error:
        return Finding(name, wide, "", ERROR, str(error))
    estimated = [term.name for term in contract.obs if term.name == "base_lin_vel"]
    message = f"{estimated[0]} needs a driver with a state estimator" if estimated else ""
    return Finding(name, wide, f"{obs.shape[-1]} numbers", WARN if estimated else OK, message)


def _rate(contract: Contract, robot: Body, rate_hz: float | None) -> Finding:
    rate, sim = contract.rate_hz, contract.sim_rate_hz
    timeout = robot.safety.command_timeout_s
    values = f"{rate:g} Hz (physics {sim:g} Hz)", f"{rate_hz:g} Hz" if rate_hz else f"commands within {timeout:g} s"
    message = ""
    if abs(sim / rate - contract.decimation) > 1e-6 or contract.decimation < 1:
        message = f"wrong rate: the physics rate {sim:g} Hz is no whole multiple of the policy rate {rate:g} Hz"
    elif rate_hz is not None and abs(rate - rate_hz) > 1e-6 * rate_hz:
        message = f"wrong rate: the policy was trained at {rate:g} Hz, the control loop runs at {rate_hz:g} Hz"
    elif 1.0 / rate > timeout:
        message = f"wrong rate: a period of {1.0 / rate:g} s exceeds the robot's command timeout of {timeout:g} s"
    return Finding("rate", *values, ERROR if message else OK, message)


def _imu_frame(contract: Contract, robot: Body) -> Finding:
    same = contract.imu_frame == robot.imu_frame
    message = (
        "" if same else f"orientation was trained in frame {contract.imu_frame!r}; the robot gives {robot.imu_frame!r}"
    )
    return Finding("IMU frame", contract.imu_frame, robot.imu_frame, OK if same else ERROR, "" if same else message)


def _quaternion(contract: Contract) -> Finding:
    return Finding("quaternion", contract.quat_order, "xyzw", OK if contract.quat_order == "xyzw" else ERROR)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"
