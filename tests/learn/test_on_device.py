"""The adapter between a world of CPU tensors and a learner elsewhere; a card itself is not needed to test it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robot_rl.cli.learning import learn
from robot_rl.learn import ppo
from robot_rl.learn.on_device import OnDevice
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.ranks import Ranks
from robot_rl.zoo import load
from tests.learn.toy_env import PointMass

CONFIG = ppo.Config(
    total_steps=5 * 64, num_steps=8, actor_hidden=(8,), critic_hidden=(8,), save_every=2, exploration="gsde"
)


def world(seed: int = 1) -> PointMass:
    return PointMass(8, seed=seed, episode=5)


def test_a_run_through_the_adapter_is_the_same_run(tmp_path: Path) -> None:
    plain = train(CONFIG, world(), tmp_path / "plain", progress=False)
    moved = train(CONFIG, OnDevice(world(), "cpu"), tmp_path / "moved", progress=False)
    half = replace(CONFIG, total_steps=3 * 64)
    train(half, OnDevice(world(), "cpu"), tmp_path / "cut", progress=False)
    resumed = train(CONFIG, OnDevice(world(9), "cpu"), tmp_path / "cut", resume=True, progress=False)
    for agent in (moved, resumed):
        for a, b in zip(plain.actor.parameters(), agent.actor.parameters(), strict=True):
            assert torch.equal(a, b)


def test_observations_rewards_and_ends_are_on_the_device_and_actions_come_back() -> None:
    env = OnDevice(world(), "cpu")
    env.reset()
    step = env.step(torch.zeros(8, 1))
    tensors = (*step.obs.values(), *step.next_obs.values(), step.reward, step.terminated, step.truncated)
    assert {str(x.device) for x in tensors} == {"cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
def test_a_card_learns(tmp_path: Path) -> None:
    agent = train(CONFIG, OnDevice(world(), "cuda:0"), tmp_path / "card", progress=False)
    assert next(agent.actor.parameters()).is_cuda and agent.iteration == 4
    resumed = train(
        replace(CONFIG, total_steps=7 * 64), OnDevice(world(), "cuda:0"), tmp_path / "card", resume=True, progress=False
    )
    assert resumed.iteration == 6


def test_who_learns_on_the_cpu_says_so(tmp_path: Path) -> None:
    cfg = load("policies", "recipes/go2_aprl").recipe()
    with pytest.raises(ValueError, match="'aprl' learns on the CPU; --device cuda is for ppo, rlpd and distillation"):
        learn(
            cfg, world(), tmp_path, resume=False, progress=False, reflections=None, ranks=Ranks(device="cuda:0"),
            teacher=None, prior=None,
        )  # fmt: skip
