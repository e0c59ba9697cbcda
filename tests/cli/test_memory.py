"""A policy with a memory from ``robot-rl train`` to a robot's record: every verb takes it or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robot_rl.cli import export, finetune, train
from robot_rl.cli.main import main
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.memory import Memory

STEPS = 8 * 32  # one rollout of 8 environments
GRU = Path(__file__).parents[1] / "golden" / "policies" / "go2_gru.onnx"


def args(out: Path, rollouts: int, memory: str | None, *, resume: bool = False) -> train.Args:
    return train.Args(
        "cartpole_swingup_ppo", seed=3, total_steps=rollouts * STEPS, num_envs=8, memory=memory, out=out, resume=resume,
        progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two sessions, exploring with gSDE, as its recipe says."""
    out = tmp_path_factory.mktemp("runs") / "run"
    for rollouts in (2, 3):
        assert train.run(args(out, rollouts, "lstm", resume=rollouts > 2)) == 0
    return out


def test_what_was_trained_is_exported_and_again_from_its_checkpoint(run: Path, tmp_path: Path) -> None:
    assert json.loads((run / "run.json").read_text())["config"]["memory"] == "lstm"
    bundle = read_bundle(run / "policy.onnx")
    assert bundle.memory == Memory("lstm", 64) and bundle.exploration is not None
    assert bundle.provenance["steps"] == 3 * STEPS
    assert export.run(export.Args(run, out=tmp_path / "again.onnx")) == 0
    assert read_bundle(tmp_path / "again.onnx").graph_sha256 == bundle.graph_sha256


def test_what_was_trained_is_checked_and_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = str(run / "policy.onnx")
    assert main(["check", policy, "--json"]) == 0
    network = json.loads(capsys.readouterr().out)["findings"][-1]
    assert network["policy_value"].endswith("golden steps, also exploring (gSDE), in sequence (lstm, 64 features)")
    assert main(["eval", policy, "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1


def test_a_record_of_the_twin_is_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, words = str(tmp_path / "store"), ("--driver", "twin", "--wire", "loopback", "--speed", "50")
    assert main(["run", str(GRU), *words, "--start", "policy", "--duration-s", "5", "--record", store]) == 0
    capsys.readouterr()
    assert main(["check", str(GRU), "--record", store, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"][-1]
    count = found["policy_value"].split()[0]
    assert (found["name"], found["severity"]) == ("record", "ok") and int(count) > 50
    assert found["message"] == f"{count} of {count} repeated to the bit, largest difference 0.0e+00"


def test_another_memory_does_not_resume_a_run(run: Path) -> None:
    for memory, other in ((None, "none"), ("gru", "gru")):
        with pytest.raises(ValueError, match=f"was trained with memory = lstm; the recipe says {other}"):
            train.run(args(run, 4, memory, resume=True))


@pytest.mark.parametrize(
    ("recipe", "memory", "reason"),
    [
        ("cartpole_swingup_ppo", "rnn", r"no memory 'rnn'; the choices are \('none', 'gru', 'lstm'\)"),
        ("go2_walk_ppo", "gru", "symmetry 'augment' needs memory 'none', not 'gru'"),
        ("go2_walk_student", "gru", r"algorithm 'distill' has no setting \['memory'\]; leave it to the recipe"),
        ("go2_tune_rlpd", "gru", "robot-rl finetune go2_tune_rlpd"),
    ],
)
def test_what_cannot_remember_is_refused(tmp_path: Path, recipe: str, memory: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        train.run(train.Args(recipe, memory=memory, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_fine_tuning_takes_no_memory_and_says_so_before_it_waits_for_a_robot(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"go2_gru\.onnx has memory 'gru'; fine-tuning .* needs memory 'none'"):
        finetune.run(finetune.Args("go2_tune_rlpd", GRU, tmp_path / "nothing", tmp_path / "inbox"))
    assert list(tmp_path.iterdir()) == []
