"""Two real processes under torchrun, over gloo: the same update as one process with the environments of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robot_rl.learn import ranks

ROOT = Path(__file__).parents[2]


def torchrun(*args: object, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *map(str, args)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
    )


def answers(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((out / f"{name}-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all that two healthy ranks do in one go; starting them is what takes time."""
    out = tmp_path_factory.mktemp("ranks")
    done = torchrun("-m", "tests.learn.ranks_worker", out, "gradient", "remembering", "whole", "stopped", "drifted")
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def test_two_ranks_learn_what_one_learns_from_the_environments_of_both(said: Path) -> None:
    for name in ("gradient", "remembering"):
        for answer in answers(said, name):
            assert answer["gap"] < 1e-5 < answer["moved"]


def test_the_weights_stay_the_same_on_every_rank(said: Path) -> None:
    for name, key in (("gradient", "weights"), ("remembering", "weights"), ("whole", "one")):
        first, second = answers(said, name)
        assert first[key] == second[key]


def test_a_resumed_run_of_two_ranks_equals_an_uninterrupted_one_bit_for_bit(said: Path) -> None:
    for answer in answers(said, "whole"):
        assert answer["one"] == answer["two"]


def test_ranks_count_the_steps_of_all_but_explore_differently(said: Path) -> None:
    first, second = answers(said, "whole")
    assert first["steps"] == second["steps"] == 6 * 8 * 32
    assert first["noise"] != second["noise"]


def test_only_rank_0_writes_metrics(said: Path) -> None:
    assert [str(p.relative_to(said)) for p in sorted(said.glob("**/metrics.jsonl"))] == [
        "left/metrics.jsonl",
        "one/metrics.jsonl",
        "two/metrics.jsonl",
    ]


def test_ctrl_c_in_one_rank_stops_and_saves_all_and_they_go_on_exactly(said: Path) -> None:
    for answer, whole in zip(answers(said, "stopped"), answers(said, "whole"), strict=True):
        assert answer["left"]
        assert answer["names"] == [f"left/checkpoints/{part}0000000{n}.npz" for part in ("", "rank1/") for n in (2, 3)]
        assert answer["weights"] == whole["one"]


def test_weights_that_drift_apart_end_the_run(said: Path) -> None:
    assert [a["error"] for a in answers(said, "drifted")] == [
        f"rank {rank} of 2: the ranks have drifted apart, by up to 1; the run cannot go on" for rank in range(2)
    ]


def test_no_thread_of_the_ranks_outlives_them(said: Path) -> None:
    """One that did would race with the end of the interpreter, and now and then abort it."""
    for answer in answers(said, "threads"):
        assert answer["after"] and not [name for name in answer["after"] if "gloo" in name]


def test_a_killed_rank_ends_the_others_and_is_named(tmp_path: Path) -> None:
    done = torchrun("-m", "tests.learn.ranks_worker", tmp_path, "killed")
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL)" in done.stderr and "rank      : 1" in done.stderr  # torchrun's own summary
    said = tmp_path / "killed-0.json"
    if said.exists():  # unless torchrun was quicker to end it
        assert "rank 0 of 2: another rank ended or no longer answers" in json.loads(said.read_text())["error"]


def test_alone_nothing_changes() -> None:
    with ranks.joined() as me:
        assert me == ranks.ALONE and me.seed(7) == 7 and me.threads(0) == 0 and me.first


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"no device 'tpu'; the choices are \['cpu', 'cuda'\]"), ranks.joined("tpu"):
        pass


def test_ranks_that_share_a_machine_share_its_threads() -> None:
    cpus = os.cpu_count() or 1
    assert ranks.Ranks(rank=1, size=2, here=2).threads(0) == max(1, cpus // 2)
    assert ranks.Ranks(rank=1, size=2, here=2).threads(3) == 3
