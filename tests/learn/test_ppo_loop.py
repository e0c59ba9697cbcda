"""Whole runs: exact resume, budgets, poisoned worlds, and a task that is learnt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robot_rl import zoo
from robot_rl.learn import checkpoint, ppo
from robot_rl.learn.env import Step
from robot_rl.learn.ppo_loop import train
from robot_rl.sim.env import make_env
from tests.learn.toy_env import PointMass

PER_ITERATION = 32 * 8
TINY = ppo.Config(
    total_steps=7 * PER_ITERATION, num_steps=8, actor_hidden=(16, 16), critic_hidden=(16, 16), save_every=3
)


def rows(out: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without the clock's."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


@pytest.mark.parametrize("exploration", ["gaussian", "gsde"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, exploration: str) -> None:
    cfg = replace(TINY, exploration=exploration)
    whole = train(cfg, PointMass(32, seed=1, episode=5), tmp_path / "whole", progress=False)
    train(
        replace(cfg, total_steps=4 * PER_ITERATION), PointMass(32, seed=1, episode=5), tmp_path / "cut", progress=False
    )
    resumed = train(cfg, PointMass(32, seed=99, episode=5), tmp_path / "cut", resume=True, progress=False)
    assert resumed.iteration == whole.iteration == 6  # the first rollout only feeds the normaliser
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    for a, b in zip(whole.actor.state_dict().values(), resumed.actor.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_run_in_a_simulated_world_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    """The go2 with constraints, noise, pushes and delays; the resumed process builds its world anew."""
    task = replace(zoo.load("sim", "tasks/go2_velocity_cat").task(), episode_s=0.4)

    def run(out: str, total_steps: int, *, resume: bool = False) -> ppo.Agent:
        env = make_env(task, num_envs=32, seed=1, threads=1)
        cfg = replace(TINY, total_steps=total_steps)
        return train(cfg, env, tmp_path / out, resume=resume, progress=False)  # pyright: ignore[reportArgumentType]

    whole = run("whole", 7 * PER_ITERATION)
    run("cut", 4 * PER_ITERATION)
    resumed = run("cut", 7 * PER_ITERATION, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    for a, b in zip(whole.actor.state_dict().values(), resumed.actor.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_killed_run_repeats_what_was_not_saved(tmp_path: Path) -> None:
    train(TINY, PointMass(32, seed=1, episode=5), tmp_path, progress=False)
    whole = rows(tmp_path)
    checkpoint.numbered(tmp_path / "checkpoints", 6).unlink()  # as if killed after iteration 5, saved at 3
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 7, "st')  # a torn line
    train(TINY, PointMass(32, seed=5, episode=5), tmp_path, resume=True, progress=False)
    assert rows(tmp_path) == whole


def test_a_checkpoint_gives_the_actor_back(tmp_path: Path) -> None:
    agent = train(TINY, PointMass(32), tmp_path, progress=False)
    path = checkpoint.latest(tmp_path / "checkpoints")
    assert path is not None
    loaded, cfg = ppo.load_agent(path)
    obs = torch.randn(10, 2)
    assert torch.equal(loaded.actor(obs), agent.actor(obs))
    assert cfg == TINY


def test_a_fresh_run_never_overwrites_another(tmp_path: Path) -> None:
    train(TINY, PointMass(32), tmp_path, progress=False)
    with pytest.raises(ValueError, match="already holds checkpoints"):
        train(TINY, PointMass(32), tmp_path, progress=False)


def test_resuming_nothing_or_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to resume"):
        train(TINY, PointMass(32), tmp_path, resume=True, progress=False)
    train(TINY, PointMass(32), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"sizes .*'critic': 3.*the environment has \{'policy': 2, 'action': 1\}"):
        train(TINY, PointMass(32, privileged=False), tmp_path, resume=True, progress=False)
    with pytest.raises(ValueError, match=r"actor_hidden = \[16, 16\]; the recipe says \(8,\)"):
        train(replace(TINY, actor_hidden=(8,)), PointMass(32), tmp_path, resume=True, progress=False)


def test_the_time_budget_ends_a_run(tmp_path: Path) -> None:
    cfg = replace(TINY, total_steps=10**9, max_minutes=0.5 / 60.0)
    agent = train(cfg, PointMass(32), tmp_path, progress=False)
    assert 0.5 <= agent.train_s < 5.0
    assert checkpoint.latest(tmp_path / "checkpoints") is not None


class Poisoned(PointMass):
    """Gives one NaN reward at step 40."""

    steps = 0

    def step(self, action: torch.Tensor) -> Step:
        self.steps += 1
        out = super().step(action)
        if self.steps == 40:
            out.reward[3] = float("nan")
        return out


def test_a_poisoned_world_is_named_and_the_last_good_weights_are_kept(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"reward\[7, 3\] is nan; 1 of 256 .* last good weights"):
        train(TINY, Poisoned(32), tmp_path, progress=False)
    agent, _ = ppo.load_agent(tmp_path / "checkpoints" / "last_good.npz")
    assert agent.iteration == 3
    assert all(p.isfinite().all() for p in agent.actor.state_dict().values())


def evaluate(agent: ppo.Agent, env: PointMass) -> float:
    """Return the mean reward per step of the deterministic policy over one episode."""
    obs, total = env.reset(), torch.zeros(env.num_envs)
    with torch.no_grad():
        for _ in range(env.episode):
            step = env.step(agent.actor(obs["policy"]))
            obs, total = step.obs, total + step.reward
    return float(total.mean()) / env.episode


@pytest.mark.parametrize(
    ("exploration", "log_std"), [("gaussian", 0.0), pytest.param("gsde", -1.5, marks=pytest.mark.slow)]
)
def test_a_point_mass_learns_to_rest(tmp_path: Path, exploration: str, log_std: float) -> None:
    # the optimum brakes from |x| <= 1 within a few steps; doing nothing drifts out of the range and terminates
    cfg = ppo.Config(
        total_steps=40_000, exploration=exploration, log_std=log_std, actor_hidden=(32, 32), critic_hidden=(32, 32)
    )
    agent = train(cfg, PointMass(64), tmp_path, progress=False)
    assert evaluate(agent, PointMass(256, seed=7)) > 0.92
