"""From ticks to rows: which ticks belong to an episode, and how one ends.

An episode is a stretch of POLICY and TAKEOVER. Its last row is where it led: the fallen state (``terminated``), the
state when somebody stopped it or the clock ran out (``truncated``). A tick whose state, action or pictures cannot be
believed is no row; the row before it is the end. Before the first row of a policy with a memory an event says what it
remembered then, in each episode and after each exchange: the rest follows from the rows (``repeat``).

Knows: the row's fields, modes, reasons. Does not know: files, threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot_rl.contract.path import ActionPath
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.data.transition import WORKSPACE, Mode, Who, picture_field
from robot_rl.runtime.recorder import REMEMBERED, Recorder
from robot_rl.runtime.shield import Reason

DRIVING = frozenset({Mode.POLICY, Mode.TAKEOVER})
_FELL = int(Reason.TILT | Reason.OVERSPEED)
_STOPPED = int(Reason.ESTOP)
_UNUSABLE = int(
    Reason.STATE_INVALID | Reason.STATE_STALE | Reason.TARGET_INVALID | Reason.LINK_LOST | Reason.CAMERA_LOST
)
_STATE_FIELDS = (
    "joint_pos",
    "joint_vel",
    "joint_effort",
    "quat_xyzw",
    "ang_vel_b",
    "lin_acc_b",
    "command",
    "last_action",
)
_MAYBE_FIELDS = ("lin_vel_b", "base_pos_w", "foot_contact")


@dataclass(slots=True)
class Moment:
    """What one tick knows of itself; one instance, filled anew each tick."""

    tick: int
    policy: int
    mode: Mode
    who: Who
    reasons: int
    state: RobotState
    obs: np.ndarray
    action: np.ndarray
    policy_action: np.ndarray
    sent: JointTarget
    now_s: float
    infer_s: float
    late_s: float
    begin: float
    """``time.perf_counter`` at the tick's begin."""
    recalled: np.ndarray
    """What the policy remembered before it answered, (W,); empty without a memory."""
    pictures: Mapping[str, np.ndarray]
    """What it saw, as ``Eyes.pictures``."""


class RowLog:
    """Fills the recorder's rows and keeps track of the running episode. Control thread only."""

    def __init__(self, recorder: Recorder, path: ActionPath, *, episode_ticks: int) -> None:
        """Write to ``recorder``; an episode is cut after ``episode_ticks``."""
        self.open = False
        """An episode runs."""
        self.label = 0
        """The operator's label of the running episode."""
        self._recorder, self._path = recorder, path
        self._maybe = _MAYBE_FIELDS + tuple(name for name in WORKSPACE if name in recorder.fields)
        self._episode_ticks = episode_ticks
        self._ticks = self._policy = 0

    def add(self, now: Moment, fault: int) -> None:
        """Record one tick where it belongs to an episode.

        Args:
            now: The tick.
            fault: Why the robot last fell back to DAMP, ``Situation.fault``.
        """
        driving = now.mode in DRIVING
        if not driving and not self.open:
            return
        if now.reasons & _UNUSABLE:
            self._recorder.cut()
            self.open = False
            return
        if not self.open:
            self.open, self._ticks, self.label = True, 0, 0
        self._ticks += 1
        if driving:
            terminated = bool(now.reasons & _FELL)
            truncated = not terminated and self._ticks >= self._episode_ticks
        else:
            now.reasons |= fault
            terminated = bool(fault & _STOPPED)
            truncated = not terminated
        self.open = not (terminated or truncated)
        self._fill(now, terminated, truncated)

    def _fill(self, now: Moment, terminated: bool, truncated: bool) -> None:
        i = self._recorder.claim()
        if i < 0:
            self.open = False  # the recorder ended it at the row before
            return
        if now.recalled.size and now.mode in DRIVING and (self._ticks == 1 or now.policy != self._policy):
            self._tell_memory(now)
        self._policy = now.policy
        f, state, sent = self._recorder.fields, now.state, now.sent
        f["tick"][i] = now.tick
        f["stamp_s"][i] = state.stamp_s
        f["wall_s"][i] = time.time()
        f["policy"][i] = now.policy
        f["mode"][i] = now.mode
        f["who"][i] = now.who
        f["terminated"][i] = terminated
        f["truncated"][i] = truncated
        f["label"][i] = self.label
        f["reasons"][i] = now.reasons
        f["obs"][i] = now.obs
        f["action"][i] = now.action
        f["policy_action"][i] = now.policy_action
        f["sent_action"][i] = self._path.action(sent, state)
        f["sent_pos"][i] = sent.pos
        for name in _STATE_FIELDS:
            f[name][i] = getattr(state, name)
        for name in self._maybe:
            value = getattr(state, name)
            f[name][i] = np.nan if value is None else value
        for group, picture in now.pictures.items():
            f[picture_field(group)][i] = picture[0]
        f["state_age_s"][i] = now.now_s - state.stamp_s
        f["infer_s"][i] = now.infer_s
        f["late_s"][i] = now.late_s
        f["tick_s"][i] = time.perf_counter() - now.begin
        self._recorder.commit()

    def _tell_memory(self, now: Moment) -> None:
        """Say what the policy goes on from; float32 survives JSON exactly."""
        if np.isfinite(now.recalled).all():  # what is not goes on nowhere, and is no JSON
            name, state = f"{now.policy:016x}", now.recalled.tolist()
            self._recorder.event({"event": REMEMBERED, "tick": now.tick, "policy": name, "state": state})
