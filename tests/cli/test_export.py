"""``robot-rl export``: a checkpoint of a real, short run becomes the policy that the run itself would have exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.cli.main import main
from robot_rl.contract.golden import read_bundle

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robot_rl.learn.export import read_mlp


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of cart-pole, with its own exported policy."""
    out = tmp_path_factory.mktemp("run")
    words = ["cartpole_swingup_ppo", "--num-envs", "8", "--total-steps", "1024", "--out", str(out), "--no-progress"]
    assert main(["train", *words]) == 0
    return out


def same_network(a: Path, b: Path) -> bool:
    pairs = zip(read_mlp(a).layers, read_mlp(b).layers, strict=True)
    return all((w == v).all() and (x == y).all() for (w, x), (v, y) in pairs)


def test_a_runs_newest_checkpoint_is_its_policy(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.onnx"
    assert main(["export", str(run_folder), "-o", str(out)]) == 0
    again, first = read_bundle(out), read_bundle(run_folder / "policy.onnx")
    assert again.graph_sha256 == first.graph_sha256
    assert again.contract == first.contract
    same = ("recipe", "seed", "steps", "algorithm", "commit", "command", "architecture")
    assert {k: again.provenance[k] for k in same} == {k: first.provenance[k] for k in same}
    assert main(["check", str(out)]) == 0


def test_a_checkpoint_can_be_named(run_folder: Path, tmp_path: Path) -> None:
    checkpoint = max((run_folder / "checkpoints").glob("*.npz"))
    out = tmp_path / "named.onnx"
    assert main(["export", str(checkpoint), "-o", str(out)]) == 0
    assert same_network(out, run_folder / "policy.onnx")


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path)]) == 2
    assert f"no checkpoint in {tmp_path}" in capsys.readouterr().err
    torn = tmp_path / "checkpoints" / "00000001.npz"
    torn.parent.mkdir()
    torn.write_bytes(b"torn")
    assert main(["export", str(tmp_path)]) == 2
    assert "is no run's folder: it has no run.json" in capsys.readouterr().err


def test_a_task_that_was_changed_since_is_refused(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = max((run_folder / "checkpoints").glob("*.npz"))
    copy = tmp_path / "checkpoints" / checkpoint.name
    copy.parent.mkdir()
    copy.write_bytes(checkpoint.read_bytes())
    about = json.loads((run_folder / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(about | {"contract": "0" * 64}))
    assert main(["export", str(tmp_path)]) == 2
    assert "task 'cartpole_swingup' was changed since" in capsys.readouterr().err
