"""Evaluation: the numbers are those of the episodes, and the episodes are those that were asked for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.cli.eval import Args, parse_changes
from robot_rl.cli.eval import run as run_eval
from robot_rl.contract.spec import Command
from robot_rl.learn.gsde import continuity_cost
from robot_rl.sim import evaluation
from robot_rl.sim.backends import make_physics
from robot_rl.sim.evaluation import Episodes, command_grid, evaluate, run_episodes, undisturbed, velocity_error
from robot_rl.sim.task import Outcome
from robot_rl.sim.world import World

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
GO2, CARTPOLE = POLICIES / "go2_tiny.onnx", POLICIES / "cartpole_tiny.onnx"
KEYS = (
    "episodes", "fall_rate", "lin_vel_error", "yaw_rate_error", "return_mean", "return_ci95", "continuity_cost",
    "tracking_reward", "rewards",
)  # fmt: skip


@pytest.fixture
def short(shorten: Callable[[float], None]) -> float:
    shorten(1.2)
    return 1.2


def test_the_grid_covers_the_trained_range() -> None:
    grid = command_grid(Command(("lin_vel_x", "lin_vel_y", "ang_vel_z"), (-1.0, -0.5, -1.0), (1.0, 0.5, 1.0)))
    assert grid.shape == (45, 3) and len(np.unique(grid, axis=0)) == 45
    assert np.unique(grid[:, 0]).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert np.unique(grid[:, 1]).tolist() == [-0.5, 0.0, 0.5]
    assert np.unique(grid[:, 2]).tolist() == [-1.0, 0.0, 1.0]
    assert command_grid(Command((), (), ())).shape == (1, 0)


def test_errors_are_distances_between_the_velocity_and_the_command() -> None:
    """3 and 4 cm/s off is 5 cm/s; turning at -0.2 instead of 0.3 rad/s is 0.5."""
    task = zoo.load("sim", "tasks/go2_velocity").task()
    world = World(task, make_physics(task, num_envs=1, threads=1), seed=0)
    after = dataclasses.replace(
        world.state,
        lin_vel_b=np.array([[0.53, -0.26, 9.0]]),
        ang_vel_b=np.array([[9.0, 9.0, -0.2]]),
        command=np.array([[0.5, -0.3, 0.3]]),
    )
    lin_vel, yaw_rate = velocity_error(Outcome(world.state, after, np.zeros((1, 12)), 0.02, world.contract))
    assert lin_vel[0] == pytest.approx(0.05) and yaw_rate[0] == pytest.approx(0.5)


def test_the_summary_counts_steps_and_episodes() -> None:
    """Two episodes: 30 steps at 0.1 m/s and 10 at 0.5 m/s make (3 + 5) / 40; returns 1 and 3."""
    episodes = Episodes(
        command=np.zeros((2, 3)),
        fell=np.array([False, True]),
        returns=np.array([1.0, 3.0]),
        length_s=np.array([1.6, 1.2]),
        steps=np.array([30.0, 10.0]),
        lin_vel=np.array([3.0, 5.0]),
        yaw_rate=np.array([0.0, 2.0]),
        all_steps=np.array([80.0, 60.0]),
        action_change=np.array([0.5, 0.88]),
        terms={"track_x": np.array([1.4, 2.8]), "other": np.array([-0.4, 0.2])},
    )
    summary = episodes.summary()
    assert tuple(summary) == KEYS
    assert summary == {
        "episodes": 2,
        "fall_rate": 0.5,
        "lin_vel_error": pytest.approx(0.2),
        "yaw_rate_error": pytest.approx(0.05),
        "return_mean": 2.0,
        "return_ci95": pytest.approx(1.96),  # std sqrt(2), over sqrt(2)
        "continuity_cost": pytest.approx(1.0),  # 79 and 59 changes
        "tracking_reward": pytest.approx(1.5),  # 4.2 in 2.8 s
        "rewards": {"track_x": pytest.approx(1.5), "other": pytest.approx(-0.2 / 2.8)},
    }
    assert episodes.where(np.array([True, False])).summary()["return_ci95"] is None


def test_the_continuity_cost_is_the_one_that_training_reports(short: float) -> None:
    """One episode of a real policy, its actions noted on the way, against ``learn.gsde``."""
    policy, task = evaluation.load_pair(CARTPOLE)
    noted: list[np.ndarray] = []

    class Noting:
        recalled = policy.recalled

        def infer(self, obs: np.ndarray, *, memory: np.ndarray, pictures: object) -> np.ndarray:
            noted.append(policy.infer(obs) * (-1.0) ** len(noted))
            return noted[-1]

    world = evaluation.make_world(policy, undisturbed(task), 1, seed=0)
    found = evaluation.run_world(world, Noting(), np.zeros((1, 0)), 60, lambda _done, _all: None)
    expected = float(continuity_cost(torch.from_numpy(np.stack(noted))))
    assert len(noted) == 60 and expected > 0.1
    assert found.summary()["continuity_cost"] == pytest.approx(expected, rel=1e-5)


def test_every_command_of_the_grid_gets_its_share_and_the_first_second_is_left_out(short: float) -> None:
    episodes = run_episodes(GO2, episodes=90, threads=1)
    _, counts = np.unique(episodes.command, axis=0, return_counts=True)
    assert counts.tolist() == [2] * 45
    stayed = ~episodes.fell
    assert stayed.any()
    assert set(episodes.steps[stayed].tolist()) == {10.0}  # 1.2 s less 1 s at 50 Hz
    np.testing.assert_allclose(episodes.length_s[stayed], short)
    np.testing.assert_allclose(sum(episodes.terms.values()), episodes.returns, rtol=1e-4)


def test_falls_are_told_apart_by_the_ground_they_were_on(shorten: Callable[[float], None]) -> None:
    """After 0.1 s nobody has; by hand, two of three fell, both on gaps, one of them on level 1."""
    shorten(0.1)
    rough = run_episodes(GO2, task="go2_velocity_rough", episodes=40, threads=1)
    found = rough.summary()["ground"]
    assert {"gaps", "stones", "stairs_up", "level 0", "level 9"} <= set(found) and set(found.values()) == {0.0}
    three = rough.where(np.arange(40) < 3)
    marked = dataclasses.replace(
        three,
        fell=np.array([True, True, False]),
        ground={"kind": np.array(["gaps", "gaps", "rough"]), "level": np.array([1, 0, 0])},
    )
    assert marked.summary()["ground"] == {"gaps": 1.0, "rough": 0.0, "level 0": 0.5, "level 1": 1.0}


def test_a_seed_repeats_and_another_differs(short: float) -> None:
    one = evaluate(GO2, episodes=9, seed=1, threads=1)
    assert one == evaluate(GO2, episodes=9, seed=1, threads=2)
    assert one != evaluate(GO2, episodes=9, seed=2, threads=1)


def test_episodes_in_turns_are_as_many(short: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "COPIES", 4)
    told: list[tuple[int, int]] = []
    episodes = run_episodes(GO2, episodes=9, threads=1, progress=lambda done, total: told.append((done, total)))
    assert len(episodes.returns) == 9 and episodes.command.shape == (9, 3)
    assert told[-1] == (180, 180) and told == sorted(told)


def test_a_changed_robot_gives_other_numbers(short: float) -> None:
    """With motors of a twentieth of their strength the go2 cannot stand."""
    whole = evaluate(GO2, episodes=4, threads=1)
    weak = evaluate(GO2, episodes=4, threads=1, changes={"motor_strength": 0.05})
    assert whole["fall_rate"] == 0.0 and weak["fall_rate"] == 1.0


def test_disturbances_are_off_unless_asked_for(short: float) -> None:
    task = zoo.load("sim", "tasks/go2_velocity").task()
    calm = undisturbed(task)
    assert (calm.noise, calm.push, calm.randomize, calm.delay_substeps) == (False, None, {}, (0, 0))
    assert calm.resets == task.resets and calm.rewards == task.rewards
    assert evaluate(GO2, episodes=3, threads=1) != evaluate(GO2, episodes=3, threads=1, disturbed=True)


def test_a_task_without_velocity_commands_has_no_velocity_error(short: float) -> None:
    summary = evaluate(CARTPOLE, episodes=3, threads=1)
    assert summary["lin_vel_error"] is None and summary["yaw_rate_error"] is None
    assert summary["episodes"] == 3 and summary["fall_rate"] == 0.0


@pytest.mark.parametrize(
    ("policy", "options", "why"),
    [
        (GO2, {"task": "cartpole_swingup"}, "task 'cartpole_swingup' is for robot 'cartpole', not 'go2'"),
        (GO2, {"task": "moon_walk"}, r"no 'moon_walk' in sim/tasks; it has .*go2_velocity"),
        (GO2, {"episodes": 0}, "episodes is 0"),
        (GO2, {"changes": {"colour": 1.0}}, r"no physical parameter 'colour'; the choices are"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_reason(policy: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        run_episodes(policy, **{"episodes": 1, "threads": 1, **options})


def test_a_damaged_policy_is_refused_before_anything_runs(tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(GO2.read_bytes()[: GO2.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"half\.onnx"):
        run_episodes(half, episodes=1)
    with pytest.raises(FileNotFoundError):
        run_episodes(tmp_path / "none.onnx", episodes=1)


def test_the_verb_prints_one_json_object(short: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_eval(Args(GO2, episodes=2, threads=1, json=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and tuple(json.loads(lines[0])) == KEYS


def test_no_episodes_are_refused_and_not_taken_for_the_default() -> None:
    for robust in (False, True):
        with pytest.raises(ValueError, match="episodes is 0; at least 1"):
            run_eval(Args(GO2, episodes=0, robust=robust))


def test_the_verb_prints_a_table_by_first_command(short: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_eval(Args(GO2, episodes=5, threads=1)) == 0
    out = capsys.readouterr().out
    assert "first = -1.00" in out and "first = +1.00" in out and "all" in out


def test_changes_are_read_from_words() -> None:
    assert parse_changes(("payload_kg=3", "motor_strength:a=0.5", "motor_strength:b=0.6")) == {
        "payload_kg": 3.0,
        "motor_strength": {"a": 0.5, "b": 0.6},
    }
    for words, why in ((("payload_kg",), "neither"), (("x=heavy",), "neither"), (("m=1", "m:a=2"), "one or the other")):
        with pytest.raises(ValueError, match=why):
            parse_changes(words)
