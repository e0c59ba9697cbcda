"""``robot-rl train --reward``: a task is paid for success alone, or by a judge, and prior data with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from robot_rl import zoo
from robot_rl.cli.main import main
from robot_rl.cli.reward import judged, rewarded
from robot_rl.contract.judge import Judge
from robot_rl.data.labels import Labelled
from robot_rl.learn import checkpoint, success
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.recipe import Recipe, vary
from robot_rl.learn.success_file import export_judge
from robot_rl.learn.warm_start import read_critics
from robot_rl.sim.env import make_env


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Says yes where the pole hangs: its cosine, the fourth number of the observation, is below -0.5."""
    task = zoo.load("sim", "tasks/cartpole_swingup").task()
    env = make_env(task, num_envs=1, seed=0)
    seen = np.random.default_rng(0).uniform(-1.0, 1.0, (1_200, env.contract.obs_size)).astype("f4")
    place, contract = hanging(env), env.contract.fingerprint
    env.close()
    data = Labelled(seen, seen[:, place] < -0.5, np.arange(1_200) // 10, "policy", task.name, contract)
    found = success.train(data, success.Config(hidden=32, updates=200, learning_rate=3e-3))
    return export_judge(found, data, tmp_path_factory.mktemp("judge") / "judge.onnx")


def hanging(env: object) -> int:
    """Return the place of the pole's cosine: -1 at a reset, for it hangs."""
    first = env.reset()["policy"][0].numpy()  # type: ignore[attr-defined]
    return int(first[:4].argmin())


WORDS = ["train", "cartpole_swingup_rlpd", "--total-steps", "500", "--no-progress", "--out"]


@pytest.fixture(scope="module")
def runs(judge: Judge, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that the task paid, and one with it as prior data that the judge paid."""
    folder = tmp_path_factory.mktemp("runs")
    run, again = folder / "run", folder / "again"
    assert main([*WORDS, str(run)]) == 0
    assert main([*WORDS, str(again), "--prior", str(run), "--reward", str(judge.path)]) == 0
    return run, again


def test_a_judge_pays_the_world_and_what_others_did(judge: Judge, runs: tuple[Path, Path]) -> None:
    run, again = runs
    about = json.loads((again / "run.json").read_text())
    assert about["reward"] == str(judge.path)
    own, paid = (read_metrics(folder / "metrics.jsonl")[-1] for folder in (run, again))
    assert set(paid) >= {"steps"} and own["steps"] == paid["steps"] == 500


def test_a_run_goes_on_with_its_reward_alone(
    judge: Judge, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = runs
    assert main([*WORDS, str(again), "--resume"]) == 2
    assert f"repeat --reward {judge.path}, or choose another --out" in capsys.readouterr().err
    assert json.loads((again / "run.json").read_text())["reward"] == str(judge.path)
    assert main([*WORDS, str(run), "--resume", "--reward", str(judge.path)]) == 2
    assert "repeat --reward task" in capsys.readouterr().err


def test_what_a_judge_paid_is_not_taken_for_the_tasks_reward(
    judge: Judge, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, str(tmp_path), "--prior", str(runs[1])]) == 2
    assert f"was paid by the reward '{judge.path}'; the recipe's is 'task'" in capsys.readouterr().err
    newest = [checkpoint.latest(run / "checkpoints") for run in runs]
    assert [read_critics(path).reward for path in newest if path] == ["task", str(judge.path)]


def test_prior_rewards_are_the_judges_own(judge: Judge, tmp_path: Path) -> None:
    from robot_rl.data.replay import Replay, transition_columns

    task = zoo.load("sim", "tasks/cartpole_swingup").task()
    env = make_env(task, num_envs=2, seed=1)
    prior = Replay(4, transition_columns(env.contract.obs_size, 1))
    seen = np.zeros((4, env.contract.obs_size), "f4")
    seen[:2, hanging(env)] = -1.0
    others = {"action": np.zeros((4, 1)), "reward": np.full(4, 7.0), "terminated": np.zeros(4)}
    prior.extend(others | {"obs": seen, "next_obs": seen})
    world = judged(env, str(judge.path), prior)
    assert prior.split(prior.rows)["reward"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert judged(env, "task", None) is env
    world.reset()
    import torch

    assert world.step(torch.zeros(2, 1)).reward.tolist() == [1.0, 1.0]  # it hangs
    env.close()
    other = make_env(zoo.load("sim", "tasks/panda_reach").task(), num_envs=1, seed=0)
    with pytest.raises(ValueError, match="was taught under contract"):
        judged(other, str(judge.path), None)
    other.close()


def test_sparse_pays_for_success_alone() -> None:
    reach = zoo.load("sim", "tasks/panda_reach").task()
    sparse = rewarded(reach, "sparse")
    assert list(sparse.rewards) == ["success"]
    assert sparse.rewards["success"].weight == reach.rate_hz  # times the period: 1
    assert rewarded(reach, "task") is reach
    with pytest.raises(ValueError, match="'cartpole_swingup' has no success term; reward 'sparse' pays for it"):
        rewarded(zoo.load("sim", "tasks/cartpole_swingup").task(), "sparse")


def test_a_recipe_names_its_reward() -> None:
    recipe = zoo.load("policies", "recipes/cartpole_swingup_rlpd").recipe()
    assert isinstance(recipe, Recipe) and recipe.reward == "task"
    assert vary(recipe, reward="judge.onnx").reward == "judge.onnx"
    with pytest.raises(ValueError, match=r"no reward 'applause'; the choices are \('task', 'sparse'\) and a judge's"):
        replace(recipe, reward="applause")
