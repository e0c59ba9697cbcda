"""Jump-Start: whose turn it is, and what it is for: a reward that nobody finds by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robot_rl.learn import checkpoint
from robot_rl.learn.env import Step
from robot_rl.learn.jump_start import Config, JumpStart
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.rlpd import Config as Learner
from robot_rl.learn.rlpd_loop import train


class Chain:
    """Twenty steps along a chain, each forwards or the episode ends; a reward of 1 at its end and none before."""

    num_envs, num_actions, length = 1, 2, 20

    def __init__(self) -> None:
        self.obs_sizes = {"policy": 2}
        self.at = 0
        self.solved: list[bool] = []

    def _obs(self) -> dict[str, Tensor]:
        return {"policy": torch.tensor([[self.at / self.length, float(self.at % 2)]])}

    def reset(self) -> dict[str, Tensor]:
        return self._obs()

    def step(self, action: Tensor) -> Step:
        forwards = bool(action[0, self.at % 2] > 0.0)  # even places ask the first action, odd ones the second
        self.at += int(forwards)
        done, next_obs = self.at == self.length, self._obs()
        if done or not forwards:
            self.solved.append(done)
            self.at, next_obs = 0, self._obs()
        ended = torch.tensor([float(done or not forwards)])
        return Step(self._obs(), torch.tensor([float(done)]), ended, torch.tensor([False]), next_obs, {})

    def close(self) -> None:
        pass


CFG = Learner(
    critics=2, hidden=(32,), actor_hidden=(32,), utd=4, batch=64, discount=0.97, tau=0.02, actor_lr=2e-3,
    critic_lr=2e-3, start_steps=50, temperature=0.02, temperature_lr=0.0, backup_entropy=False, total_steps=1_600,
    log_every=200, save_every=10_000, target_range=(0.0, 1.0),
)  # fmt: skip
HANDING = Config(stages=10, window=5, tolerance=0.3)


def knows(obs: Mapping[str, Tensor]) -> Tensor:
    """Forwards everywhere, and backwards with the other action."""
    odd = obs["policy"][:, 1:] > 0.5
    return torch.cat((torch.where(odd, -0.8, 0.8), torch.where(odd, 0.8, -0.8)), -1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run_episodes(led: JumpStart, returns: list[float], length: int) -> list[list[bool]]:
    """Play episodes of so many steps, one environment; return who led in each, the guide where True."""
    seen = []
    for value in returns:
        turns = []
        for age in range(length):
            done = led.act({"policy": torch.zeros(1, 2)}, torch.full((1, 2), 9.0))
            turns.append(bool((done != 9.0).all()))
            last = age == length - 1
            led.add(torch.tensor([value * last]), torch.zeros(1), torch.tensor([last]))
        seen.append(turns)
    return seen


def test_the_guide_steps_back_by_equal_parts_while_returns_hold() -> None:
    led = JumpStart(Config(stages=4, window=2), knows, num_envs=1, seed=0)
    turns = run_episodes(led, [1.0] * 12, 8)
    assert [sum(episode) for episode in turns] == [8, 8, 6, 6, 4, 4, 2, 2, 0, 0, 0, 0]
    assert all(episode == sorted(episode, reverse=True) for episode in turns), "the guide acts first"


def test_it_stays_where_it_is_needed_and_never_comes_back() -> None:
    led = JumpStart(Config(stages=4, window=2, tolerance=0.1), knows, num_envs=1, seed=0)
    turns = run_episodes(led, [1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 0.9, 0.0, 0.0], 8)
    assert [sum(episode) for episode in turns] == [8, 8, 6, 6, 6, 6, 6, 4, 4]
    assert led.stage == 2


def test_shuffled_draws_every_episode_its_part() -> None:
    led = JumpStart(Config(stages=4, window=2, shuffled=True), knows, num_envs=1, seed=0)
    counts = [sum(episode) for episode in run_episodes(led, [1.0] * 60, 8)]
    assert counts[:2] == [8, 8] and set(counts[3:]) == {0, 2, 4, 6}


def test_a_world_that_begins_anew_begins_with_the_guide() -> None:
    led = JumpStart(Config(stages=4, window=1), knows, num_envs=1, seed=0)
    run_episodes(led, [1.0], 8)
    for _ in range(6):  # a running episode, its six steps of the guide are over
        led.act({"policy": torch.zeros(1, 2)}, torch.zeros(1, 2))
        led.add(torch.zeros(1), torch.zeros(1), torch.tensor([False]))
    again = JumpStart(Config(stages=4, window=1), knows, num_envs=1, seed=0)
    again.restore(led.snapshot())
    again.begin_episodes()
    assert [sum(episode) for episode in run_episodes(again, [1.0], 8)] == [6]
    assert [sum(episode) for episode in run_episodes(led, [1.0], 2)] == [0], "the one that ran goes on"


def test_no_handing_over_is_refused() -> None:
    with pytest.raises(ValueError, match="stages and window at least 1"):
        Config(stages=0)


def test_a_reward_at_the_end_of_a_chain_is_found_with_a_guide_alone(tmp_path: Path) -> None:
    alone, led = Chain(), Chain()
    train(replace(CFG, total_steps=600), alone, tmp_path / "alone", progress=False)
    guided = JumpStart(HANDING, knows, num_envs=1, seed=0)
    train(CFG, led, tmp_path / "led", jump_start=guided, progress=False)
    assert not any(alone.solved)
    assert guided.stage == HANDING.stages and led.solved[:300].count(True) > 50
    assert sum(led.solved[-10:]) >= 8, "the learner does it all by itself"
    rows = read_metrics(tmp_path / "led" / "metrics.jsonl")
    horizons = [row["guide/horizon"] for row in rows if "guide/horizon" in row]
    assert horizons == sorted(horizons, reverse=True) and horizons[-1] == 0.0


def test_a_guided_run_goes_on_where_it_was_and_only_with_its_guide(tmp_path: Path) -> None:
    cfg = replace(CFG, total_steps=300)
    first = JumpStart(HANDING, knows, num_envs=1, seed=0)
    train(cfg, Chain(), tmp_path, jump_start=first, progress=False)
    again, longer = JumpStart(HANDING, knows, num_envs=1, seed=0), replace(cfg, total_steps=320)
    train(longer, Chain(), tmp_path, jump_start=again, resume=True, progress=False)
    kept = checkpoint.load(tmp_path / "checkpoints" / "00000300.npz")["jump_start"]
    assert kept["stage"] == first.stage > 0 and again.stage >= first.stage
    with pytest.raises(ValueError, match="trained with a guide"):
        train(replace(cfg, total_steps=340), Chain(), tmp_path, resume=True, progress=False)
