"""Recipes: refused where impossible, and varied from the command line (every recipe: ``tests/zoo``)."""

from __future__ import annotations

import pytest

from robot_rl import zoo
from robot_rl.learn import distill, ppo, practice, rlif
from robot_rl.learn.recipe import Recipe, vary

FROM_SCRATCH = [name for name in zoo.names("policies", "recipes") if "_tune_" not in name]


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_a_recipe_cuts_its_rollout_into_whole_minibatches(name: str) -> None:
    recipe = zoo.load("policies", f"recipes/{name}").recipe()
    if recipe.algorithm == "ppo":
        assert recipe.num_envs * recipe.config.num_steps % recipe.config.minibatches == 0


def test_varying_changes_what_is_named_and_nothing_else() -> None:
    recipe = Recipe(task="t", config=ppo.Config(seed=1, total_steps=10, clip=0.3), num_envs=8)
    other = vary(recipe, seed=0, max_minutes=2.0)
    assert isinstance(other.config, ppo.Config)
    assert (other.config.seed, other.config.max_minutes) == (0, 2.0)
    assert (other.config.total_steps, other.config.clip, other.num_envs) == (10, 0.3, 8)
    assert vary(recipe) == recipe


def test_a_recipe_that_learns_from_mirror_images_remembers_where_it_leaves_them() -> None:
    recipe = Recipe(task="t", config=ppo.Config(symmetry="augment"))
    other = vary(recipe, memory="gru", symmetry="none").config
    assert isinstance(other, ppo.Config)
    assert (other.memory, other.symmetry) == ("gru", "none")
    with pytest.raises(ValueError, match="symmetry 'augment' needs memory 'none', not 'gru'"):
        vary(recipe, memory="gru")


def test_an_unknown_algorithm_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"no algorithm 'sac'; the choices are \('ppo', .*'rlpd', 'iql'"):
        Recipe(task="t", config=ppo.Config(), algorithm="sac")


def test_the_settings_of_another_algorithm_are_refused() -> None:
    with pytest.raises(ValueError, match=r"algorithm 'distill' takes a robot_rl\.learn\.distill\.Config, not Config"):
        Recipe(task="t", config=ppo.Config(), algorithm="distill")
    student = Recipe(task="t", config=distill.Config(teacher="t"), algorithm="distill")
    with pytest.raises(ValueError, match=r"algorithm 'distill' has no setting \['exploration'\]"):
        vary(student, exploration="gsde")
    assert vary(student, seed=3).config.seed == 3


def test_no_environment_is_refused() -> None:
    with pytest.raises(ValueError, match="num_envs is 0"):
        Recipe(task="t", config=ppo.Config(), num_envs=0)
    with pytest.raises(ValueError, match="num_envs is 0"):
        vary(Recipe(task="t", config=ppo.Config()), num_envs=0)


def test_a_reward_that_nobody_looks_at_is_refused() -> None:
    for config, name in ((practice.Config(), "practice"), (rlif.Config("t"), "rlif"), (distill.Config("t"), "distill")):
        with pytest.raises(ValueError, match=f"'{name}' never looks at a reward 'judge.onnx'; leave it at 'task'"):
            vary(Recipe("t", config, name, num_envs=1), reward="judge.onnx")
    for config in (rlif.Config("t", method="hil_serl"), rlif.Config("t", task_reward=0.1)):
        assert vary(Recipe("t", config, "rlif"), reward="judge.onnx").reward == "judge.onnx"


def test_several_worlds_for_a_practice_are_refused() -> None:
    with pytest.raises(ValueError, match="num_envs is 4; 'practice' goes on in one world, 1"):
        vary(Recipe("t", practice.Config(), "practice", num_envs=1), num_envs=4)
