"""A task's world in which one robot practises: goals by phase, no resets of its own, restored bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco.batch")

import torch

from robot_rl import zoo
from robot_rl.cli.main import main
from robot_rl.contract.golden import read_bundle
from robot_rl.learn.checkpoint import Restorable
from robot_rl.learn.metrics import read_metrics
from robot_rl.sim.practice import Practice, PracticeWorld, make_practice

TASK = zoo.load("sim", "tasks/cartpole_swingup").task()


def place(world: PracticeWorld, slider: float, pole: float) -> None:
    world.reset()
    state = {"joint_pos": np.array([[slider, pole]]), "joint_vel": np.zeros((1, 2))}
    world.world.physics.reset(np.zeros(1, int), state)


@pytest.mark.parametrize(
    ("slider", "pole", "phase", "reached", "stuck"),
    [(0.0, 0.05, 0, True, False), (0.0, 0.05, 1, False, False), (0.0, 3.14, 0, False, False),
     (0.0, 3.14, 1, True, False), (1.75, 2.0, 0, False, True), (1.0, 3.14, 1, False, False)],
)  # fmt: skip
def test_a_step_is_judged_by_the_goal_of_its_phase(
    slider: float, pole: float, phase: int, reached: bool, stuck: bool
) -> None:
    world = make_practice(TASK, seed=0)
    place(world, slider, pole)
    moment = world.step(torch.zeros(1, 1), phase)
    assert (moment.reached, moment.stuck) == (reached, stuck)
    assert moment.reward == pytest.approx(float(reached), abs=0.02)
    world.close()


def test_nothing_ends_by_itself_and_a_restored_world_goes_on_the_same() -> None:
    world = make_practice(TASK, seed=1)
    assert isinstance(world, Restorable)
    world.reset()
    rng = np.random.default_rng(0)
    for _ in range(700):  # an episode of the task has 500
        before = world.world.state.joint_pos.copy()
        world.step(torch.from_numpy(rng.uniform(-0.1, 0.1, (1, 1))).float(), 0)
        assert np.abs(world.world.state.joint_pos - before).max() < 0.5
    kept, push = world.snapshot(), torch.full((1, 1), 0.3)
    first = [world.step(push, 1).obs["policy"].clone() for _ in range(5)]
    world.restore(kept)
    again = [world.step(push, 1).obs["policy"] for _ in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    world.close()


def test_a_practice_is_trained_resumed_exported_and_tells_its_effort(tmp_path: Path) -> None:
    words = ["train", "cartpole_swingup_practice", "--out", str(tmp_path), "--no-progress", "--total-steps"]
    assert main([*words, "500"]) == 0
    assert main([*words, "1000", "--resume"]) == 0
    bundle = read_bundle(tmp_path / "policy.onnx")
    assert (bundle.provenance["algorithm"], bundle.provenance["steps"]) == ("practice", 1_000)
    assert main(["check", str(tmp_path / "policy.onnx")]) == 0
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["steps"] for row in rows] == [500, 1_000]
    assert rows[-1]["practice/resets_per_1000"] == rows[-1]["practice/hard_resets"]
    assert json.loads((tmp_path / "run.json").read_text())["algorithm"] == "practice"


def test_what_has_no_practice_is_answered_with_those_that_have() -> None:
    with pytest.raises(ValueError, match=r"no 'panda_reach' in sim/practices; it has \['cartpole_swingup'\]"):
        make_practice(zoo.load("sim", "tasks/panda_reach").task(), seed=0)
    with pytest.raises(ValueError, match="there is no goal"):
        Practice({})
    with pytest.raises(ValueError, match="has constraints or a curriculum"):
        PracticeWorld(
            zoo.load("sim", "tasks/go2_velocity_cat").task(),
            zoo.load("sim", "practices/cartpole_swingup").practice(),
            seed=0,
        )
