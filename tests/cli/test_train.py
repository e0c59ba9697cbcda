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
