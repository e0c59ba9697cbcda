"""The control loop: read, decide, act, limit, write, record, at a fixed rate, for as long as the robot runs.

The control thread takes no lock, writes no log, waits for nobody. Orders come in through mailboxes, rows and events
leave through rings, and everyone else reads ``latest`` and ``status()``.

Knows: everything the runtime is made of. Does not know: transports, files, which robot or policy.

Shapes: D observation · A action · J joints · K command.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from robot_rl.contract.apply import Observer
from robot_rl.contract.path import ActionPath
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.data.transition import Mode, Who
from robot_rl.hardware.camera import Camera
from robot_rl.hardware.driver import Driver, damp_target, empty_target
from robot_rl.runtime.clock import Clock
from robot_rl.runtime.explorer import Explorer
from robot_rl.runtime.eyes import Eyes
from robot_rl.runtime.mailbox import Inbox
from robot_rl.runtime.modes import MOVING, Request, Situation, names, step
from robot_rl.runtime.orders import NEVER, Orders
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.probe import Probe
from robot_rl.runtime.recorder import Recorder
from robot_rl.runtime.rows import DRIVING, Moment, RowLog
from robot_rl.runtime.shield import Reason, Shield
from robot_rl.runtime.stand import Stand
from robot_rl.runtime.status import Status
from robot_rl.runtime.swap import Swap, SwapConfig
from robot_rl.runtime.takeover import RAMP_S, Takeover
from robot_rl.runtime.ticks import TickLog

_LOST, _LINK, _NO_TARGET = int(Reason.COMMANDER_LOST), int(Reason.LINK_LOST), int(Reason.TARGET_INVALID)
_BLIND = int(Reason.CAMERA_LOST)


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How a loop behaves where the robot and the contract leave a choice."""

    episode_s: float = 60.0
    """Longest episode; the next one follows without a pause."""
    ramp_s: float = RAMP_S
    """Time of a take-over or a hand-back."""
    on_command_loss: Literal["damp", "zero"] = "damp"
    """What POLICY does when a source of commands falls silent; a lost person in TAKEOVER always means DAMP."""
    explore: float = 0.0
    """Deviation of exploration noise on the policy's action, in [0, 0.5]; ``requests.explore`` changes it."""
    explore_seed: int = 0
    gsde: bool = False
    """Whether the policy explores with its own gSDE noise, drawn from ``explore_seed``."""
    gsde_every: int | None = None
    """Ticks between draws of gSDE's matrix; None is what the policy was trained with."""
    swap: SwapConfig = field(default_factory=SwapConfig)
    camera_timeout_s: float = 0.5
    """Age of a camera's newest picture beyond which the policy must not go on [s]."""


class Tick(NamedTuple):
    """What the newest tick did; immutable, its arrays are not written again."""

    tick: int
    mode: Mode
    who: Who
    reasons: int
    state: RobotState
    action: np.ndarray
    sent: JointTarget
    policy: int


class ControlLoop:
    """One robot's loop. ``tick`` runs one tick; ``robot_rl.runtime.run.run`` runs them on time."""

    def __init__(
        self,
        driver: Driver,
        policy: Policy,
        clock: Clock,
        recorder: Recorder | None = None,
        *,
        cameras: Sequence[Camera] = (),
        config: LoopConfig | None = None,
    ) -> None:
        """Join the parts; driver and eyes must be connected before the first tick.

        Raises:
            ValueError: The clock's rate is not the policy's, it shall explore and cannot, or see and has no camera.
        """
        contract, robot, config = policy.contract, driver.robot, config or LoopConfig()
        if not math.isclose(clock.period_s * contract.rate_hz, 1.0, rel_tol=1e-6):
            raise ValueError(f"clock ticks at {1 / clock.period_s:g} Hz; the policy's rate is {contract.rate_hz:g} Hz")
        self.driver, self.clock, self.recorder, self.config = driver, clock, recorder, config
        self.swap = Swap(policy, self._load, period_s=clock.period_s, config=config.swap)
        self.requests = Orders(contract, self.swap.offer)
        """Everything that may be asked of the loop, from any thread."""
        self.situation = Situation()
        self.events: Inbox[dict[str, Any]] = Inbox(256)
        """What happened, for an operator's display; the recorder gets the same."""
        self.takeover = Takeover(contract.num_actions, period_s=clock.period_s, ramp_s=config.ramp_s)
        self.explorer: Explorer | None = None
        """Draws gSDE's noise; None where the policy does what it thinks best."""
        if config.gsde:
            self.explorer = Explorer(policy, seed=config.explore_seed, every=config.gsde_every)
        self.probe = Probe(contract.num_actions, std=config.explore, seed=config.explore_seed)
        self.ticks = TickLog()
        self.shield = Shield(robot)
        self.eyes = Eyes(contract.images, cameras, timeout_s=config.camera_timeout_s)
        """What the policy sees through; nothing where its contract names no camera."""
        self._observer = Observer(contract, robot.joints)
        self._path = ActionPath(contract, robot.joints)
        self._stand = Stand(robot)
        self._damp, self._off = damp_target(robot), empty_target(robot)
        self._sent: JointTarget | None = None
        self._state = _unknown_state(len(robot.joints))
        self._zero_action = np.zeros(contract.num_actions, np.float32)
        self._last_action = self._policy_action = self._zero_action
        self._obs = np.zeros(contract.obs_size, np.float32)
        self._tick = self._faults = self._beyond = self._blind = 0
        self._infer_s, self._why = 0.0, ""
        self._command_timeout_s = robot.safety.command_timeout_s
        episode_ticks = max(2, round(config.episode_s / clock.period_s))
        if recorder is not None and self.explorer is not None:
            recorder.about = self.explorer.about
        self._rows = None if recorder is None else RowLog(recorder, self._path, episode_ticks=episode_ticks)
        self.latest = Tick(0, Mode.OFF, Who.NONE, 0, self._state, self._zero_action, self._off, policy.fingerprint)

    def tick(self, late_s: float = 0.0) -> None:
        """Run one tick; ``late_s`` is how late it begins, for the record."""
        begin, now_s = time.perf_counter(), self.clock.now_s()
        state, link = self._read()
        if self.situation.mode in MOVING:
            self.eyes.look(now_s)
        self._choose_mode(state, now_s)
        mode, live = self.situation.mode, self.swap.live
        action, who = self._act(state, mode)
        target = self._target(action, state, mode, now_s)
        target, found = self.shield.limit(state, target, self._sent, dt_s=self.clock.period_s, now_s=now_s)
        sent, link = self._write(target, link)
        reasons = int(found) | link | self._beyond | self._blind
        self._faults = self._watch(mode, who, reasons) & ~_BLIND
        self._sent = sent
        if not reasons & _NO_TARGET:  # what is not finite must not come back as an observation
            self._last_action = action
        self.latest = Tick(self._tick, mode, who, reasons, state, action, sent, live.fingerprint)
        if self._rows is not None:
            moment = Moment(
                self._tick, live.fingerprint, mode, who, reasons, state, self._obs, action, self._policy_action, sent,
                now_s, self._infer_s, late_s, begin, live.recalled, self.eyes.pictures,
            )  # fmt: skip
            self._rows.add(moment, int(self.situation.fault))
        self._pass_events()
        self._tick += 1
        self.ticks.add(time.perf_counter() - begin, late_s)

    def status(self) -> Status:
        """Return a snapshot; for any thread but the control thread."""
        latest, situation, live = self.latest, self.situation, self.swap.live
        return Status(
            tick=latest.tick,
            mode=situation.mode,
            estopped=situation.estopped,
            fault=situation.fault,
            stood_up=situation.mode is Mode.STAND and self._stand.finished(self.clock.now_s()),
            who=latest.who,
            reasons=Reason(latest.reasons),
            command=tuple(self.requests.command_now.tolist()),
            policy=live.bundle.file_sha256,
            policy_path=str(live.path),
            swap=self.swap.stage,
            latency=self.ticks.summary(),
            overruns=self.clock.overruns,
            drops=0 if self.recorder is None else self.recorder.drops,
            period_s=self.clock.period_s,
        )

    def damp(self) -> None:
        """Send the DAMP target now, outside a tick; what ``run`` does last."""
        self._sent = self.driver.write(self._damp)

    def _load(self, path: Path) -> Policy:
        policy = Policy.load(path, self.driver.robot)
        if self.explorer is not None:
            self.explorer.check(policy)
        return policy

    def _read(self) -> tuple[RobotState, int]:
        """Return the newest state, the old one where the link is down, and the finding."""
        try:
            state, link = self.driver.read(), 0
        except ConnectionError:
            state, link = replace(self._state), _LINK
        self._state = state
        return state, link

    def _write(self, target: JointTarget, link: int) -> tuple[JointTarget, int]:
        try:
            return self.driver.write(target), link
        except ConnectionError:
            return target, link | _LINK

    def _choose_mode(self, state: RobotState, now_s: float) -> None:
        """Hear what is asked, find out who fell silent, and settle the mode of this tick."""
        orders, was = self.requests, self.situation.mode
        orders.listen(now_s)
        faults = self._faults | self._silence(now_s)
        stood_up = was is Mode.STAND and self._stand.finished(now_s)
        before = self.situation
        self._blind = _BLIND if self.eyes.lost else 0
        self.situation, _ = step(before, None, faults=faults | (self._blind if was is Mode.POLICY else 0))
        if self.situation is not before:
            self._enter(was, state, now_s, names(faults | self._blind))
        while (asked := orders.next_request()) is not None:
            request, why = asked
            if request is Request.POLICY and self._blind:
                self._tell("request_refused", request=request.value, why=why, reason="POLICY must wait: CAMERA_LOST")
                continue
            before = self.situation
            self.situation, refusal = step(before, request, faults=faults, stood_up=stood_up)
            if refusal:
                self._tell("request_refused", request=request.value, why=why, reason=refusal)
            elif request in (Request.ESTOP, Request.REARM):
                self._tell(request.value, why=why)
            if self.situation.mode is not before.mode:
                self._enter(before.mode, state, now_s, why)
        self.swap.at_boundary(driving=self.situation.mode in DRIVING)

    def _silence(self, now_s: float) -> int:
        """Return COMMANDER_LOST where whoever commands has been silent too long."""
        mode, orders, limit_s = self.situation.mode, self.requests, self._command_timeout_s
        if mode is Mode.TAKEOVER:
            return _LOST if now_s - orders.human_since_s > limit_s else 0
        if orders.command_since_s == NEVER or now_s - orders.command_since_s <= limit_s:
            return 0
        if self.config.on_command_loss == "zero":
            orders.forget_command()
            return 0
        return _LOST if mode is Mode.POLICY else 0

    def _enter(self, was: Mode, state: RobotState, now_s: float, why: str) -> None:
        """Do what the change of mode from ``was`` needs."""
        mode = self.situation.mode
        self._why = why
        self._tell("mode", **{"from": was.name, "to": mode.name, "why": why})
        if mode is Mode.STAND:
            held = self._sent is not None and bool((self._sent.stiffness > 0).any())
            self._stand.begin(self._sent.pos if held and self._sent is not None else state.joint_pos, now_s)
            self.requests.forget_command()
        elif mode is Mode.POLICY and was is Mode.STAND:
            self._observer.reset()
            self._path.restart()
            self.swap.forget()
            self.takeover.reset()
            self.probe.reset()
            self._last_action = self._zero_action
        elif mode is Mode.TAKEOVER:
            self.requests.expect_human(now_s)
        if mode not in DRIVING and (span := self.takeover.close()) is not None:
            self._tell(
                "span", who=span.who.name, why=span.why, first=span.first_tick, ticks=span.ticks, gap=span.gap_mean
            )

    def _act(self, state: RobotState, mode: Mode) -> tuple[np.ndarray, Who]:
        """Return the raw action of whoever drives, shape (A,), and who that is."""
        self._beyond = 0
        if mode not in DRIVING:
            if self._rows is not None and self._rows.open:  # the last row of an episode shows where it led
                self._observe(state)
            return self._last_action, Who.NONE if mode is Mode.OFF else Who.RUNTIME
        begin = time.perf_counter()
        self._observe(state)
        live = self.swap.live
        xi = self.explorer and self.explorer(live, self._tick)
        self._policy_action = live.infer(self._obs, xi, pictures=self.eyes.pictures)
        self._infer_s = time.perf_counter() - begin
        self.swap.shadow(self._obs, self._policy_action, self.eyes.pictures)
        wish = self.probe(self._policy_action)
        if live.box is not None:
            wish, beyond = live.box.hold(wish)
            self._beyond = int(Reason.BEYOND_BOX) if beyond and mode is Mode.POLICY else 0
        return self.takeover.blend(
            wish, self.requests.human_now, engaged=mode is Mode.TAKEOVER, tick=self._tick, why=self._why
        )

    def _observe(self, state: RobotState) -> None:
        state.command, state.last_action = self.requests.command_now, self._last_action
        self._obs = self._observer(state)

    def _target(self, action: np.ndarray, state: RobotState, mode: Mode, now_s: float) -> JointTarget:
        """Return what the mode wants of the joints, before the shield."""
        if mode in DRIVING:
            return self._path.target(action, state)
        return self._stand.target(now_s) if mode is Mode.STAND else self._damp if mode is Mode.DAMP else self._off

    def _watch(self, mode: Mode, who: Who, reasons: int) -> int:
        """Return the faults of this tick; a bad target of a policy that was just rolled back is none."""
        if mode is Mode.POLICY and who is Who.POLICY and self.swap.watch(reasons):
            return reasons & ~_NO_TARGET
        return reasons

    def _pass_events(self) -> None:
        """Hand on what the swap has to say, and a label that was given."""
        while (event := self.swap.events.take()) is not None:
            self._emit(event)
        std = self.requests.next_explore()
        if std is not None:
            self.probe.std = std
            self._tell("explore", std=std)
        label = self.requests.next_label()
        if label is not None:
            if self._rows is not None:
                self._rows.label = label
            self._emit({"event": "label", "label": label})

    def _tell(self, event: str, **detail: Any) -> None:
        self._emit({"event": event, **detail})

    def _emit(self, event: dict[str, Any]) -> None:
        """Give an event to the operator's display and to the recorder, with the number of the tick."""
        event["tick"] = self._tick
        self.events.put(event)
        if self.recorder is not None:
            self.recorder.event(event)


def _unknown_state(joints: int) -> RobotState:
    """Return what is known before the first measurement: nothing, which the shield calls STATE_INVALID."""
    nan = np.full(joints, np.nan)
    three, empty = np.full(3, np.nan), np.zeros(0)
    return RobotState(math.nan, nan, nan, nan, np.full(4, np.nan), three, three, empty, empty)
