"""The operator's end of the wire: ask for modes and hear the answer, keep a command alive, see status and events.

A person's console, a script and the demo all drive a robot through this; nothing in it knows whether the robot is in
the same process, on the same machine or across a network.

Knows: requests and replies, how often a command must be repeated.
Does not know: middleware, keyboards, what the robot is.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence

import numpy as np

from robot_rl.data.transition import Mode
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.standard import stamped
from robot_rl.wire.transport import Transport

REPEAT_S = 0.05
"""A command is published this often, so that the robot knows its commander is there."""


class RefusedError(Exception):
    """The robot said no; the message is its reason."""


class Operator:
    """One commander of one robot, from construction to ``close``; the transport stays the caller's."""

    def __init__(self, transport: Transport, *, on_event: Callable[[msg.PolicyEvent], None] | None = None) -> None:
        """Listen to the robot's status, events and replies, and to its learner."""
        self.transport = transport
        self.status: msg.PolicyStatus | None = None
        """The newest status; None before the first."""
        self.learner: msg.LearnerStatus | None = None
        self.odometry: std.Odometry | None = None
        self.status_at_s = 0.0
        """When it came, on ``time.monotonic``."""
        self._replies: dict[str, msg.RequestReply] = {}
        self._news = threading.Condition()
        self._command: tuple[float, float, float] | None = None
        self._action: np.ndarray | None = None
        self._stop = threading.Event()
        self._cancels = [
            transport.subscribe(msg.STATUS, self._hear_status),
            transport.subscribe(msg.REQUEST_REPLY, self._hear_reply),
            transport.subscribe(msg.LEARNER, self._hear_learner),
            transport.subscribe(msg.ODOM, self._hear_odometry),
        ]
        if on_event is not None:
            self._cancels.append(transport.subscribe(msg.EVENT, on_event))
        for topic in (msg.REQUEST, msg.CMD_VEL, msg.ESTOP, msg.TAKEOVER_ACTION):
            transport.advertise(topic)
        self._thread = threading.Thread(target=self._repeat, name="operator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Fall silent: the robot damps after its command timeout if it was driving."""
        self._stop.set()
        self._thread.join()
        for cancel in self._cancels:
            cancel()

    def drive(self, command: Sequence[float] | None) -> None:
        """Command (v_x, v_y, yaw rate) [m/s, m/s, rad/s] until told otherwise; None falls silent."""
        self._command = None if command is None else (float(command[0]), float(command[1]), float(command[2]))

    def act(self, action: np.ndarray | None) -> None:
        """Give a person's raw action, shape (A,) in [-1, 1], for TAKEOVER until told otherwise; None falls silent."""
        self._action = None if action is None else np.array(action, np.float32)

    def estop(self, pressed: bool = True) -> None:
        """Press or let go of the e-stop; letting go moves nothing before ``ask("rearm")``."""
        self.transport.publish(msg.ESTOP, std.Bool(pressed))

    def ask(self, kind: str, value: str = "", *, timeout_s: float = 3.0) -> None:
        """Ask for something and wait for the answer.

        Raises:
            RefusedError: The robot said no.
            TimeoutError: Nobody answered.
        """
        request = msg.Request(stamped(), id=uuid.uuid4().hex, kind=kind, value=value)
        end_s = time.monotonic() + timeout_s
        with self._news:
            while request.id not in self._replies:
                self.transport.publish(msg.REQUEST, request)  # the robot answers one id once, however often it hears it
                if time.monotonic() >= end_s:
                    raise TimeoutError(f"no answer to {kind} {value!r} within {timeout_s:g} s")
                self._news.wait(0.3)
            reply = self._replies.pop(request.id)
        if not reply.ok:
            raise RefusedError(f"{kind} {value}".strip() + f" refused: {reply.reason}")

    def wait(self, until: Callable[[msg.PolicyStatus], bool], *, timeout_s: float, what: str = "status") -> None:
        """Wait for a status that satisfies ``until``; raise TimeoutError naming ``what`` otherwise."""
        end_s = time.monotonic() + timeout_s
        with self._news:
            while self.status is None or not until(self.status):
                left = end_s - time.monotonic()
                if left <= 0.0:
                    raise TimeoutError(f"waited {timeout_s:g} s for {what}; the last status is {self.status}")
                self._news.wait(left)

    def start_policy(self, *, timeout_s: float = 20.0) -> None:
        """From OFF or DAMP to the policy: damp, stand up, hand over."""
        self.wait(lambda s: True, timeout_s=timeout_s, what="a robot on the wire")
        assert self.status is not None
        if self.status.mode == Mode.OFF:
            self.ask("mode", "damp")
        self.ask("mode", "stand")
        self.wait(lambda s: s.mode == Mode.STAND and s.stood_up, timeout_s=timeout_s, what="the robot to stand")
        self.ask("mode", "policy")
        self.wait(lambda s: s.mode == Mode.POLICY, timeout_s=timeout_s, what="the policy to drive")

    # -- details --

    def _repeat(self) -> None:
        while not self._stop.wait(REPEAT_S):
            command, action = self._command, self._action
            if command is not None:
                x, y, yaw = command
                self.transport.publish(msg.CMD_VEL, std.Twist(std.Vector3(x, y, 0.0), std.Vector3(0.0, 0.0, yaw)))
            if action is not None:
                self.transport.publish(msg.TAKEOVER_ACTION, msg.TakeoverAction(stamped(), action))

    def _hear_status(self, status: msg.PolicyStatus) -> None:
        with self._news:
            self.status, self.status_at_s = status, time.monotonic()
            self._news.notify_all()

    def _hear_reply(self, reply: msg.RequestReply) -> None:
        with self._news:
            self._replies[reply.id] = reply
            while len(self._replies) > 64:
                del self._replies[next(iter(self._replies))]
            self._news.notify_all()

    def _hear_learner(self, status: msg.LearnerStatus) -> None:
        self.learner = status

    def _hear_odometry(self, odometry: std.Odometry) -> None:
        self.odometry = odometry
