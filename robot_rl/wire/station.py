"""The one bridge between a control loop and a wire: publishes what happens, passes on what is asked.

Both ``robot-rl run`` and the ROS node use it. It runs on threads of its own and touches the loop only through its
letter box (``loop.requests``), its snapshots (``loop.latest``, ``loop.status()``) and its events, so that no wire
can make a tick late.

Knows: topics, requests and their replies, how often to publish.
Does not know: middleware, the control thread, where policies come from.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.modes import Request as Ask
from robot_rl.wire import messages as msg
from robot_rl.wire import report
from robot_rl.wire import standard as std
from robot_rl.wire.standard import stamped
from robot_rl.wire.transport import Transport

log = logging.getLogger(__name__)

STATUS_S, DIAGNOSTICS_S = 0.1, 1.0
REPLY_TICKS = 2
"""A request that changed nothing and was not refused after this many ticks was granted before."""
REPLY_S = 1.0
"""A loop that does not tick for so long answers nobody."""

_MODES = {"off": Ask.OFF, "damp": Ask.DAMP, "stand": Ask.STAND, "policy": Ask.POLICY}
_TAKEOVER = {"on": Ask.TAKEOVER, "off": Ask.POLICY}
_LABELS = {"success": 1, "failure": -1, "none": 0}
_TWIST: dict[str, Callable[[std.Twist], float]] = {
    "lin_vel_x": lambda t: t.linear.x,
    "lin_vel_y": lambda t: t.linear.y,
    "lin_vel_z": lambda t: t.linear.z,
    "ang_vel_x": lambda t: t.angular.x,
    "ang_vel_y": lambda t: t.angular.y,
    "ang_vel_z": lambda t: t.angular.z,
}
"""What of a twist each command of a contract means."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that the loop has not answered."""

    id: str
    tick: int
    since_s: float


class Station:
    """Joins a loop to a transport, from ``start`` to ``close``; the transport stays the caller's."""

    def __init__(
        self,
        loop: ControlLoop,
        transport: Transport,
        *,
        stamped_command: bool = False,
        on_event: Callable[[msg.PolicyEvent], None] | None = None,
        handlers: Mapping[str, Callable[[str], None]] | None = None,
    ) -> None:
        """Prepare; nothing is sent or heard before ``start``.

        Args:
            loop: The loop; this becomes the only reader of its events.
            transport: Where to speak.
            stamped_command: Whether ``cmd_vel`` is a TwistStamped instead of a Twist.
            on_event: Also called with every event, on the station's thread.
            handlers: Requests that something else than the loop answers, by kind, such as ``lift`` of a twin; each
                gets the request's value, on the transport's thread, and raises ValueError to refuse.
        """
        self.loop, self.transport = loop, transport
        self.estop_pressed = False
        """What the e-stop topic last said; while true, nobody re-arms."""
        self.counts = {"swaps": 0, "rollbacks": 0, "refusals": 0}
        self._stamped_command, self._on_event = stamped_command, on_event
        self._handlers = {"label": self._label, "explore": self._explore, **(handlers or {})}
        self._robot = loop.driver.robot
        self._cancels: list[Callable[[], None]] = []
        self._waiting: dict[str, _Waiting] = {}
        self._answered: dict[str, msg.RequestReply] = {}
        self._lock = threading.Lock()  # between the transport's thread and ours: _waiting, _answered
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="station", daemon=True)
        self._seen = -1
        self._health = (0, 0)
        self._due = {"status": 0.0, "diagnostics": 0.0}

    def start(self) -> None:
        """Announce every topic, subscribe, and publish from now on."""
        for topic in (msg.JOINT_STATES, msg.IMU, msg.ODOM, msg.JOINT_TARGETS, msg.STATUS, msg.EVENT, msg.CONTRACT):
            self.transport.advertise(topic)
        self.transport.advertise(msg.REQUEST_REPLY)
        self.transport.advertise(msg.DIAGNOSTICS)
        self._publish_contract()
        hear = self.transport.subscribe
        self._cancels += [
            hear(msg.ESTOP, self._hear_estop),
            hear(msg.ESTOP_VOLATILE, self._hear_estop),
            hear(msg.REQUEST, self._hear_request),
            hear(msg.TAKEOVER_ACTION, self._hear_action),
            hear(msg.OFFER, self._hear_offer),
        ]
        names = self.loop.swap.live.contract.command.names
        if all(name in _TWIST for name in names):
            if self._stamped_command:
                self._cancels.append(hear(msg.CMD_VEL_STAMPED, lambda m: self._hear_twist(m.twist)))
            else:
                self._cancels.append(hear(msg.CMD_VEL, self._hear_twist))
        self._thread.start()

    def close(self) -> None:
        """Stop listening, publish the last word, leave the transport open."""
        for cancel in self._cancels:
            cancel()
        self._cancels.clear()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            try:
                self._publish_events()
                self._publish_status()
            except ConnectionError as error:
                log.warning("the last status was not sent: %s", error)

    # -- the transport's thread ---------------------------------------------------------------------------------------

    def _hear_twist(self, twist: std.Twist) -> None:
        names = self.loop.swap.live.contract.command.names
        self.loop.requests.command([_TWIST[name](twist) for name in names])

    def _hear_action(self, message: msg.TakeoverAction) -> None:
        self.loop.requests.human(message.action)

    def _hear_estop(self, message: std.Bool) -> None:
        """Press on true; false only lets go of the button, and the robot stays down until a rearm."""
        self.estop_pressed = message.data
        if message.data:
            self.loop.requests.estop("estop topic")

    def _hear_offer(self, offer: msg.PolicyOffer) -> None:
        path = Path(offer.uri.removeprefix("file://"))
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            self._refuse_offer(offer, f"{path} cannot be read: {error.strerror}")
            return
        if found != offer.sha256:
            self._refuse_offer(offer, f"{path} has SHA-256 {found[:12]}…, the offer says {offer.sha256[:12]}…")
            return
        self.loop.requests.offer(path)

    def _refuse_offer(self, offer: msg.PolicyOffer, reason: str) -> None:
        event = {"event": "swap_refused", "stage": "offer", "path": offer.uri, "reason": reason}
        self._publish_event({**event, "tick": self.loop.latest.tick})

    def _hear_request(self, request: msg.Request) -> None:
        with self._lock:
            known, why = self._answered.get(request.id), f"request {request.id}"
            if why in self._waiting:
                return
        if known is not None:
            self.transport.publish(msg.REQUEST_REPLY, known)
            return
        try:
            answer_now = self._pass_on(request, why)
        except ValueError as error:
            self._reply(request.id, str(error))
            return
        if answer_now:
            self._reply(request.id, "")

    def _pass_on(self, request: msg.Request, why: str) -> bool:
        """Give a request to the loop; return whether that was all, else an event will tell.

        Raises:
            ValueError: The request is not understood or cannot be granted.
        """
        if request.kind in self._handlers:
            self._handlers[request.kind](request.value)
            return True
        if request.kind == "mode":
            ask = _choose("mode", request.value, _MODES)
        elif request.kind == "takeover":
            ask = _choose("takeover", request.value, _TAKEOVER)
        else:
            others = dict.fromkeys((*self._handlers, "mode", "takeover"))  # for the list of choices only
            ask = _choose("request", request.kind, {"estop": Ask.ESTOP, "rearm": Ask.REARM, **others})
        if ask is Ask.REARM and self.estop_pressed:
            raise ValueError("the e-stop is still pressed: publish false on the topic 'estop' first")
        with self._lock:
            self._waiting[why] = _Waiting(request.id, self.loop.latest.tick, time.monotonic())
        try:
            self.loop.requests.ask(ask, why)
        except ValueError:
            with self._lock:
                self._waiting.pop(why, None)
            raise
        return False

    def _label(self, value: str) -> None:
        self.loop.requests.label(_choose("label", value, _LABELS))

    def _explore(self, value: str) -> None:
        self.loop.requests.explore(_number("explore", value))

    # -- the station's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Publish every new tick, and the slower topics when they are due."""
        period_s = min(0.05, self.loop.clock.period_s)
        while not self._stop.wait(period_s):
            try:
                tick = self.loop.latest.tick  # before the events: what this tick said is then among them
                self._publish_events()
                self._publish_tick()
                self._answer_overdue(tick)
                now_s = time.monotonic()
                if now_s >= self._due["status"]:
                    self._due["status"] = now_s + STATUS_S
                    self._publish_status()
                if now_s >= self._due["diagnostics"]:
                    self._due["diagnostics"] = now_s + DIAGNOSTICS_S
                    self._publish_diagnostics()
            except ConnectionError as error:
                log.warning("the wire did not take a message: %s", error)

    def _publish_tick(self) -> None:
        tick = self.loop.latest
        if tick.tick == self._seen:
            return
        self._seen = tick.tick
        age_s = max(0.0, self.loop.clock.now_s() - float(tick.state.stamp_s))
        header = stamped(report.BASE_FRAME, wall_s=time.time() - (age_s if age_s < 60.0 else 0.0))
        publish = self.transport.publish
        publish(msg.JOINT_STATES, report.joint_state(tick, self._robot, header))
        publish(msg.IMU, report.imu(tick, replace(header, frame_id=self._robot.imu_frame)))
        odometry = report.odometry(tick, replace(header, frame_id=report.ODOM_FRAME))
        if odometry is not None:
            publish(msg.ODOM, odometry)
        publish(msg.JOINT_TARGETS, report.joint_targets(tick, self._robot, header))

    def _publish_status(self) -> None:
        self.transport.publish(msg.STATUS, report.policy_status(self.loop.status(), self.counts, stamped()))

    def _publish_diagnostics(self) -> None:
        status = self.loop.status()
        overruns, drops = self._health
        self._health = (status.overruns, status.drops)
        health = {"new_overruns": status.overruns - overruns, "new_drops": status.drops - drops}
        self.transport.publish(msg.DIAGNOSTICS, report.diagnostics(status, stamped(), **health))

    def _publish_contract(self) -> None:
        self.transport.publish(msg.CONTRACT, std.String(self.loop.swap.live.contract.to_json()))

    def _publish_events(self) -> None:
        while (event := self.loop.events.take()) is not None:
            self._answer(event)
            self._publish_event(event)
            if event["event"] in ("swap", "swap_rolled_back"):
                self._publish_contract()
            if event["event"] in ("mode", "estop", "rearm"):
                self._due["status"] = 0.0  # a change of mode is told at once

    def _publish_event(self, event: dict[str, Any]) -> None:
        counter = {"swap": "swaps", "swap_rolled_back": "rollbacks", "swap_refused": "refusals"}.get(event["event"])
        if counter is not None:
            self.counts[counter] += 1
        message = report.policy_event(event, stamped())
        self.transport.publish(msg.EVENT, message)
        if self._on_event is not None:
            self._on_event(message)

    def _answer(self, event: dict[str, Any]) -> None:
        """Reply to the request that an event is about, if it is about one."""
        with self._lock:
            waiting = self._waiting.pop(str(event.get("why")), None)
        if waiting is not None:
            refused = event["event"] == "request_refused"
            self._reply(waiting.id, str(event["reason"]) if refused else "")

    def _answer_overdue(self, tick: int) -> None:
        """Reply where the loop had nothing to say by ``tick``: granted before, or the loop does not tick."""
        now_s = time.monotonic()
        with self._lock:
            quiet = [why for why, w in self._waiting.items() if tick > w.tick + REPLY_TICKS]
            dead = [why for why, w in self._waiting.items() if now_s > w.since_s + REPLY_S and why not in quiet]
            granted = [self._waiting.pop(why).id for why in quiet]
            lost = [self._waiting.pop(why).id for why in dead]
        for name in granted:
            self._reply(name, "")
        for name in lost:
            self._reply(name, f"the control loop did not tick for {REPLY_S:g} s")

    def _reply(self, request: str, refusal: str) -> None:
        reply = msg.RequestReply(stamped(), id=request, ok=not refusal, reason=refusal)
        with self._lock:
            self._answered[request] = reply
            while len(self._answered) > 64:
                del self._answered[next(iter(self._answered))]
        self.transport.publish(msg.REQUEST_REPLY, reply)


def _choose(what: str, value: str, choices: dict[str, Any]) -> Any:
    if value not in choices:
        raise ValueError(f"no {what} {value!r}; the choices are {sorted(choices)}")
    return choices[value]


def _number(what: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{what} is {value!r}; expected a number") from None
