"""``robot-rl label`` and ``robot-rl judge``: from recorded frames to a judge of success that pays a policy."""

from __future__ import annotations

import ctypes.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from robot_rl.cli.label import Args, by_keys, by_ranges, run
from robot_rl.cli.main import main
from robot_rl.data.labels import load_labels
from robot_rl.data.transition import Mode
from tests.data.recording import DTYPE

GL = next((name.lower() for name in ("OSMesa", "EGL") if ctypes.util.find_library(name)), "")


def test_ranges_say_what_is_a_success_and_must_lie_within_their_episodes() -> None:
    first, second = by_ranges(("0:2-3", "1:0"), [5, 2])
    assert first.tolist() == [0, 0, 1, 1, 0]
    assert second.tolist() == [1, 0]
    for text, why in (("0:4-5", "beyond the rec"), ("2:0", "beyond"), ("0:3-2", "beyond"), ("x", "no range 'x'")):
        with pytest.raises(ValueError, match=why):
            by_ranges((text,), [5, 2])


def test_keys_label_one_frame_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.full(6, -1)
    by_keys(labels, np.zeros(6, DTYPE), 3, 2, io.StringIO("f\nwhat\nS\n\n"))
    assert labels.tolist() == [0, -1, 1, -1, -1, -1]
    assert "'what' is none of" in capsys.readouterr().err


def record_cartpole(store: Path) -> str:
    """Three episodes of ten rows; one labelled a success, one a failure, one not at all. Return the fingerprint."""
    from robot_rl import zoo
    from robot_rl.data.episodes import EpisodeWriter
    from robot_rl.data.transition import row_dtype
    from robot_rl.hardware.robot import load_robot

    robot = load_robot("cartpole")
    contract = zoo.load("sim", "tasks/cartpole_swingup").task().contract(robot)
    writer = EpisodeWriter(store, contract, robot)
    for number, label in enumerate((1, -1, 0)):
        rows = np.zeros(10, row_dtype(contract, robot))
        rows["tick"], rows["mode"] = np.arange(10) + 20 * number, Mode.POLICY
        rows["obs"] = number
        writer.start_episode()
        writer.append(rows)
        writer.label(label)
        writer.end_episode("operator", label=label)
    writer.close()
    return contract.fingerprint


def test_what_the_operator_said_labels_the_end_of_an_episode(tmp_path: Path) -> None:
    contract = record_cartpole(tmp_path / "store")
    args = Args(tmp_path / "store", tmp_path / "labels.npz", by="operator", last=4)
    assert run(args) == 0
    data = load_labels(tmp_path / "labels.npz")
    assert (data.source, data.task, data.contract) == ("policy", "cartpole_swingup", contract)
    assert data.episode.tolist() == [0] * 10 + [1] * 10
    assert np.flatnonzero(data.success).tolist() == [6, 7, 8, 9]
    assert main(["judge", str(tmp_path / "labels.npz"), "--out", str(tmp_path / "judge.onnx")]) == 2  # too few
    assert not (tmp_path / "judge.onnx").exists()


class Interrupted(io.StringIO):
    """A person who answers all there is and then presses Ctrl-C."""

    def readline(self, size: int | None = -1, /) -> str:
        line = super().readline(size)
        if not line:
            raise KeyboardInterrupt
        return line


def test_what_was_answered_before_ctrl_c_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_cartpole(tmp_path / "store")
    monkeypatch.setattr("sys.stdin", Interrupted("f\n" * 11 + "s\n"))
    assert run(Args(tmp_path / "store", tmp_path / "labels.npz", by="keys")) == 130
    data = load_labels(tmp_path / "labels.npz")
    assert data.episode.tolist() == [0] * 10 + [1] * 2
    assert np.flatnonzero(data.success).tolist() == [11]
    monkeypatch.setattr("sys.stdin", Interrupted(""))
    assert run(Args(tmp_path / "store", tmp_path / "none.npz", by="keys")) == 130
    assert not (tmp_path / "none.npz").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"by": "task"}, "has no success term"),
        ({"by": "task", "task": "panda_lift"}, "'panda_lift' is for robot 'panda'; .*store was recorded on 'cartpole'"),
        ({}, "without --success would call every frame a failure"),
        ({"by": "task", "success": ("0:1",)}, "with --by task leave it away"),
        ({"by": "operator", "out": "there.npz"}, r"there\.npz exists; name another --out"),
        ({"by": "operator", "store": "nothing"}, "no episodes in"),
    ],
)
def test_what_cannot_be_labelled_is_refused_and_nothing_is_written(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    record_cartpole(tmp_path / "store")
    (tmp_path / "there.npz").write_bytes(b"hours of work")
    names = {"store": "store", "out": "x.npz"} | options
    args = Args(**names | {name: tmp_path / str(names[name]) for name in ("store", "out")})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=why):
        run(args)
    assert (tmp_path / "there.npz").read_bytes() == b"hours of work" and not (tmp_path / "x.npz").exists()


def test_a_task_with_objects_does_not_label_a_recording_without(tmp_path: Path) -> None:
    from robot_rl import zoo
    from robot_rl.data.episodes import EpisodeWriter
    from robot_rl.data.transition import row_dtype
    from robot_rl.hardware.robot import load_robot

    robot = load_robot("panda")
    contract = zoo.load("sim", "tasks/panda_reach").task().contract(robot)
    with EpisodeWriter(tmp_path / "store", contract, robot) as writer:
        writer.start_episode()
        writer.append(np.zeros(3, row_dtype(contract, robot)))
        writer.end_episode("time")
    with pytest.raises(ValueError, match=r"'panda_lift' has objects, which .*'panda_reach'\) did not record"):
        run(Args(tmp_path / "store", tmp_path / "x.npz", by="task", task="panda_lift"))


@pytest.mark.skipif(not GL, reason="neither OSMesa nor EGL is installed")
@pytest.mark.timeout(900)
def test_a_judge_of_pictures_of_a_lift_is_right_about_new_ones_and_pays_for_them(tmp_path: Path) -> None:
    environment = {**os.environ, "MUJOCO_GL": GL}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.cli.judging", str(tmp_path)]
    found = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, f"{found.stdout}\n{found.stderr}"
