"""The whole way from raw actions to joint targets: the action law, a low-pass on its targets, the joints' limits.

The low-pass is a second-order Butterworth filter, so that a policy at 20 Hz does not shake its motors (Smith et al.
2024, arXiv 2310.17634: 8 Hz). It remembers; whoever begins anew says so, and the next target starts where the joints
are, as if they had been there for ever. Without a low-pass this is the action law and nothing else.

Knows: contracts, the filter. Does not know: who acts, the shield.

Shapes: ... batch (nothing or N) · A action · J joints of the robot (its order) · n steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import pi, sqrt, tan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract.apply import ActionMap
from robot_rl.contract.arrays import Array
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import JointTarget, RobotState

Floats = NDArray[np.floating[Any]]


class Butterworth(NamedTuple):
    """Coefficients of ``y_t = b0 x_t + b1 x_{t-1} + b2 x_{t-2} - a1 y_{t-1} - a2 y_{t-2}``."""

    b0: float
    b1: float
    b2: float
    a1: float
    a2: float


def butterworth(cutoff_hz: float, rate_hz: float) -> Butterworth:
    """Return the second-order low-pass whose gain at ``cutoff_hz`` is 1/sqrt(2), by the bilinear transform."""
    if not 0.0 < cutoff_hz < rate_hz / 2.0:
        raise ValueError(f"cut-off of {cutoff_hz} Hz at {rate_hz} Hz; it must lie between 0 and half the rate")
    k = tan(pi * cutoff_hz / rate_hz)
    scale = 1.0 / (1.0 + sqrt(2.0) * k + k * k)
    b0 = k * k * scale
    return Butterworth(b0, 2.0 * b0, b0, 2.0 * (k * k - 1.0) * scale, (1.0 - sqrt(2.0) * k + k * k) * scale)


class ActionPath:
    """Turns raw actions into joint targets, one control step after the other, and targets back into actions."""

    def __init__(self, contract: Contract, joints: Sequence[str], batch: tuple[int, ...] = ()) -> None:
        """Prepare for a robot with joints in the order of ``joints``; raise ValueError where the names differ.

        Args:
            contract: The action law and its limits.
            joints: The robot's joints.
            batch: Shape of the batch; a low-pass takes one robot, (), or copies, (N,).
        """
        self.law = ActionMap(contract, joints)
        cutoff_hz = contract.action.lowpass_hz
        self._filter = butterworth(cutoff_hz, contract.rate_hz) if cutoff_hz else None
        rows = [list(joints).index(name) for name in contract.joints]
        self._low, self._high = np.full((2, len(joints)), ((-np.inf,), (np.inf,)))
        self._moved = np.isin(joints, contract.joints)
        self._low[rows], self._high[rows] = contract.limits.pos_low, contract.limits.pos_high
        self._past = np.zeros((2, *batch, len(joints)))
        """What the past adds to the next two targets (transposed direct form II), (2, ..., J)."""
        self._now = np.zeros((*batch, len(joints)))
        """What it added to the newest target, (..., J)."""
        self._fresh = np.ones(batch, dtype=np.bool_)

    def restart(self, ids: Array | None = None) -> None:
        """Begin anew: the next target starts where the joints then are; of all, or of the copies ``ids``, (n,)."""
        self._fresh[... if ids is None else ids] = True

    def target(self, action: Array, state: RobotState) -> JointTarget:
        """Return the targets of the next control step, each field (..., J); see ``ActionMap.target``.

        With a low-pass the numbers are NumPy's, and each call is one step of the filter.
        """
        target = self.law.target(action, state)
        if self._filter is None:
            return target
        f, x, fresh = self._filter, target.pos, self._fresh
        if fresh.any():
            start = np.stack(((1.0 - f.b0) * state.joint_pos, (f.b2 - f.a2) * state.joint_pos))
            self._past = np.where(fresh[..., None], start, self._past)
        self._now, self._fresh = self._past[0], np.zeros_like(fresh)
        y = f.b0 * x + self._now
        past = np.stack((f.b1 * x - f.a1 * y + self._past[1], f.b2 * x - f.a2 * y))
        self._past = np.where(np.isfinite(past), past, self._past)  # what is no number is the shield's, not the past's
        y = np.where(self._moved, y, x)
        return replace(target, pos=np.minimum(np.maximum(y, self._low), self._high))

    def action(self, target: JointTarget, state: RobotState) -> Array:
        """Return the raw action that would have given ``target`` in the step of the newest target, (..., A)."""
        if self._filter is not None:
            target = replace(target, pos=(target.pos - self._now) / self._filter.b0)
        return self.law.action(target, state)

    def snapshot(self) -> dict[str, Any]:
        """Return what the next target depends on; empty without a low-pass."""
        if self._filter is None:
            return {}
        return {"past": self._past.copy(), "now": self._now.copy(), "fresh": self._fresh.copy()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        if self._filter is not None:
            self._past, self._now = np.array(snapshot["past"]), np.array(snapshot["now"])
            self._fresh = np.array(snapshot["fresh"], dtype=np.bool_)


def targets_in_turn(contract: Contract, joints: Sequence[str], actions: Floats, states: RobotState) -> JointTarget:
    """Return the targets of consecutive actions (n, A) in states (n, ...) from a reset on, each field (n, J)."""
    if not contract.action.lowpass_hz:
        return ActionMap(contract, joints).target(actions, states)
    path = ActionPath(contract, joints, (1,))
    each = [
        path.target(actions[i : i + 1], replace(states, joint_pos=states.joint_pos[i : i + 1]))
        for i in range(len(actions))
    ]
    return JointTarget(*(np.concatenate([getattr(target, f.name) for target in each]) for f in fields(JointTarget)))
