"""``robot-rl train`` with an overseer: a poor copy of a released run takes over, and a policy for a robot comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from robot_rl import zoo
from robot_rl.cli import export, train
from robot_rl.cli.learning import load_learnt
from robot_rl.contract.golden import read_bundle
from robot_rl.learn import checkpoint, imitation
from robot_rl.learn.overseer import Strategy
from robot_rl.learn.recipe import Recipe


def args(recipe: str, out: Path, steps: int) -> train.Args:
    return train.Args(recipe, seed=1, total_steps=steps, num_envs=4, out=out, progress=False)


def test_a_policy_that_was_overseen_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no teacher: runs/cartpole_swingup_ppo holds no run"):
        train.run(args("cartpole_swingup_rlif", tmp_path / "early", 1_000))
    assert train.run(args("cartpole_swingup_ppo", Path("runs/cartpole_swingup_ppo/first"), 256)) == 0

    out = tmp_path / "rlif"
    assert train.run(args("cartpole_swingup_rlif", out, 4_000)) == 0
    bundle = read_bundle(out / "policy.onnx")
    assert (bundle.provenance["algorithm"], bundle.provenance["steps"]) == ("rlif", 4_000)
    assert json.loads((out / "run.json").read_text())["teacher"].endswith(".npz")
    assert export.run(export.Args(out, out=tmp_path / "again.onnx")) == 0

    assert train.run(args("cartpole_swingup_ppo", tmp_path / "other", 256)) == 0
    swapped = replace(args("cartpole_swingup_rlif", out, 4_100), resume=True, teacher=tmp_path / "other")
    with pytest.raises(ValueError, match=r"holds a run of teacher '.*', not of '.*other.*'; leave --teacher away"):
        train.run(swapped)
    assert train.run(replace(swapped, teacher=Path("runs/cartpole_swingup_ppo/first"))) == 0

    config = imitation.Config(
        teacher="cartpole_swingup_ppo", strategy=Strategy("distance"), demos=1, rounds=1, episodes=1,
        pretrain_updates=5, round_updates=5, hidden=(16, 16),
    )  # fmt: skip
    recipe = Recipe("cartpole_swingup", config, algorithm="imitation", num_envs=4)
    module = type("Module", (), {"recipe": staticmethod(lambda: replace(recipe))})
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("cloned") else load(room, name))
    assert train.run(args("cloned", tmp_path / "clone", 10_000)) == 0
    assert read_bundle(tmp_path / "clone" / "policy.onnx").provenance["algorithm"] == "imitation"
    path = checkpoint.latest(tmp_path / "clone" / "checkpoints")
    assert path is not None and load_learnt(path).steps > 0
