"""Every recipe in policies/recipes: it builds, and the task and robot that it names exist."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("torch")

from robot_rl import zoo

NAMES = zoo.names("policies", "recipes")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def recipe(name: str) -> Any:
    return zoo.load("policies", f"recipes/{name}").recipe()


def test_the_main_job_has_its_recipes() -> None:
    assert {"go2_walk_ppo", "go2_tune_rlpd"} <= set(NAMES)


def test_a_recipe_names_a_task_that_exists_on_the_robot_it_is_called_after(name: str, recipe: Any) -> None:
    task = zoo.load("sim", f"tasks/{recipe.task}").task()
    assert task.robot in zoo.names("hardware")
    assert name.startswith(f"{task.robot}_")


def test_a_recipe_is_a_value_that_can_be_varied_but_not_changed(recipe: Any) -> None:
    assert dataclasses.replace(recipe) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.task = "another"


def test_a_recipe_builds_the_same_value_every_time(name: str, recipe: Any) -> None:
    assert zoo.load("policies", f"recipes/{name}").recipe() == recipe
