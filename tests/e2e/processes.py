"""Real ``robot-rl`` processes for end-to-end tests, on a DDS domain of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from robot_rl import zoo
from robot_rl.cli.demonstration.measure import read_rows
from robot_rl.data.transition import Mode
from robot_rl.wire.operator import Operator
from robot_rl.wire.transport import open_transport

RELEASED = zoo.find("policies", "released/go2_walk_ppo")
SILENCE = {"COMMANDER_LOST", "STATE_STALE", "LINK_LOST"}
"""Faults that a machine makes by standing still longer than ``command_timeout_s``."""


def environment(domain: int) -> dict[str, str]:
    """Return an environment in which processes find each other on this machine only."""
    own = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def spawn(log: Path, domain: int, *args: object) -> subprocess.Popen[bytes]:
    """Start ``robot-rl`` with ``args``; its output is appended to ``log``."""
    command = [sys.executable, "-m", "robot_rl.cli.main", *map(str, args)]
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment(domain))


def robot(log: Path, domain: int, store: Path, *, speed: float = 1.0) -> subprocess.Popen[bytes]:
    """Start the robot process: twin, runtime, recorder, station."""
    return spawn(log, domain, "run", RELEASED, "--driver", "twin", "--record", store, "--speed", speed)


def end(process: subprocess.Popen[bytes], *, timeout_s: float = 30.0) -> int:
    """Ask a process to end and return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.wait(timeout_s)


@contextmanager
def operator(domain: int, events: list[tuple[str, str]] | None = None) -> Iterator[Operator]:
    """Join the wire as an operator; kinds and reasons of the robot's events are appended to ``events``."""
    keys = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
    before = {key: os.environ.get(key) for key in keys}
    os.environ.update({key: environment(domain)[key] for key in keys})
    transport = open_transport("dds", node="test_operator")
    note = None if events is None else lambda event: events.append((event.kind, event.reason))
    made = Operator(transport, on_event=note)
    try:
        yield made
    finally:
        made.close()
        transport.close()
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)


def wait_for(condition: Callable[[], bool], *, timeout_s: float, what: str, logs: tuple[Path, ...] = ()) -> None:
    """Poll until ``condition`` holds; fail with ``what`` and the ends of ``logs`` otherwise."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            told = "".join(f"\n-- {log.name} --\n{log.read_text()[-3000:]}" for log in logs)
            raise AssertionError(f"waited {timeout_s:g} s for {what}{told}")
        time.sleep(0.05)


def walk_on(op: Operator) -> None:
    """Stand up and hand over again if silence, and nothing else, damped the robot: a shared machine stalls at times."""
    status = op.status
    if status is not None and status.mode == Mode.DAMP and not status.estop and set(status.fault) <= SILENCE:
        op.start_policy()


def rows_of(store: Path) -> np.ndarray:
    """Return all committed rows of a store, by tick."""
    return read_rows(store)
