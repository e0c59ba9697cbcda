"""``robot-rl label`` and ``robot-rl judge``: from recorded frames to a judge of success that pays a policy."""

from __future__ import annotations

import ctypes.util
import io
import os
import subprocess
import sys
from pathlib import Path

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
    labels = by_keys(np.zeros(6, DTYPE), 3, 2, io.StringIO("f\nwhat\nS\n\n"))
    assert labels.tolist() == [0, -1, 1, -1, -1, -1]
    assert "'what' is none of" in capsys.readouterr().err


def test_what_the_operator_said_labels_the_end_of_an_episode(tmp_path: Path) -> None:
    """A cart's episodes; one labelled a success, one a failure, one not at all."""
    from robot_rl import zoo
    from robot_rl.data.episodes import EpisodeWriter
    from robot_rl.data.transition import row_dtype
    from robot_rl.hardware.robot import load_robot

    robot = load_robot("cartpole")
    contract = zoo.load("sim", "tasks/cartpole_swingup").task().contract(robot)
    writer = EpisodeWriter(tmp_path / "store", contract, robot)
    for number, label in enumerate((1, -1, 0)):
        rows = np.zeros(10, row_dtype(contract, robot))
        rows["tick"], rows["mode"] = np.arange(10) + 20 * number, Mode.POLICY
        rows["obs"] = number
        writer.start_episode()
        writer.append(rows)
        writer.label(label)
        writer.end_episode("operator", label=label)
    writer.close()
    args = Args(tmp_path / "store", tmp_path / "labels.npz", by="operator", last=4)
    assert run(args) == 0
    data = load_labels(tmp_path / "labels.npz")
    assert (data.source, data.task, data.contract) == ("policy", "cartpole_swingup", contract.fingerprint)
    assert data.episode.tolist() == [0] * 10 + [1] * 10
    assert np.flatnonzero(data.success).tolist() == [6, 7, 8, 9]
    assert main(["judge", str(tmp_path / "labels.npz"), "--out", str(tmp_path / "judge.onnx")]) == 2  # too few
    assert not (tmp_path / "judge.onnx").exists()
    with pytest.raises(ValueError, match="has no success term"):
        run(Args(tmp_path / "store", tmp_path / "x.npz", by="task"))
    with pytest.raises(ValueError, match="no episodes in"):
        run(Args(tmp_path / "nothing", tmp_path / "x.npz"))


@pytest.mark.skipif(not GL, reason="neither OSMesa nor EGL is installed")
@pytest.mark.timeout(900)
def test_a_judge_of_pictures_of_a_lift_is_right_about_new_ones_and_pays_for_them(tmp_path: Path) -> None:
    environment = {**os.environ, "MUJOCO_GL": GL}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.cli.judging", str(tmp_path)]
    found = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, f"{found.stdout}\n{found.stderr}"
