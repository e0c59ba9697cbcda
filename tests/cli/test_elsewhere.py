"""Backends in other environments: a real second interpreter runs the episodes, and they are the same to the bit."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.cli.main import main
from robot_rl.cli.measured.elsewhere import ISAAC_PYTHON, find_pythons, run_elsewhere
from robot_rl.sim.episode_file import read_episodes, write_episodes
from robot_rl.sim.evaluation import ARRAYS, GROUPS, Episodes, run_episodes
from robot_rl.sim.gate import Limits, compare

CARTPOLE = Path(__file__).parents[1] / "golden" / "policies" / "cartpole_tiny.onnx"
HERE = Path(sys.executable)


def same(a: Episodes, b: Episodes) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name, strict=True)
    for group in GROUPS:
        assert list(getattr(a, group)) == list(getattr(b, group))
        for name, value in getattr(a, group).items():
            np.testing.assert_array_equal(value, getattr(b, group)[name], err_msg=name, strict=True)


def test_episodes_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {name: rng.normal(size=3) for name in ARRAYS}
    values |= {"command": rng.normal(size=(3, 2)), "fell": np.array([True, False, True])}
    episodes = Episodes(**values, violated={"torque": np.arange(3.0)}, terms={"a": np.zeros(3), "b/c": np.ones(3)})
    write_episodes(tmp_path / "x.npz", episodes)
    same(read_episodes(tmp_path / "x.npz"), episodes)


def test_files_of_others_and_of_other_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, robot_rl=np.array("0"), a=np.zeros(3))
    (tmp_path / "half.npz").write_bytes(wrong.read_bytes()[:200])
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    for path in (wrong, tmp_path / "half.npz", tmp_path / "array.npz.npy"):
        with pytest.raises(ValueError, match="holds no episodes"):
            read_episodes(path)
    old = tmp_path / "old.npz"
    monkeypatch.setattr("robot_rl.sim.episode_file.__version__", "0.0.1")
    write_episodes(old, Episodes(*(np.zeros(1) for _ in ARRAYS)))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"written by robot_rl 0\.0\.1, this is"):
        read_episodes(old)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("isaac", r"python 'isaac' is not backend=python, e\.g\. isaac=\.venv-isaac"),
        ("bullet=python", r"no physics backend 'bullet'; the choices are .*mujoco_cpu"),
        ("mujoco_gpu=python", r"not asked for; --physics is \['mujoco_cpu'\]"),
        ("mujoco_cpu=no/such/python", r"Python of physics 'mujoco_cpu' is 'no/such/python', which is no file"),
    ],
)
def test_a_word_that_names_no_python_is_refused_with_the_reason(word: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        find_pythons([word], ["mujoco_cpu"])


def test_isaac_lab_is_found_in_its_own_environment_or_names_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "isaaclab", None)  # what Python does where a package is not there
    monkeypatch.setattr(zoo, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = ["eval", str(CARTPOLE), "--physics", "mujoco_cpu,isaac", "--episodes", "100000"]
    assert main(asked) == 2  # at once: nothing runs before
    said = capsys.readouterr().err
    assert "needs Isaac Lab 3.0" in said and "make test-isaac" in said and "--python isaac=PYTHON" in said
    python = tmp_path / ".venv-isaac" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert find_pythons([], ["mujoco_cpu", "isaac"]) == {"isaac": python}
    assert find_pythons(["isaac="], ["isaac"]) == {}  # here, whatever there is
    assert find_pythons([f"isaac={HERE}"], ["isaac"]) == {"isaac": HERE}
    assert find_pythons([], ["mujoco_cpu", "mujoco_gpu"]) == {}


def test_episodes_of_another_interpreter_are_those_of_this_one_and_join_the_gate() -> None:
    """The second backend is the first one in a second interpreter, so that every gap is exactly zero."""
    elsewhere = partial(run_elsewhere, HERE)
    told: list[tuple[str, int, int]] = []

    def run(policy: Path, *, physics: str, **options: Any) -> Episodes:
        return (elsewhere if physics == "mujoco_gpu" else run_episodes)(policy, physics="mujoco_cpu", **options)

    found = compare(
        CARTPOLE,
        ("mujoco_cpu", "mujoco_gpu"),
        limits=Limits(0.0, 0.0, 0.0, 0.0),
        progress=lambda *x: told.append(x),
        run=run,
        episodes=3,
        seed=5,
        threads=1,
        disturbed=True,
        task="cartpole_swingup",
        robot="cartpole",
        changes={"motor_strength": {"slider": 0.7}, "joint_damping": 2.0},
    )
    ours, theirs = found.episodes.values()
    same(ours, theirs)
    assert found.passed and found.gaps["mujoco_gpu"].returns_ci95 == 0.0
    assert told[-1] == ("mujoco_gpu", 1, 1) and len(theirs.returns) == 3
    plain = run_episodes(CARTPOLE, episodes=3, seed=5, threads=1, disturbed=True)
    assert not np.array_equal(plain.returns, theirs.returns)  # the changes were made there


def test_the_verb_runs_a_backend_in_the_python_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", str(CARTPOLE), "--episodes", "2", "--threads", "1", "--json"]
    assert main([*words, "--python", f"mujoco_cpu={HERE}", "--save", str(tmp_path / "a.npz")]) == 0
    elsewhere = json.loads(capsys.readouterr().out)
    assert main([*words, "--save", str(tmp_path / "b.npz")]) == 0
    assert json.loads(capsys.readouterr().out) == elsewhere
    same(read_episodes(tmp_path / "a.npz"), read_episodes(tmp_path / "b.npz"))


@pytest.mark.skipif(importlib.util.find_spec("isaaclab") is not None, reason="Isaac Lab is installed here")
def test_what_the_other_python_refuses_is_said_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(CARTPOLE), "--episodes", "1", "--physics", "isaac", "--python"]
    assert main([*words, f"isaac={HERE}"]) == 2
    assert f"physics 'isaac' in {HERE}: Isaac backend needs Isaac Lab 3.0" in capsys.readouterr().err
    bare = tmp_path / "python"  # the interpreter without this environment's packages
    bare.symlink_to(HERE.resolve())
    monkeypatch.chdir(tmp_path)
    assert main([*words, f"isaac={bare}"]) == 2
    assert "it has no robot_rl; install this one there" in capsys.readouterr().err
    assert main([*words, "isaac=/bin/false"]) == 2
    assert "failed with exit code 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--save", "x.npz", "--physics", "mujoco_cpu,mujoco_gpu"], "--save is for the episodes of one backend"),
        (["--save", "x.npz", "--robust"], "--save is for the episodes of one backend"),
        (["--python", f"mujoco_cpu={HERE}", "--robust"], "--robust runs in this Python"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(CARTPOLE), *words]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (zoo.home() / ISAAC_PYTHON).is_file(), reason="no .venv-isaac: make test-isaac")
def test_the_released_walker_passes_the_gate_between_mujoco_and_isaac_lab(capsys: pytest.CaptureFixture[str]) -> None:
    """Each engine in its own environment, two versions of MuJoCo, the same episodes."""
    words = ["--physics", "mujoco_cpu,isaac", "--episodes", "5", "--threads", "1", "--json"]
    assert main(["eval", "go2_walk_ppo", *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] and list(said["physics"]) == ["mujoco_cpu", "isaac"]
    assert all(one["episodes"] == 5 and one["fall_rate"] == 0.0 for one in said["physics"].values())
    assert said["gaps"]["isaac"]["returns"] != 0.0  # they are two engines
