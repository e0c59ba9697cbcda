"""One-way latency of a 12-joint JointState at 200 Hz between two processes, beside bare Cyclone DDS and bare UDP.

Three streams run interleaved in one run over the loopback interface: messages through ``wire/dds.py`` (encode, write,
read, decode, callback); the same bytes, encoded beforehand, through Cyclone DDS's own write and read, the floor; and
the same bytes in a UDP datagram. Every message carries its sending time on the machine's monotonic clock.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from robot_rl.hardware.robot import load_robot
from robot_rl.wire import cdr
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.dds import DdsTransport

OURS = msg.Topic("bench/joint_states", std.JointState, msg.QUEUE)
BARE = msg.Topic("bench/bare", std.JointState, msg.QUEUE)
STAMP = struct.Struct("<iI")  # sec, nanosec behind the four bytes of the CDR header
STREAMS = ("ours", "bare", "udp")


def run(*, seconds: float = 5.0, rate_hz: float = 200.0) -> dict[str, Any]:
    """Send for ``seconds`` and compare the receiver's latencies.

    Args:
        seconds: Time measured, after one second for warming up.
        rate_hz: Messages per second of each stream.
    """
    domain = 150 + os.getpid() % 50
    before = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    receiver = subprocess.Popen([sys.executable, __file__, str(domain)], stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        transport = DdsTransport(node="bench_sender", domain_id=domain)
        _send(transport, port, seconds=seconds + 1.0, rate_hz=rate_hz)
        transport.close()
        us = {name: np.array(values) for name, values in json.loads(receiver.stdout.readline()).items()}
    finally:
        receiver.kill()
        receiver.wait()
        if before is None:
            del os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"]
        else:
            os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = before
    us = {name: values[round(rate_hz) :] for name, values in us.items()}
    lost = {name: round(seconds * rate_hz) - len(values) for name, values in us.items()}
    middle = {name: float(np.median(values)) for name, values in us.items()}
    return {
        "bench": "wire",
        "value": round(middle["ours"], 1),
        "unit": "us one way",
        "floor": round(middle["bare"], 1),
        "ratio": round(middle["bare"] / middle["ours"], 3),
        "p50_us": round(middle["ours"], 1),
        "p99_us": round(float(np.percentile(us["ours"], 99)), 1),
        "setup": f"JointState of 12 joints, 3 streams of {rate_hz:g} Hz in turns, two processes, loopback, reliable; "
        f"floor: Cyclone DDS's own write and read of the same bytes, p99 {np.percentile(us['bare'], 99):.0f} us; "
        f"bare UDP p50 {middle['udp']:.0f} us; {len(us['ours'])} messages, lost {lost}, load {os.getloadavg()[0]:.1f}",
    }


def _send(transport: DdsTransport, port: int, *, seconds: float, rate_hz: float) -> None:
    """Send the three streams in turns, then an empty datagram as the end."""
    robot = load_robot("go2")
    rest = np.array(robot.default_pos)
    message = std.JointState(std.Header(frame_id="base_link"), robot.joints, rest, np.zeros(12), np.ones(12))
    raw = bytearray(cdr.encode(message))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect(("127.0.0.1", port))

    def ours() -> None:
        stamp = std.Time(*divmod(time.monotonic_ns(), 1_000_000_000))
        transport.publish(OURS, replace(message, header=std.Header(stamp, "base_link")))

    def bare() -> None:
        STAMP.pack_into(raw, 4, *divmod(time.monotonic_ns(), 1_000_000_000))
        transport.publish_raw(BARE, bytes(raw))

    def datagram() -> None:
        STAMP.pack_into(raw, 4, *divmod(time.monotonic_ns(), 1_000_000_000))
        udp.send(raw)

    end = time.monotonic() + 30.0
    while not (transport.readers(OURS) and transport.readers(BARE)):
        if time.monotonic() > end:
            raise TimeoutError("the receiver was not found within 30 s")
        time.sleep(0.01)
    streams: tuple[Callable[[], None], ...] = (ours, bare, datagram)
    period_s = 1.0 / (rate_hz * len(streams))
    start = time.monotonic()
    for k in range(round(seconds * rate_hz) * len(streams)):
        time.sleep(max(0.0, start + k * period_s - time.monotonic()))
        cycle, place = divmod(k, len(streams))
        streams[(cycle + place) % len(streams)]()  # in turns, each as often first as last
    time.sleep(0.5)
    udp.send(b"")


def _receive(domain: int) -> None:
    """Note how old every message is when its receiver has it; print the list of each stream at the end."""
    from cyclonedds._clayer import ddspy_take
    from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.util import duration

    us: dict[str, list[float]] = {name: [] for name in STREAMS}
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    transport = DdsTransport(node="bench_receiver", domain_id=domain)

    def note(stream: str, sec: int, nanosec: int) -> None:
        us[stream].append((time.monotonic_ns() - sec * 1_000_000_000 - nanosec) / 1e3)

    transport.subscribe(OURS, lambda m: note("ours", m.header.stamp.sec, m.header.stamp.nanosec))
    bare = transport.bare_reader(BARE)
    participant = bare.participant
    assert participant is not None

    def floor() -> None:
        """Read as the documentation of Cyclone's Python binding does, less its decoding."""
        waitset = WaitSet(participant)
        mask = ViewState.Any | SampleState.NotRead | InstanceState.Any
        waitset.attach(ReadCondition(bare, mask))
        while True:
            waitset.wait(duration(seconds=1))
            for raw, info in ddspy_take(bare._ref, SampleState.Any | ViewState.Any | InstanceState.Any, 64):  # pyright: ignore[reportPrivateUsage]
                if info.valid_data:
                    note("bare", *STAMP.unpack_from(raw, 4))

    threading.Thread(target=floor, daemon=True).start()
    print(udp.getsockname()[1], flush=True)  # noqa: T201  to the parent process
    while raw := udp.recv(65536):
        note("udp", *STAMP.unpack_from(raw, 4))
    print(json.dumps(us), flush=True)  # noqa: T201
    time.sleep(10.0)


if __name__ == "__main__":
    _receive(int(sys.argv[1]))
