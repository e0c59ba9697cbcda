"""Every released policy: whole, at home on its robot, and described by a card of this very file."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl import zoo
from robot_rl.contract.golden import read_bundle
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.policy import Policy

NAMES = zoo.names("policies", "released")


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest) -> Path:
    return zoo.find("policies", f"released/{request.param}.onnx")


def test_the_main_job_has_its_released_policy() -> None:
    assert "go2_walk_ppo" in NAMES


def test_it_loads_on_its_robot_with_this_machines_own_arithmetic(path: Path) -> None:
    robot = load_robot(read_bundle(path).contract.robot)
    policy = Policy.load(path, robot)  # reads, checks against the robot, replays the golden vectors, warms up
    assert policy.contract.robot == robot.name


def test_its_task_exists(path: Path) -> None:
    assert read_bundle(path).contract.task in zoo.names("sim", "tasks")


def test_it_says_where_it_comes_from(path: Path) -> None:
    assert {"commit", "recipe", "seed", "steps"} <= set(read_bundle(path).provenance)


def test_its_card_is_of_this_file(path: Path) -> None:
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert read_bundle(path).file_sha256[:12] in card, "the card's numbers are of another file"
    assert "seed" in card
    assert "robot-rl eval" in card
