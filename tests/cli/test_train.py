"""What ``robot-rl train`` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.cli.train import Args, run


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
