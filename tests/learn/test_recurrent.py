"""Memories: sequences by hand, the update sees what was collected, and a cue that only a memory can recall."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robot_rl.learn import gsde, ppo, recurrent
from robot_rl.learn.env import Step
from robot_rl.learn.metrics import EpisodeTracker
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.rollout import Rollout, collect, start_rollout
from tests.learn.toy_env import PointMass

KINDS = recurrent.CHOICES[1:]
SMALL = ppo.Config(
    num_steps=12, actor_hidden=(16,), critic_hidden=(16,), memory="gru", memory_features=8, minibatches=4, save_every=2
)
PER_ITERATION = 12 * 32


class Recall:
    """A cue of -1 or 1 is shown in the first step only; the action of the last step shall be as the cue."""

    def __init__(self, num_envs: int = 64, *, seed: int = 0, episode: int = 4) -> None:
        self.num_envs, self.num_actions, self.episode = num_envs, 1, episode
        self.obs_sizes = {"policy": 2}
        self._generator = torch.Generator().manual_seed(seed)
        self._cue, self._age = torch.zeros(num_envs), torch.zeros(num_envs, dtype=torch.int64)

    def reset(self) -> dict[str, Tensor]:
        self._cue, self._age = self._draw(), torch.zeros_like(self._age)
        return self._observe()

    def step(self, action: Tensor) -> Step:
        self._age = self._age + 1
        ended = self._age >= self.episode
        reward = torch.where(ended, self._cue * action[:, 0], torch.zeros_like(self._cue))
        self._cue = torch.where(ended, self._draw(), self._cue)
        next_obs = self._observe()
        self._age = torch.where(ended, torch.zeros_like(self._age), self._age)
        return Step(self._observe(), reward, ended.float(), torch.zeros_like(ended), next_obs, {})

    def close(self) -> None:
        pass

    def snapshot(self) -> dict[str, Any]:
        return {"cue": self._cue, "age": self._age, "generator": self._generator.get_state()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._cue, self._age = snapshot["cue"].clone(), snapshot["age"].clone()
        self._generator.set_state(snapshot["generator"])

    def _draw(self) -> Tensor:
        return torch.randint(0, 2, (self.num_envs,), generator=self._generator).float() * 2.0 - 1.0

    def _observe(self) -> dict[str, Tensor]:
        shown = torch.where(self._age == 0, self._cue, torch.zeros_like(self._cue))
        return {"policy": torch.stack((shown, (self._age == self.episode - 1).float()), -1)}


def rolled(cfg: ppo.Config) -> tuple[ppo.Agent, Rollout]:
    """Return a fresh agent and its third rollout, in which episodes end at many places."""
    env = PointMass(32, episode=7)
    obs = env.reset()
    agent = ppo.make_agent(cfg, {**env.obs_sizes, "action": 1})
    rollout, tracker = start_rollout(obs, cfg.num_steps, 1), EpisodeTracker(32)
    for _ in range(3):
        if float(agent.actor.norm.count) > 0.0:
            ppo.as_batch(agent, rollout, cfg)  # carries the critic's memory on
        obs, _ = collect(agent.actor, env, obs, rollout, tracker, agent.generator, sde_every=cfg.sde_every)
        if float(agent.actor.norm.count) == 0.0:
            agent.actor.norm.update(rollout.obs["policy"].flatten(0, 1))
            agent.critic.norm.update(rollout.critic_obs.flatten(0, 1))
    return agent, rollout


def test_a_rollout_is_cut_where_episodes_end() -> None:
    ended = torch.tensor([[False, False], [True, False], [False, False], [False, True]])  # T 4, N 2
    state = torch.tensor([[1.0], [2.0]])
    got = recurrent.cut(ended, state)
    assert got.lengths.tolist() == [2, 2, 4]  # environment 0 in two pieces, environment 1 in one
    assert got.state.tolist() == [[1.0], [0.0], [2.0]]
    assert got.index[:2, 0].tolist() == [0, 2]  # rows t * N + n
    assert got.index[:2, 1].tolist() == [4, 6]
    assert got.index[:, 2].tolist() == [1, 3, 5, 7]
    assert got.ids.tolist() == [[0, 2], [0, 2], [1, 2], [1, 2]]
    assert torch.equal(got.index.flatten()[got.rows], torch.arange(8))


@pytest.mark.parametrize("kind", KINDS)
def test_replaying_sequences_equals_stepping_and_forgetting(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    memory = recurrent.Memory(kind, 3, 5, generator=generator)
    x, state = torch.randn(9, 4, 3, generator=generator), torch.randn(4, memory.width, generator=generator)
    ended = torch.rand(9, 4, generator=generator) < 0.3
    now, expected, after_end = state, [], {}
    for t in range(9):
        features, now = memory.step(x[t], now)
        expected.append(features)
        after_end[t] = now
        now = now * (~ended[t]).unsqueeze(-1)
    sequences = recurrent.cut(ended, state)
    rows = x.flatten(0, 1)
    assert torch.allclose(memory.replay(rows, sequences), torch.cat(expected), atol=1e-6)
    features, final = memory.replay_to_end(rows, sequences)
    assert torch.allclose(features, torch.cat(expected), atol=1e-6)
    for n in range(4):
        assert torch.allclose(final[sequences.ids[8, n]], after_end[8][n], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exploration", ["gaussian", "gsde"])
def test_before_any_step_every_ratio_of_every_minibatch_is_one(kind: str, exploration: str) -> None:
    cfg = replace(SMALL, memory=kind, exploration=exploration)
    agent, rollout = rolled(cfg)
    assert recurrent.ends(rollout)[:-1].any() and rollout.cut_at
    batch = ppo.as_batch(agent, rollout, cfg)
    seen = 0
    for mb in recurrent.minibatches(batch, 4, agent.generator):
        with torch.no_grad():
            mean, std = agent.actor.distribution(mb["obs"], *recurrent.context(mb, "actor"))
            value = agent.critic(mb["critic_obs"], *recurrent.context(mb, "critic"))
        ratio = (gsde.log_prob(mb["u"], mean, std) - mb["log_prob"]).exp()
        assert float((ratio - 1.0).abs().max()) < 1e-5
        assert torch.allclose(value, mb["value"], atol=1e-5)
        seen += len(mb["u"])
    assert seen == 12 * 32


@pytest.mark.parametrize("kind", KINDS)
def test_the_values_are_those_of_a_critic_that_stepped_along(kind: str) -> None:
    cfg = replace(SMALL, memory=kind, trace=0.0)
    agent, rollout = rolled(cfg)
    critic = agent.critic
    assert isinstance(critic, recurrent.RecurrentCritic)
    now = critic.state
    assert now is not None
    batch = ppo.as_batch(agent, rollout, cfg)
    cuts = iter(zip(torch.cat(rollout.cut_at).tolist(), torch.cat(rollout.cut_obs), strict=True))
    nxt = dict(cuts)
    with torch.no_grad():
        for t in range(12):
            features, now = critic.memory.step(critic.norm(rollout.critic_obs[t]), now)
            assert torch.allclose(critic.head(features), batch["value"].view(12, 32)[t], atol=1e-5)
            for n in range(32):
                at = t * 32 + n
                if at in nxt:  # one step into the true successor, with trace 0 the whole target
                    beyond, _ = critic.memory.step(critic.norm(nxt[at][None]), now[n : n + 1])
                    expected = rollout.reward[t, n] + cfg.discount * critic.head(beyond)
                    assert float(batch["ret"][at]) == pytest.approx(float(expected), abs=1e-4)
            now = now * (~recurrent.ends(rollout)[t]).unsqueeze(-1)
    assert critic.state is not None
    assert torch.allclose(now, critic.state, atol=1e-6)


def test_a_soft_termination_does_not_clear_the_memory() -> None:
    rollout = start_rollout({"policy": torch.zeros(2, 2)}, 1, 1)
    rollout.terminated[0] = torch.tensor([0.9, 1.0])
    assert recurrent.ends(rollout).tolist() == [[False, True]]


def rows(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, kind: str) -> None:
    def run(out: str, rollouts: int, *, seed: int = 1, resume: bool = False) -> ppo.Agent:
        cfg = replace(SMALL, memory=kind, total_steps=rollouts * PER_ITERATION)
        return train(cfg, PointMass(32, seed=seed, episode=7), tmp_path / out, resume=resume, progress=False)

    whole = run("whole", 6)
    run("cut", 3)
    resumed = run("cut", 6, seed=99, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    for a, b in zip(whole.actor.state_dict().values(), resumed.actor.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_cue_is_recalled_by_a_memory_and_only_by_it(tmp_path: Path, kind: str) -> None:
    def learnt(memory: str) -> float:
        cfg = ppo.Config(
            total_steps=40 * 64 * 16, num_steps=16, actor_hidden=(32,), critic_hidden=(32,), memory=memory,
            memory_features=16, learning_rate=3e-3, log_std=-0.5, entropy_coef=0.0, normalise=False,
        )  # fmt: skip
        train(cfg, Recall(64), tmp_path / memory, progress=False)
        return rows(tmp_path / memory)[-1]["episode/return"]

    assert learnt(kind) > 0.8  # at most 1, less what exploration costs
    assert abs(learnt("none")) < 0.2


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no memory 'rnn'; the choices are \('none', 'gru', 'lstm'\)"):
        ppo.Config(memory="rnn")
    with pytest.raises(ValueError, match="symmetry 'augment' needs memory 'none', not 'gru'"):
        ppo.Config(memory="gru", symmetry="augment")
