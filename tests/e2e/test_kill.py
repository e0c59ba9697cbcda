"""Any process may be killed at any moment: the robot damps, nothing committed is lost, everything comes back.

The operator is a process of its own here, so that it can be killed too.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.transition import Mode, Who
from robot_rl.wire.operator import Operator
from tests.e2e.processes import RELEASED, end, environment, operator, robot, rows_of, spawn, wait_for

DOMAIN = 72
COMMAND_TIMEOUT_TICKS = 25  # hardware/go2/robot.toml: 0.5 s at 50 Hz
SLACK_TICKS = 2 + 3
"""Two of the shield's promise; three for a command that was on the wire, published every 50 ms."""
COMMANDER = """
import time
from robot_rl.wire.operator import Operator
from robot_rl.wire.transport import open_transport
op = Operator(open_transport("dds", node="commander"))
op.drive((0.4, 0.0, 0.0))
op.start_policy(timeout_s=60.0)
print("driving", flush=True)
time.sleep(3600)
"""


class Site:
    """Robot, learner and commander; each can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "episodes"
        self.robot = robot(folder / "robot.log", DOMAIN, self.store)
        self.learner = self.start_learner()
        self.commander = self.start_commander()

    def start_learner(self) -> subprocess.Popen[bytes]:
        return spawn(
            self.folder / "learner.log", DOMAIN, "finetune", "go2_tune_rlpd", "--policy", RELEASED,
            "--episodes", self.store, "--inbox", self.folder / "inbox", "--out", self.folder / "learner",
            "--wire", "dds", "--no-progress", "--updates-per-s", 40,
        )  # fmt: skip

    def start_commander(self) -> subprocess.Popen[bytes]:
        with (self.folder / "commander.log").open("ab") as out:
            command = [sys.executable, "-c", COMMANDER]
            return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment(DOMAIN))

    def close(self) -> None:
        for process in (self.commander, self.learner):
            process.kill()
            process.wait()
        end(self.robot)


def committed(store: Path) -> np.ndarray:
    """Return the Unix times of the rows that are on the disk by now, (n,)."""
    try:
        return rows_of(store)["wall_s"]
    except ValueError:
        return np.zeros(0)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def in_policy(op: Operator) -> bool:
    return op.status is not None and op.status.mode == Mode.POLICY


def kill_once(site: Site, op: Operator, victim: str) -> float:
    """Kill one process while the robot walks, check what must hold, bring it back; return when it was killed."""
    wait_for(lambda: in_policy(op), timeout_s=120, what="the robot to walk")
    time.sleep(1.0 + random.random())
    before = committed(site.store)
    killed_s = time.time()
    if victim == "commander":
        kill(site.commander)
        op.wait(lambda s: s.mode == Mode.DAMP and "COMMANDER_LOST" in s.fault, timeout_s=10, what="DAMP")
        site.commander = site.start_commander()
    elif victim == "learner":
        kill(site.learner)
        time.sleep(0.5)
        assert in_policy(op), "a dead learner does not stop the robot"
        site.learner = site.start_learner()
    else:
        kill(site.robot)
        kill(site.commander)
        op.status = None
        site.robot = robot(site.folder / "robot.log", DOMAIN, site.store)
        site.commander = site.start_commander()
    lost = before[~np.isin(before, committed(site.store))]
    assert not lost.size, f"{lost.size} of {before.size} committed rows are gone after killing the {victim}"
    return killed_s


def examine(store: Path, losses: list[float]) -> None:
    """After each loss of the commander the policy drove no longer than the timeout and two ticks."""
    rows = rows_of(store)
    rows = rows[np.argsort(rows["wall_s"], kind="stable")]
    assert (rows["who"] == Who.POLICY).sum() > 50 * len(losses)
    for killed_s in losses:
        after = rows[rows["wall_s"] > killed_s]["mode"]
        driven = int(np.argmax(after != Mode.POLICY))
        assert driven <= COMMAND_TIMEOUT_TICKS + SLACK_TICKS, f"{driven} ticks of POLICY after the commander died"


@pytest.mark.timeout(600)
def test_kill_each_process_once(tmp_path: Path) -> None:
    kill_many(tmp_path, ["commander", "learner", "robot"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kill_fifty_times(tmp_path: Path) -> None:
    draw = random.Random(0)
    kill_many(tmp_path, [draw.choice(["commander", "learner", "robot"]) for _ in range(50)])


def kill_many(folder: Path, victims: list[str]) -> None:
    site, losses = Site(folder), []
    try:
        with operator(DOMAIN) as op:
            for victim in victims:
                killed_s = kill_once(site, op, victim)
                if victim == "commander":
                    losses.append(killed_s)
            wait_for(lambda: in_policy(op), timeout_s=120, what="the robot to walk again")
    finally:
        site.close()
    examine(site.store, losses)
