"""RLPD in a world: exact resume, learning starts when it says, a pendulum swings up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn.env import Step
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.rlpd import Config
from robot_rl.learn.rlpd_loop import train
from tests.learn.toy_env import PointMass

SMALL = Config(
    critics=3, subset=2, hidden=(16, 16), actor_hidden=(16, 16), utd=2, batch=32, total_steps=400, start_steps=100,
    blocks_per_step=0.25, log_every=40, save_every=200, capacity=300,
)  # fmt: skip


class Pendulum:
    """Gymnasium's Pendulum-v1 in a few lines: torque 2 u, reward -(angle^2 + 0.1 w^2 + 0.001 torque^2), 200 steps."""

    num_envs, obs_sizes, num_actions = 1, {"policy": 3}, 1

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.angle = self.w = 0.0
        self.age = 0

    def reset(self) -> dict[str, Tensor]:
        angle, w = (torch.rand(2, generator=self.generator) * 2.0 - 1.0).tolist()
        self.angle, self.w, self.age = angle * math.pi, w, 0
        return self.observe()

    def observe(self) -> dict[str, Tensor]:
        return {"policy": torch.tensor([[math.cos(self.angle), math.sin(self.angle), self.w]])}

    def step(self, action: Tensor) -> Step:
        torque = 2.0 * float(action[0, 0])
        angle = (self.angle + math.pi) % (2.0 * math.pi) - math.pi
        cost = angle**2 + 0.1 * self.w**2 + 0.001 * torque**2
        self.w = min(8.0, max(-8.0, self.w + (15.0 * math.sin(self.angle) + 3.0 * torque) * 0.05))
        self.angle += self.w * 0.05
        self.age += 1
        next_obs, over = self.observe(), self.age >= 200
        obs = self.reset() if over else next_obs
        return Step(obs, torch.tensor([-cost]), torch.zeros(1), torch.tensor([over]), next_obs, {})

    def close(self) -> None:
        pass


def rows(out: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(out / "metrics.jsonl")]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(SMALL, PointMass(8), tmp_path / "whole", progress=False)
    train(replace(SMALL, total_steps=200), PointMass(8), tmp_path / "halves", progress=False)
    halves = train(SMALL, PointMass(8, seed=5), tmp_path / "halves", resume=True, progress=False)
    assert torch.equal(whole.critics, halves.critics)
    assert torch.equal(whole.generator.get_state(), halves.generator.get_state())
    assert rows(tmp_path / "halves") == rows(tmp_path / "whole")


def test_blocks_follow_the_transitions_that_pay_for_them(tmp_path: Path) -> None:
    agent = train(SMALL, PointMass(8), tmp_path, progress=False)
    assert agent.actor_updates == (400 - 96) // 4  # the step from 96 to 104 is the first that pays
    assert agent.critic_updates == 2 * agent.actor_updates


def test_a_run_is_never_begun_over_another(tmp_path: Path) -> None:
    train(SMALL, PointMass(8), tmp_path, progress=False)
    with pytest.raises(ValueError, match="already holds checkpoints"):
        train(SMALL, PointMass(8), tmp_path, progress=False)
    with pytest.raises(ValueError, match="nothing to resume"):
        train(SMALL, PointMass(8), tmp_path / "empty", resume=True, progress=False)
    with pytest.raises(ValueError, match="total_steps is 0; a run takes at least 1"):
        train(replace(SMALL, total_steps=0), PointMass(8), tmp_path / "none", progress=False)


def test_prior_data_is_learnt_from(tmp_path: Path) -> None:
    """Prior rewards of 100 reach the critics though the world never pays them."""
    prior = Replay(64, transition_columns(5, 1))
    columns = {name: np.zeros((64, w) if w else 64) for name, w in prior.columns.items()}
    prior.extend(columns | {"reward": np.full(64, 100.0), "terminated": np.ones(64)})
    cfg = replace(SMALL, critic_lr=3e-3, total_steps=800)
    agent = train(cfg, PointMass(8), tmp_path, prior=prior, progress=False)
    last = rows(tmp_path)[-1]
    assert last["loss/reward"] == pytest.approx(50.0, abs=2.0)
    assert agent.critic_updates > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pendulum_swings_up_within_three_thousand_steps(tmp_path: Path) -> None:
    cfg = Config(
        critics=2, hidden=(64, 64), actor_hidden=(64, 64), batch=128, utd=10, blocks_per_step=1.0, total_steps=3_000,
        start_steps=500, critic_lr=1e-3, actor_lr=1e-3, temperature_lr=1e-3,
    )  # fmt: skip
    agent = train(cfg, Pendulum(0), tmp_path, progress=False)
    world, returns = Pendulum(99), []
    for _ in range(20):
        obs, total = world.reset(), 0.0
        for _ in range(200):
            with torch.no_grad():
                step = world.step(agent.actor(obs["policy"]))
            obs, total = step.obs, total + float(step.reward)
        returns.append(total)
    assert np.mean(returns) > -250.0  # a policy that cannot swing up gets -1200
