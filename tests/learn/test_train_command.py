"""``robot-rl train`` on a real world: a run's folder is whole, resumes, and its policy can be read by a robot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robot_rl.cli import train
from robot_rl.contract.golden import read_bundle
from robot_rl.learn import checkpoint
from robot_rl.learn.metrics import read_metrics

STEPS = 8 * 32  # one rollout of 8 environments


def args(out: Path, rollouts: int, *, resume: bool = False) -> train.Args:
    return train.Args(
        "cartpole_swingup_ppo", seed=3, total_steps=rollouts * STEPS, num_envs=8, out=out, resume=resume, progress=False
    )


def test_a_run_leaves_everything_and_resumes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train.run(args(out, 3)) == 0
    assert {p.name for p in out.iterdir() if "tfevents" not in p.name} == {
        "checkpoints", "metrics.jsonl", "policy.onnx", "report.html", "run.json",
    }  # fmt: skip
    bundle = read_bundle(out / "policy.onnx")
    about = json.loads((out / "run.json").read_text())
    assert bundle.contract.robot == about["robot"] == "cartpole"
    assert bundle.contract.fingerprint == about["contract"]
    assert (bundle.provenance["recipe"], bundle.provenance["seed"]) == ("cartpole_swingup_ppo", 3)
    assert bundle.provenance["steps"] == 3 * STEPS

    for other, why in (
        (args(out, 5), "already holds checkpoints; --resume the run"),
        (
            replace(args(out, 5, resume=True), recipe="go2_walk_ppo"),
            "run of recipe 'cartpole_swingup_ppo', not of",
        ),
        (replace(args(out, 5, resume=True), memory="gru"), "was trained with memory = none; the recipe says gru"),
        (args(tmp_path / "none", 5, resume=True), "nothing to resume: no checkpoint in .*none"),
    ):
        with pytest.raises(ValueError, match=why):
            train.run(other)
    assert json.loads((out / "run.json").read_text()) == about  # what was refused has touched nothing
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert train.run(args(out, 5, resume=True)) == 0
    assert [row["steps"] for row in read_metrics(out / "metrics.jsonl")] == [i * STEPS for i in (2, 3, 4, 5)]
    assert read_bundle(out / "policy.onnx").provenance["steps"] == 5 * STEPS
    latest = checkpoint.latest(out / "checkpoints")
    assert latest is not None and checkpoint.load(latest)["steps"] == 5 * STEPS


def test_a_run_that_is_stopped_exports_what_it_has_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = train.learn

    def stopped(*words: Any, **options: Any) -> None:
        learn(*words, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "learn", stopped)
    assert train.run(args(tmp_path, 2)) == 130
    assert read_bundle(tmp_path / "policy.onnx").provenance["steps"] == 2 * STEPS


def test_an_unknown_recipe_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'cartpole_swingup_ppoo' in policies/recipes.*'cartpole_swingup_ppo'"):
        train.run(train.Args("cartpole_swingup_ppoo", out=tmp_path))


def test_resuming_without_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="nothing to resume in runs/cartpole_swingup_ppo"):
        train.run(train.Args("cartpole_swingup_ppo", resume=True))
