"""What ``robot-rl train`` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.cli import main, train
from robot_rl.cli.train import Args, run
from robot_rl.contract.golden import read_bundle


def test_a_seed_below_zero_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed is -1; it must be at least 0"):
        run(Args(recipe="go2_walk_ppo", seed=-1, out=tmp_path / "run"))


def test_a_recipe_that_fine_tunes_names_the_verb_for_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="robot-rl finetune go2_tune_rlpd"):
        run(Args(recipe="go2_tune_rlpd", out=tmp_path / "run"))


def test_pictures_that_an_algorithm_does_not_look_at_are_named(tmp_path: Path, monkeypatch) -> None:
    recipes = tmp_path / "policies" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "blind.py").write_text(
        "import dataclasses\nfrom robot_rl import zoo\n\n\ndef recipe():\n"
        "    lift = zoo.load('policies', 'recipes/panda_lift_rlpd').recipe()\n"
        "    return dataclasses.replace(lift, task='panda_lift_pixels')\n"
    )
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"shows pictures of \['wrist'\], which 'iql' does not look at"):
        run(Args(recipe="blind", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["--prior a b --prior c", "--prior a b c", "--prior a --prior b --prior c"])
def test_every_prior_counts(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Args] = []
    monkeypatch.setattr(train, "run", lambda args: seen.append(args) or 0)
    assert main.main(["train", "cartpole_swingup_rlpd", *words.split(), "--seed", "1"]) == 0
    assert seen[0].prior == (Path("a"), Path("b"), Path("c"))
    assert (seen[0].recipe, seen[0].seed) == ("cartpole_swingup_rlpd", 1)


def test_a_run_too_short_for_a_report_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(Args("cartpole_swingup_rlpd", total_steps=64, out=out, progress=False)) == 0
    assert read_bundle(out / "policy.onnx").provenance["steps"] == 64
    assert "report: none, for no iteration was finished" in capsys.readouterr().err
    assert not (out / "report.html").exists()


def test_a_run_that_is_stopped_before_a_checkpoint_says_that_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*words: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "learn", stopped)
    assert main.main(["train", "cartpole_swingup_rlpd", "--out", str(tmp_path), "--no-progress"]) == 130
    assert f"no checkpoint yet in {tmp_path}, nothing kept" in capsys.readouterr().err
