"""DDS between real operating-system processes: late joiners, killed and restarted peers, and what ROS's tools read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.domain import DomainParticipant

from robot_rl.wire import cdr
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.dds import DdsTransport, domain_config

PEER = """
import sys, time
from robot_rl.wire import messages as msg, standard as std
from robot_rl.wire.dds import DdsTransport
wire = DdsTransport(node="peer", namespace="go2")
wire.publish(msg.STATUS, msg.PolicyStatus(tick=int(sys.argv[1]), policy="ab" * 32))
wire.advertise(msg.REQUEST_REPLY)
def echo(request):
    wire.publish(msg.REQUEST_REPLY, msg.RequestReply(id=request.id, ok=True, reason=request.value))
wire.subscribe(msg.REQUEST, echo)
print("ready", flush=True)
time.sleep(120)
"""


def until(condition: Callable[[], Any], *, timeout_s: float = 15.0) -> Any:
    """Wait for a truthy value and return it."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {timeout_s} s"
        time.sleep(0.005)
    return value


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DDS domain of this process's children only."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


@pytest.fixture
def here(alone: None) -> Iterator[DdsTransport]:
    """This process's participant."""
    transport = DdsTransport(node="here", namespace="go2")
    yield transport
    transport.close()


@pytest.fixture
def spawn(alone: None) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Start peers; whatever lives at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(tick: int) -> subprocess.Popen[str]:
        peer = subprocess.Popen([sys.executable, "-c", PEER, str(tick)], stdout=subprocess.PIPE, text=True)
        started.append(peer)
        assert peer.stdout is not None
        assert peer.stdout.readline() == "ready\n"
        return peer

    yield start
    for peer in started:
        peer.kill()
        peer.wait()
        assert peer.stdout is not None
        peer.stdout.close()


def test_two_processes_talk_and_a_late_joiner_learns(here: DdsTransport, spawn: Callable[..., Any]) -> None:
    """What a process said before we listened arrives, and a request comes back as its reply."""
    spawn(41)
    status: list[msg.PolicyStatus] = []
    replies: list[msg.RequestReply] = []
    here.subscribe(msg.STATUS, status.append)
    here.subscribe(msg.REQUEST_REPLY, replies.append)
    assert until(lambda: status)[0].tick == 41
    until(lambda: here.readers(msg.REQUEST) == 1)
    text = "é" * 3000  # more than one datagram's worth would be 64 KiB; this is a long string all the same
    here.publish(msg.REQUEST, msg.Request(id="1", kind="mode", value=text))
    assert until(lambda: replies)[0].reason == text


def test_a_killed_peer_comes_back(here: DdsTransport, spawn: Callable[..., Any]) -> None:
    """SIGKILL and restart: the new process is found, its latched word arrives, requests work; no message is made up."""
    status: list[msg.PolicyStatus] = []
    replies: list[msg.RequestReply] = []
    here.subscribe(msg.STATUS, status.append)
    here.subscribe(msg.REQUEST_REPLY, replies.append)
    for attempt, tick in enumerate((7, 8)):
        peer = spawn(tick)
        until(lambda tick=tick: status and status[-1].tick == tick)
        until(lambda: here.readers(msg.REQUEST) >= 1)
        end = time.monotonic() + 10.0
        while not any(r.id == str(attempt) for r in replies) and time.monotonic() < end:
            here.publish(msg.REQUEST, msg.Request(id=str(attempt)))
            time.sleep(0.05)
        assert any(r.id == str(attempt) for r in replies)
        os.kill(peer.pid, signal.SIGKILL)
        peer.wait()
    assert [s.tick for s in status] == [7, 8]


def test_a_large_message_crosses_processes_whole(here: DdsTransport) -> None:
    """Ten thousand joints, 320 kB, more than any datagram, arrive complete."""
    other = DdsTransport(node="other", namespace="go2")
    got: list[std.JointState] = []
    topic = msg.Topic("large", std.JointState)
    other.subscribe(topic, got.append)
    until(lambda: here.readers(topic) == 1)
    names = tuple(f"joint_{i}" for i in range(10_000))
    here.publish(topic, std.JointState(name=names, position=np.arange(10_000.0)))
    message = until(lambda: got)[0]
    assert message.name == names
    assert message.position.tolist() == list(range(10_000))
    other.close()


def test_what_ros_tools_read_is_there(here: DdsTransport) -> None:
    """Endpoints carry ROS's names, types and type hashes; discovery info names our node and its endpoints."""
    here.advertise(msg.JOINT_STATES)
    probe = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
    reader = BuiltinDataReader(probe, BuiltinTopicDcpsPublication)
    seen: dict[str, Any] = {}
    here_key = uuid.UUID(bytes=bytes(here._entities().gid.data))  # pyright: ignore[reportPrivateUsage]

    def look() -> bool:
        for sample in reader.take(100):
            if getattr(sample, "participant_key", None) == here_key:
                seen[sample.topic_name] = sample
        return {"rt/go2/joint_states", "ros_discovery_info"} <= set(seen)

    until(look)
    endpoint = seen["rt/go2/joint_states"]
    assert endpoint.type_name == "sensor_msgs::msg::dds_::JointState_"
    assert _userdata(endpoint) == f"typehash={cdr.type_hash('sensor_msgs/msg/JointState')};"
    info = seen["ros_discovery_info"]
    assert info.type_name == "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_"
    assert "RIHS01_91a0593b" in _userdata(info)


def test_discovery_info_names_the_node_and_its_endpoints(here: DdsTransport, alone: None) -> None:
    """A peer that reads ``ros_discovery_info`` finds the node, its namespace and the ids of its endpoints."""
    got: list[Any] = []
    here.advertise(msg.STATUS)
    cancel = here.subscribe(msg.REQUEST, got.append)
    here.subscribe(msg.ESTOP, got.append)
    cancel()
    info = here._entities()  # pyright: ignore[reportPrivateUsage]
    back = cdr.decode(cdr.encode(info), "rmw_dds_common/msg/ParticipantEntitiesInfo")
    node = back.node_entities_info_seq[0]
    assert (node.node_name, node.node_namespace) == ("here", "/go2")
    assert len(node.writer_gid_seq) == 1
    assert len(node.reader_gid_seq) == 1
    assert len(bytes(back.gid.data)) == 16
    assert bytes(node.writer_gid_seq[0].data)[:12] == bytes(back.gid.data)[:12]


def _userdata(endpoint: Any) -> str:
    return next(p for p in endpoint.qos if type(p).__name__ == "Userdata").data.decode()


def test_the_environment_of_ros_is_obeyed() -> None:
    """Discovery range, static peers, localhost only, and the user's own Cyclone settings."""
    local = domain_config({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    assert 'address="127.0.0.1"' in local
    assert "<AllowMulticast>false" in local
    assert local.replace("SUBNET", "") == domain_config({"ROS_LOCALHOST_ONLY": "1"})
    assert "127.0.0.1" not in domain_config({})
    assert '<Peer address="10.0.0.2"/>' in domain_config({"ROS_STATIC_PEERS": "10.0.0.2;10.0.0.3"})
    assert domain_config({"CYCLONEDDS_URI": "file:///x.xml"}).endswith(",file:///x.xml")
    with pytest.raises(ValueError, match=r"OFF.*SUBNET.*LOCALHOST"):
        domain_config({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"})


def test_a_wrong_domain_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the value and the range."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "300")
    with pytest.raises(ValueError, match=r"'300'.*0 to 232"):
        DdsTransport(node="x")


def test_the_private_functions_of_cyclonedds_are_as_pinned() -> None:
    """Raw read and write are private; another major version must be looked at before it is used."""
    from importlib.metadata import version

    from cyclonedds import _clayer

    assert version("cyclonedds").startswith("11.")
    assert callable(_clayer.ddspy_take)
    assert callable(_clayer.ddspy_write)
