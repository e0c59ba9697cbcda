"""``robot-rl train`` of a teacher and its student on the real go2: only the student becomes a policy for a robot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl import zoo
from robot_rl.cli import export, train
from robot_rl.cli.learning import check_teacher
from robot_rl.contract.golden import read_bundle


def args(recipe: str, out: Path, steps: int, *, teacher: Path | None = None, resume: bool = False) -> train.Args:
    return train.Args(
        recipe, seed=1, total_steps=steps, num_envs=8, out=out, teacher=teacher, resume=resume, progress=False
    )


def test_a_student_learns_from_a_teacher_that_no_robot_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    student, master = tmp_path / "student", Path("runs/go2_walk_teacher/first")
    with pytest.raises(ValueError, match="holds no run; train one first, robot-rl train go2_walk_teacher"):
        train.run(args("go2_walk_student", student, 3 * 8 * 30))

    assert train.run(args("go2_walk_teacher", master, 2 * 8 * 32)) == 0
    assert "no policy file: a teacher sees privileged terms" in capsys.readouterr().out
    assert not (master / "policy.onnx").exists()
    with pytest.raises(ValueError, match="holds a teacher: it sees 'critic', which no robot measures; distil it"):
        export.run(export.Args(master))
    with pytest.raises(ValueError, match="algorithm 'ppo' has no teacher; leave --teacher away"):
        train.run(args("go2_walk_ppo", tmp_path / "other", 256, teacher=master))

    assert train.run(args("go2_walk_student", student, 2 * 8 * 30)) == 0  # finds the newest run of its teacher
    about = json.loads((student / "run.json").read_text())
    assert (about["algorithm"], about["teacher"]) == ("distill", str(master / "checkpoints" / "00000001.npz"))
    bundle = read_bundle(student / "policy.onnx")
    assert bundle.contract.fingerprint == about["contract"]
    assert (bundle.provenance["algorithm"], bundle.provenance["steps"]) == ("distill", 2 * 8 * 30)

    assert train.run(args("go2_walk_student", student, 3 * 8 * 30, resume=True)) == 0
    assert export.run(export.Args(student, out=tmp_path / "again.onnx")) == 0
    assert read_bundle(tmp_path / "again.onnx").provenance["steps"] == 3 * 8 * 30


def test_a_teacher_from_another_robot_or_with_other_senses_is_refused(tmp_path: Path) -> None:
    path, task = tmp_path / "checkpoints" / "00000001.npz", zoo.load("sim", "tasks/go2_velocity").task()
    path.parent.mkdir()
    path.touch()
    check_teacher(path, task)  # without its run's file nothing is known of it
    for name, says in (
        ("cartpole_swingup", "with robot cartpole; task 'go2_velocity' has go2; train a teacher there"),
        ("go2_velocity_rough", r"with privileged terms \[.*'height_scan'\]; task 'go2_velocity' has \[.*contact'\]"),
    ):
        (tmp_path / "run.json").write_text(json.dumps({"task": name}))
        with pytest.raises(ValueError, match=f"was trained on task '{name}' {says}"):
            check_teacher(path, task)
    (tmp_path / "run.json").write_text(json.dumps({"task": "go2_velocity_cat"}))
    check_teacher(path, task)  # the same body and senses under other rewards
