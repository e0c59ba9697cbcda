"""What every transport promises, checked on each: the loopback, Cyclone DDS, and ROS where rclpy is installed."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.transport import Hub, Loopback, Transport, open_transport, resolve

Make = Callable[..., Transport]
_NUMBERS = iter(range(100))


def until(condition: Callable[[], Any], *, timeout_s: float = 10.0) -> Any:
    """Wait for a truthy value and return it; fail with what was there instead."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {timeout_s} s"
        time.sleep(0.005)
    return value


@pytest.fixture(params=["loopback", "dds", "ros"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make participants of one wire that see each other and nobody else."""
    made: list[Transport] = []
    wire, hub = request.param, Hub()
    if wire == "dds":
        pytest.importorskip("cyclonedds")
        monkeypatch.setenv("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if wire == "ros" and importlib.util.find_spec("rclpy") is None:
        pytest.skip("rclpy is not installed")
    space = f"t{os.getpid()}_{next(_NUMBERS)}"  # one namespace per test: nothing latched crosses over

    def join(namespace: str = space) -> Transport:
        node = f"node_{len(made)}"
        transport = Loopback(hub, namespace=namespace) if wire == "loopback" else None
        made.append(transport or open_transport(wire, node=node, namespace=namespace))
        return made[-1]

    yield join
    for transport in made:
        transport.close()


def pair(make: Make, topic: msg.Topic[Any]) -> tuple[Transport, list[Any]]:
    """Return a publisher that has found one subscriber, and what that one receives."""
    a, b, got = make(), make(), []
    b.subscribe(topic, got.append)
    a.advertise(topic)
    until(lambda: a.readers(topic) == 1)
    return a, got


def test_a_message_arrives_as_it_was_sent(make: Make) -> None:
    """Strings, NaN, empty and full arrays arrive unchanged, and cannot be written to."""
    a, got = pair(make, msg.JOINT_STATES)
    sent = std.JointState(std.stamped("base"), ("hip", "é"), np.array([1.5, np.nan]), effort=np.arange(2.0))
    a.publish(msg.JOINT_STATES, sent)
    received = until(lambda: got)[0]
    assert received == sent
    assert received is not sent
    with pytest.raises(ValueError, match="read-only"):
        received.position[0] = 0.0


def test_the_sender_may_reuse_its_arrays(make: Make) -> None:
    """What the sender does to an array after publishing does not reach the receiver."""
    a, got = pair(make, msg.JOINT_STATES)
    position = np.zeros(3)
    a.publish(msg.JOINT_STATES, std.JointState(position=position))
    position[:] = 9.0
    assert until(lambda: got)[0].position.tolist() == [0.0, 0.0, 0.0]


def test_order_is_kept_and_nothing_is_lost_within_the_queue(make: Make) -> None:
    """Sixteen requests in a row arrive in order: the depth of the queue."""
    a, got = pair(make, msg.REQUEST)
    for i in range(msg.QUEUE.depth):
        a.publish(msg.REQUEST, msg.Request(id=str(i), kind="estop"))
    until(lambda: len(got) == msg.QUEUE.depth)
    assert [r.id for r in got] == [str(i) for i in range(msg.QUEUE.depth)]


def test_a_slow_reader_gets_the_newest_command(make: Make) -> None:
    """With a queue of one, a reader that was busy sees the last command, and the writer never waits for it."""
    a, b, got, release = make(), make(), [], threading.Event()

    def slowly(twist: std.Twist) -> None:
        got.append(twist.linear.x)
        release.wait(5.0)

    b.subscribe(msg.CMD_VEL, slowly)
    a.advertise(msg.CMD_VEL)
    until(lambda: a.readers(msg.CMD_VEL) == 1)
    a.publish(msg.CMD_VEL, std.Twist(std.Vector3(0.0)))
    until(lambda: got)
    began = time.monotonic()
    for i in range(1, 51):
        a.publish(msg.CMD_VEL, std.Twist(std.Vector3(float(i))))
    assert time.monotonic() - began < 1.0
    time.sleep(0.2)
    release.set()
    until(lambda: got[-1] == 50.0)
    assert len(got) < 10


def test_a_late_joiner_gets_what_was_latched(make: Make) -> None:
    """Status is there for those who come later; a twist is not."""
    a, late, got = make(), make(), []
    a.publish(msg.STATUS, msg.PolicyStatus(tick=1))
    a.publish(msg.STATUS, msg.PolicyStatus(tick=2, reasons=("tilt",)))
    a.publish(msg.CMD_VEL, std.Twist(std.Vector3(1.0)))
    late.subscribe(msg.CMD_VEL, got.append)
    late.subscribe(msg.STATUS, got.append)
    until(lambda: got)
    time.sleep(0.3)
    assert [(m.tick, m.reasons) for m in got] == [(2, ("tilt",))]


def test_a_late_joiner_gets_as_much_history_as_the_depth(make: Make) -> None:
    """Events keep the last thirty-two."""
    a, late, got = make(), make(), []
    for i in range(40):
        a.publish(msg.EVENT, msg.PolicyEvent(kind="mode", tick=i))
    late.subscribe(msg.EVENT, got.append)
    until(lambda: len(got) == msg.LOG.depth)
    assert [m.tick for m in got] == list(range(8, 40))


def test_the_emergency_stop_reaches_early_and_late_and_is_heard_from_a_volatile_writer(make: Make) -> None:
    """A robot subscribes twice: for the latched stop of a console, and for ``ros2 topic pub``, which keeps nothing."""
    console, robot, got = make(), make(), []
    console.publish(msg.ESTOP, std.Bool(True))
    robot.subscribe(msg.ESTOP, got.append)
    until(lambda: got == [std.Bool(True)])
    plain, robot_2, heard = make(), make(), []
    robot_2.subscribe(msg.ESTOP_VOLATILE, heard.append)
    shell = replace(msg.ESTOP, offered=msg.QUEUE)
    plain.advertise(shell)
    until(lambda: plain.readers(shell) >= 1)
    plain.publish(shell, std.Bool(True))
    until(lambda: std.Bool(True) in heard)


def test_namespaces_part_robots(make: Make) -> None:
    """Robots of two namespaces share names but not messages; a leading slash is absolute."""
    assert resolve("a/b", "/go2/") == "/go2/a/b"
    assert resolve("/diagnostics", "go2") == "/diagnostics"
    a, b, got = make("left"), make("right"), []
    b.subscribe(msg.STATUS, got.append)
    b.subscribe(msg.DIAGNOSTICS, got.append)
    a.publish(msg.STATUS, msg.PolicyStatus())
    a.advertise(msg.DIAGNOSTICS)
    until(lambda: a.readers(msg.DIAGNOSTICS) == 1)
    a.publish(msg.DIAGNOSTICS, std.DiagnosticArray())
    until(lambda: got)
    time.sleep(0.2)
    assert got == [std.DiagnosticArray()]
    assert a.readers(msg.STATUS) == 0


def test_a_cancelled_subscription_is_silent(make: Make) -> None:
    """After cancelling, nothing arrives and the publisher knows; the other subscription goes on."""
    a, b, kept, gone = make(), make(), [], []
    b.subscribe(msg.REQUEST, kept.append)
    cancel = b.subscribe(msg.REQUEST, gone.append)
    a.advertise(msg.REQUEST)
    until(lambda: a.readers(msg.REQUEST) == 2)
    cancel()
    cancel()
    until(lambda: a.readers(msg.REQUEST) == 1)
    a.publish(msg.REQUEST, msg.Request(id="1"))
    until(lambda: kept)
    assert gone == []


def test_a_failing_subscriber_is_logged_and_lives_on(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises is logged with the topic; the next message still arrives."""
    a, b, got = make(), make(), []

    def fail_once(request: msg.Request) -> None:
        got.append(request.id)
        if len(got) == 1:
            raise RuntimeError("deliberate")

    b.subscribe(msg.REQUEST, fail_once)
    a.advertise(msg.REQUEST)
    until(lambda: a.readers(msg.REQUEST) == 1)
    with caplog.at_level(logging.ERROR):
        a.publish(msg.REQUEST, msg.Request(id="1"))
        a.publish(msg.REQUEST, msg.Request(id="2"))
        until(lambda: got == ["1", "2"])
    assert "request" in caplog.text
    assert "deliberate" in caplog.text


def test_a_callback_may_publish_and_subscribe(make: Make) -> None:
    """A subscriber answers from its callback: a request and its reply."""
    a, b, replies = make(), make(), []
    b.advertise(msg.REQUEST_REPLY)
    b.subscribe(msg.REQUEST, lambda r: b.publish(msg.REQUEST_REPLY, msg.RequestReply(id=r.id, ok=True)))
    a.subscribe(msg.REQUEST_REPLY, replies.append)
    a.advertise(msg.REQUEST)
    until(lambda: a.readers(msg.REQUEST) == 1 and b.readers(msg.REQUEST_REPLY) == 1)
    a.publish(msg.REQUEST, msg.Request(id="7"))
    assert until(lambda: replies)[0].id == "7"


def test_a_wrong_message_is_refused(make: Make) -> None:
    """Publishing another type than the topic's names both."""
    with pytest.raises(TypeError, match=r"policy/status.*PolicyStatus.*Twist"):
        make().publish(msg.STATUS, std.Twist())  # pyright: ignore[reportArgumentType]


def test_a_closed_transport_says_so(make: Make) -> None:
    """Closing twice is fine; using it afterwards is a ConnectionError; nothing is delivered any more."""
    a, got = pair(make, msg.REQUEST)
    b = make()
    b.subscribe(msg.REQUEST, got.append)
    b.close()
    b.close()
    with pytest.raises(ConnectionError, match="closed"):
        b.publish(msg.REQUEST, msg.Request())
    with pytest.raises(ConnectionError, match="closed"):
        b.subscribe(msg.REQUEST, got.append)
    until(lambda: a.readers(msg.REQUEST) == 1)
    a.publish(msg.REQUEST, msg.Request(id="1"))
    until(lambda: got)
    time.sleep(0.1)
    assert len(got) == 1


def test_many_threads_may_publish(make: Make) -> None:
    """Four threads publish at once; every message arrives whole."""
    a, b, got = make(), make(), []
    deep = msg.Topic("many", msg.Request, msg.Qos(depth=500))
    b.subscribe(deep, got.append)
    a.advertise(deep)
    until(lambda: a.readers(deep) == 1)

    def send(name: str) -> None:
        for i in range(50):
            a.publish(deep, msg.Request(id=f"{name}{i}", value=name * i))

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(got) == 200)
    assert all(m.value == m.id[0] * int(m.id[1:]) for m in got)


def test_an_unknown_wire_lists_the_choices() -> None:
    """The error names what exists."""
    with pytest.raises(ValueError, match=r"no wire 'zenoh'.*loopback.*dds.*ros"):
        open_transport("zenoh", node="x")
