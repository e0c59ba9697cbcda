"""Studies in several processes: every run is done once, by one of them; a killed one leaves its run to the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from robot_rl.cli.bench import load

WORK = """
import importlib, json, os, sys, time
from functools import partial
from pathlib import Path
study = importlib.import_module("robot_rl.zoo.benchmarks._study")
study.LOOK_AGAIN_S = 0.05
out, seconds = Path(sys.argv[1]), float(sys.argv[2])
def train(folder):
    (out / f"{folder.name}.{os.getpid()}").touch()
    time.sleep(seconds)
    return {"name": folder.name}
jobs = [partial(study.kept, out / f"run{i}.json", train, clean=False) for i in range(6)]
print(json.dumps([cell["name"] for cell in study.shared(jobs, lambda cells: None)]))
"""


@pytest.fixture
def study() -> Any:
    load("aprl")
    return sys.modules["robot_rl.zoo.benchmarks._study"]


def start(out: Path, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORK, str(out), str(seconds)], stdout=subprocess.PIPE)


def test_two_processes_share_the_runs_and_both_end_with_all(tmp_path: Path) -> None:
    workers = [start(tmp_path, 0.3) for _ in range(2)]
    said = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    assert said == [[f"run{i}" for i in range(6)]] * 2
    began = sorted(path.stem for path in tmp_path.glob("run*.*") if path.suffix[1:].isdigit())
    assert began == [f"run{i}" for i in range(6)], "each run began once"
    assert not list(tmp_path.glob("*.lock"))


def test_the_run_of_a_killed_process_is_done_by_another(tmp_path: Path) -> None:
    slow = start(tmp_path, 600.0)
    while not list(tmp_path.glob("run0.*[0-9]")):
        assert slow.poll() is None
        time.sleep(0.02)
    quick = start(tmp_path, 0.0)
    while len(list(tmp_path.glob("run*.json"))) < 5:
        assert quick.poll() is None, "it waits for the run that the other holds"
        time.sleep(0.02)
    os.kill(slow.pid, signal.SIGKILL)
    slow.communicate()
    assert json.loads(quick.communicate(timeout=60)[0]) == [f"run{i}" for i in range(6)]


def test_cells_so_far_are_told_in_the_order_of_the_jobs(study: Any) -> None:
    told, tries = [], [0]

    def busy_once() -> dict[str, Any]:
        tries[0] += 1
        if tries[0] == 1:
            raise study.BusyError
        return {"n": 0}

    cells = study.shared([busy_once, lambda: {"n": 1}], lambda cells: told.append([cell["n"] for cell in cells]))
    assert told == [[1], [0, 1]] and [cell["n"] for cell in cells] == [0, 1]
