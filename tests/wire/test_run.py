"""`robot-rl run` as a real process over real DDS: driven by an operator, ended by signals, its store whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
from robot_rl.data.episodes import EpisodeReader, Rows
from robot_rl.data.transition import Mode
from robot_rl.wire.dds import DdsTransport
from robot_rl.wire.operator import Operator, RefusedError

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start `robot-rl run` in a DDS domain of its own; whatever lives at the end is killed."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(100 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    started: list[subprocess.Popen[str]] = []

    def go(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "robot_rl.cli.main", "run", str(POLICIES / "go2_tiny.onnx"), "--json", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def operator(start: Start) -> Iterator[Operator]:
    """A commander in this process."""
    transport = DdsTransport(node="operator", namespace="go2")
    made = Operator(transport)
    yield made
    made.close()
    transport.close()


def lines(text: str) -> list[dict[str, Any]]:
    """The JSON lines of a process's output."""
    return [json.loads(line) for line in text.splitlines()]


def recorded(store: Path) -> np.ndarray:
    """Every row of a store."""
    reader = EpisodeReader.follow(store)
    rows = [item.rows for item in reader.poll() if isinstance(item, Rows)]
    reader.close()
    return np.concatenate(rows)


def test_an_operator_drives_another_process_and_sigterm_leaves_everything_in_order(
    start: Start, operator: Operator, tmp_path: Path
) -> None:
    """Stand, policy, command, refusal, SIGTERM: exit code 0, the last event told, the store sealed and complete."""
    robot = start("--driver", "mirror", "--namespace", "go2", "--record", str(tmp_path / "store"))
    operator.start_policy(timeout_s=60.0)
    operator.drive((0.2, 0.0, 0.0))
    operator.wait(lambda s: s.command.tolist() == pytest.approx([0.2, 0.0, 0.0]), timeout_s=10.0)
    with pytest.raises(RefusedError, match="choices"):
        operator.ask("mode", "sideways")
    assert operator.status is not None
    tick = operator.status.tick
    operator.wait(lambda s: s.tick > tick + 50, timeout_s=30.0)
    robot.send_signal(signal.SIGTERM)
    out, err = robot.communicate(timeout=30.0)
    assert robot.returncode == 0, err
    told = lines(out)
    assert [e["to"] for e in told if e["event"] == "mode"][:3] == ["DAMP", "STAND", "POLICY"]
    assert told[-1]["event"] == "end"
    assert told[-1]["drops"] == 0
    store = tmp_path / "store"
    assert [p.suffix for p in store.iterdir() if p.is_file() and p.name[0] != "."] == [".seg"]
    rows = recorded(store)
    driven = next(e["tick"] for e in told if e["event"] == "mode" and e["to"] == "POLICY")
    assert set(range(driven, told[-1]["tick"] + 1)) == set(rows["tick"].tolist())
    assert set(rows["mode"].tolist()) == {Mode.POLICY}


def test_a_killed_robot_comes_back_to_the_same_operator(start: Start, operator: Operator, tmp_path: Path) -> None:
    """SIGKILL while driving: what was recorded is kept, a new process is in OFF, the operator needs no restart."""
    words = ("--driver", "mirror", "--namespace", "go2", "--record", str(tmp_path / "store"))
    robot = start(*words)
    operator.start_policy(timeout_s=60.0)
    assert operator.status is not None
    tick = operator.status.tick
    operator.wait(lambda s: s.tick > tick + 25, timeout_s=30.0)
    robot.kill()
    robot.wait()
    seen = operator.status.tick
    start(*words)
    operator.wait(lambda s: s.tick < seen and s.mode == Mode.OFF, timeout_s=60.0, what="the new process")
    operator.start_policy(timeout_s=60.0)
    assert len(recorded(tmp_path / "store")) >= seen - tick - 5  # the newest ticks were on their way to the disk


def test_a_twin_runs_by_itself_for_a_while(start: Start) -> None:
    """`--start policy --duration-s`: stands up, drives, ends by itself; the twin is real physics."""
    pytest.importorskip("mujoco")
    robot = start("--driver", "twin", "--wire", "loopback", "--start", "policy", "--duration-s", "6", "--speed", "2")
    out, err = robot.communicate(timeout=90.0)
    assert robot.returncode == 0, err
    told = lines(out)
    assert "POLICY" in [e.get("to") for e in told]
    assert told[-1]["tick"] == pytest.approx(300, abs=3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--robot", "cartpole"), "trained for robot 'go2'"),
        (("--speed", "2", "--driver", "hardware"), "a real robot runs at 1"),
        (("--robot", "unicorn"), "unicorn"),
    ],
)
def test_what_cannot_run_is_refused_with_its_reason(start: Start, words: tuple[str, ...], reason: str) -> None:
    """Exit code 2 and one clean line, before anything moves."""
    robot = start("--wire", "loopback", *words)
    out, err = robot.communicate(timeout=60.0)
    assert robot.returncode == 2
    assert reason in err
    assert "Traceback" not in err
    assert out == ""


def test_the_benchmark_measures_all_three_streams() -> None:
    """Every stream arrives; the result has numbers that make sense."""
    from robot_rl.cli.bench import KEYS, load

    began = time.monotonic()
    result = load("wire")(seconds=1.0, rate_hz=50.0)
    assert time.monotonic() - began < 60.0
    assert set(result) == set(KEYS)
    assert result["floor"] > 1.0
    assert 1.0 < result["p50_us"] <= result["p99_us"]
