"""State-dependent exploration in the RLPD family: the law of the actor, when matrices are drawn, when updates come."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robot_rl.learn.env import Step
from robot_rl.learn.rlpd import Config, make_agent
from robot_rl.learn.rlpd_loop import train
from robot_rl.learn.squashed import Actor
from robot_rl.learn.watched import Watched, evaluate
from tests.learn.toy_env import PointMass

SMALL = Config(
    critics=2, subset=2, hidden=(16, 16), actor_hidden=(16, 8), utd=1, batch=32, total_steps=400, start_steps=40,
    log_every=40, save_every=200, capacity=300, exploration="gsde", sde_log_std=-1.0, sde_every=3,
)  # fmt: skip


def actor(**options: object) -> Actor:
    settings = {"exploration": "gsde", "sde_log_std": -0.7} | options
    return Actor(
        3, 2, hidden=(16, 5), activation="relu", start_std=1.0, std_range=(0.01, 7.0),
        generator=torch.Generator().manual_seed(0), **settings,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def observations(rows: int) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("matrices", [1, 2, 6])
def test_block_m_of_the_rows_uses_matrix_m(matrices: int) -> None:
    net, obs = actor(), observations(6)
    xi = net.noise(6, matrices=matrices, generator=torch.Generator().manual_seed(2))
    assert xi.shape == (matrices, 5, 2)
    z, (mean, _) = net.mlp.features(obs), net.law(obs)
    expected = torch.stack([mean[b] + z[b] @ (math.exp(-0.7) * xi[b * matrices // 6]) for b in range(6)])
    torch.testing.assert_close(net.sample(obs, xi)[0], torch.tanh(expected))


def test_the_log_probability_is_that_of_the_squashed_marginal() -> None:
    net, obs = actor(), observations(6)
    action, log_prob, _ = net.sample(obs, net.noise(6, matrices=1, generator=torch.Generator().manual_seed(2)))
    z, (mean, std) = net.mlp.features(obs), net.law(obs)
    torch.testing.assert_close(std, (z.square().sum(-1, keepdim=True) * math.exp(-1.4) + 1e-6).sqrt().expand(6, 2))
    normal = torch.distributions.Normal(mean, std)
    law = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform(cache_size=1))
    torch.testing.assert_close(log_prob, law.log_prob(action).sum(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("learn_features", [True, False])
def test_the_noise_shapes_the_features_only_where_asked(learn_features: bool) -> None:
    net = actor(sde_learn_features=learn_features)
    net.law(observations(6))[1].sum().backward()
    trunk = net.mlp.linears()[0].weight.grad
    assert net.sde_log_std.grad is not None and bool((net.sde_log_std.grad > 0.0).any())
    assert (trunk is not None and bool((trunk != 0.0).any())) == learn_features


def test_full_std_and_expln_reach_the_law() -> None:
    shared = actor(sde_full_std=False)
    assert shared.sde_log_std.shape == (5, 1)
    std = shared.law(observations(6))[1]
    torch.testing.assert_close(std[:, 0], std[:, 1])
    wild, tame = (actor(sde_log_std=3.0, sde_expln=e).law(observations(6))[1] for e in (False, True))
    torch.testing.assert_close(
        wild / tame, torch.full((6, 2), math.exp(3.0) / (1.0 + math.log(4.0))), rtol=1e-3, atol=0
    )


def test_a_clipped_mean_stays_inside() -> None:
    free, clipped = actor(), actor(mean_clip=0.05)
    obs = observations(50) * 10.0
    assert float(free(obs).detach().abs().max()) > math.tanh(0.05) + 0.1
    assert float(clipped(obs).detach().abs().max()) == pytest.approx(math.tanh(0.05))
    with pytest.raises(ValueError, match=r"mean_clip inf; the actor 0\.05"):
        clipped.start_at(free.as_mlp())


class Still:
    """Two environments that never change and pay nothing; keeps the actions it was given."""

    num_envs, obs_sizes, num_actions = 2, {"policy": 3}, 1

    def __init__(self) -> None:
        self.actions: list[Tensor] = []

    def reset(self) -> dict[str, Tensor]:
        return {"policy": torch.ones(2, 3)}

    def step(self, action: Tensor) -> Step:
        self.actions.append(action)
        obs = self.reset()
        over = torch.full((2,), len(self.actions) % 5 == 0)
        return Step(obs, torch.zeros(2), torch.zeros(2), over, obs, {})

    def close(self) -> None:
        pass


def test_matrices_are_drawn_by_the_clock_across_bursts_and_episodes(tmp_path: Path) -> None:
    """Every 3rd control step, though bursts come every 4 and episodes end every 5; each environment has its own."""
    cfg = replace(SMALL, total_steps=24, start_steps=0, segment=4, actor_lr=0.0)
    world = Still()
    train(cfg, world, tmp_path, progress=False)
    a = torch.cat(world.actions, -1).T  # (12, 2)
    changed = [k for k in range(1, 12) if not torch.equal(a[k], a[k - 1])]
    assert changed == [3, 6, 9]
    assert bool((a[:, 0] != a[:, 1]).all())


def test_unstructured_noise_is_fresh_every_step(tmp_path: Path) -> None:
    world = Still()
    train(replace(SMALL, total_steps=24, start_steps=0, exploration="gaussian"), world, tmp_path, progress=False)
    a = torch.cat(world.actions, -1).T
    assert all(bool((a[k] != a[k - 1]).all()) for k in range(1, 12))


def test_a_burst_pays_for_its_segment(tmp_path: Path) -> None:
    """Segments of 4 steps of 2 environments, half a block per transition: bursts of 4."""
    cfg = replace(SMALL, total_steps=40, start_steps=9, segment=4, blocks_per_step=0.5)
    agent = train(cfg, PointMass(2, privileged=False), tmp_path / "whole", progress=False)
    assert agent.actor_updates == 4 * 4  # after 16, 24, 32 and 40 transitions; 8 is not beyond the start
    cut = train(replace(cfg, total_steps=38), PointMass(2, privileged=False), tmp_path / "cut", progress=False)
    assert cut.actor_updates == 3 * 4


def test_a_temperature_without_a_rate_is_fixed(tmp_path: Path) -> None:
    cfg = replace(SMALL, total_steps=80, temperature=0.1, temperature_lr=0.0)
    agent = train(cfg, PointMass(8, privileged=False), tmp_path, progress=False)
    assert agent.actor_updates > 10 and float(agent.log_temperature.detach()) == pytest.approx(math.log(0.1))


def test_a_resumed_run_explores_exactly_as_an_uninterrupted_one(tmp_path: Path) -> None:
    cfg = replace(SMALL, sde_every=7, blocks_per_step=0.25)  # 200 transitions are 25 steps: a draw is under way
    whole = train(cfg, PointMass(8), tmp_path / "whole", progress=False)
    train(replace(cfg, total_steps=200), PointMass(8), tmp_path / "halves", progress=False)
    halves = train(cfg, PointMass(8, seed=5), tmp_path / "halves", resume=True, progress=False)
    assert torch.equal(whole.critics, halves.critics)
    assert whole.noise is not None and halves.noise is not None and torch.equal(whole.noise, halves.noise)


def test_the_deviations_are_learnt(tmp_path: Path) -> None:
    agent = train(SMALL, PointMass(8, privileged=False), tmp_path, progress=False)
    assert float((agent.actor.sde_log_std.detach() + 1.0).abs().max()) > 1e-3


@pytest.mark.parametrize(("change", "word"), [({"sde_every": 0}, "sde_every"), ({"segment": 0}, "segment is 0")])
def test_impossible_clocks_are_named(change: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(SMALL, **change)


def test_an_unknown_exploration_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'ou'; the choices are .*gsde"):
        make_agent(replace(SMALL, exploration="ou"), obs_size=3, num_actions=1)


class Ramp(Still):
    """Environment 0 falls after 2 steps, environment 1 is cut after 3; every step pays 1 + its index."""

    def step(self, action: Tensor) -> Step:
        self.actions.append(action)
        k, obs = len(self.actions), self.reset()
        ends = (torch.tensor([float(k % 2 == 0), 0.0]), torch.tensor([False, k % 3 == 0]))
        return Step(obs, torch.tensor([1.0, 2.0]), *ends, obs, {})


def test_a_watched_world_counts_returns_and_jumps_within_episodes() -> None:
    world = Watched(Ramp())
    world.reset()
    for a, b in ((0.0, 0.0), (1.0, 0.2), (-1.0, 0.4), (-3.0, 0.4)):  # -3 is executed as -1
        world.step(torch.tensor([[a], [b]]))
    assert world.episodes == [(4, 0, 2.0), (6, 1, 6.0), (8, 0, 2.0)]
    # environment 0: |1 - 0|, then a new episode, |-1 + 1|; environment 1: 0.2, 0.2, then a new episode
    assert world.continuity() == pytest.approx(100.0 * (0.5**2 + 0.0 + 0.1**2 + 0.1**2) / 4)


def test_evaluation_takes_the_first_episode_of_each_environment() -> None:
    returns, continuity = evaluate(Ramp(), lambda obs: torch.zeros(2, 1))
    assert returns == [2.0, 6.0] and continuity == 0.0
