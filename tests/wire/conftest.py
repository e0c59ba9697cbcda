"""A running robot for the wire's tests: a real control loop on the mirror driver, its station, and an operator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from robot_rl.data.transition import Mode
from robot_rl.hardware.mirror import MirrorDriver
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.clock import WallClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.run import run
from robot_rl.wire import messages as msg
from robot_rl.wire.station import Station
from robot_rl.wire.transport import Hub, Loopback

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
PATIENCE_S = 2.0
"""Command timeout of the robot here, a go2's is 0.5 s: a shared machine that stands still longer damps the robot."""


@dataclass
class Site:
    """A running robot and an operator on the same loopback."""

    loop: ControlLoop
    driver: MirrorDriver
    station: Station
    operator: Loopback
    heard: dict[str, list[Any]] = field(default_factory=dict)
    asked: int = 0

    @staticmethod
    def until(condition: Callable[[], Any], *, timeout_s: float = 10.0) -> Any:
        """Wait for a truthy value and return it."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < end, f"still {value!r} after {timeout_s} s"
            time.sleep(0.002)
        return value

    def newest(self, topic: msg.Topic[Any]) -> Any:
        """The newest message of a topic, None before the first."""
        return (self.heard.get(topic.name) or [None])[-1]

    def ask(self, kind: str, value: str = "") -> msg.RequestReply:
        """Send a request and return its reply."""
        self.asked += 1
        name = f"q{self.asked}"
        self.operator.publish(msg.REQUEST, msg.Request(id=name, kind=kind, value=value))
        replies = self.heard.setdefault(msg.REQUEST_REPLY.name, [])
        return self.until(lambda: next((r for r in replies if r.id == name), None))

    def mode(self) -> int:
        """The mode that the wire last told."""
        status = self.newest(msg.STATUS)
        return -1 if status is None else status.mode

    def drive(self) -> None:
        """Bring the robot into POLICY."""
        for mode in ("damp", "stand"):
            assert self.ask("mode", mode).ok
        self.until(lambda: self.newest(msg.STATUS).stood_up)
        assert self.ask("mode", "policy").ok
        self.until(lambda: self.mode() == Mode.POLICY)


@pytest.fixture
def site() -> Iterator[Site]:
    """A go2 on the mirror driver at 50 Hz of wall time, its station, and an operator who hears everything."""
    robot = load_robot("go2")
    robot = replace(robot, safety=replace(robot.safety, command_timeout_s=PATIENCE_S))
    policy = Policy.load(POLICIES / "go2_tiny.onnx", robot)
    clock = WallClock(policy.contract.rate_hz)
    driver = MirrorDriver(robot, now=clock.now_s)
    loop = ControlLoop(driver, policy, clock)
    hub = Hub()
    robot_side, operator = Loopback(hub), Loopback(hub)
    made = Site(loop, driver, Station(loop, robot_side), operator)
    for topic in msg.TOPICS:
        operator.subscribe(topic, made.heard.setdefault(topic.name, []).append)
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(loop, stop.is_set))
    thread.start()
    made.station.start()
    yield made
    stop.set()
    thread.join()
    made.station.close()
    operator.close()
    robot_side.close()
