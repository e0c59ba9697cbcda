"""The RLPD family against a slow reference, and against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint
from robot_rl.learn.critic_steps import draw_subset
from robot_rl.learn.ensemble import Shape, evaluate, init_ensemble, split
from robot_rl.learn.rlpd import Batch, Config, draw, fix_statistics, make_agent, update
from tests.learn.plain_rlpd import Reference

D, A = 7, 3
SMALL = Config(critics=4, subset=2, hidden=(24, 16), utd=3, batch=10, actor_hidden=(20, 12), start_std=0.2)


def make_batch(rows: int, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    obs, next_obs = (2.0 + 3.0 * torch.randn((rows, D), generator=g) for _ in range(2))
    action = torch.rand((rows, A), generator=g) * 2.0 - 1.0
    terminated = (torch.rand(rows, generator=g) < 0.2).float()
    return Batch(obs, action, torch.randn(rows, generator=g), next_obs, terminated)


ROWS = {
    "sac": replace(SMALL, critics=2, subset=2, layer_norm=False, utd=1, actor_reduce="min"),
    "rlpd with gsde": replace(SMALL, exploration="gsde", sde_log_std=-1.0, mean_clip=2.0),
    "redq": replace(SMALL, layer_norm=False),
    "redq of one or two": replace(SMALL, layer_norm=False, subset=1.5),
    "rlpd": SMALL,
    "droq": replace(SMALL, critics=2, dropout=0.1, target_entropy=-1.0),
    "dropout without layer norm, min": replace(SMALL, dropout=0.3, layer_norm=False, actor_reduce="min"),
    "rlpd without entropy in the backup": replace(SMALL, backup_entropy=False, subset=1),
    "small actions": replace(SMALL, action_scale=4.0),
    "fine-tuning": replace(SMALL, anchor=3.0, anchor_half_life=2.0, scale_value=True, actor_activation="elu"),
}


@pytest.mark.parametrize("name", ROWS)
def test_fast_update_equals_the_plain_one(name: str) -> None:
    cfg = ROWS[name]
    agent = make_agent(replace(cfg, seed=1), obs_size=D, num_actions=A)
    fix_statistics(agent, make_batch(200, seed=9).obs)
    reference = Reference(agent, cfg)
    for seed in range(5):
        batch = make_batch(cfg.utd * cfg.batch, seed=seed)
        update(agent, batch, cfg)
        reference.update(batch)
    x, a = make_batch(50, seed=20).obs, make_batch(50, seed=21).action
    inputs = torch.cat(((x - agent.obs_mean) * agent.obs_scale, cfg.action_scale * a), -1)
    for flat, slow in ((agent.critics.detach(), reference.critics), (agent.targets, reference.targets)):
        torch.testing.assert_close(
            evaluate(split(flat, agent.shape), inputs), reference.value(slow, x, a).detach(), atol=1e-5, rtol=1e-5
        )
    torch.testing.assert_close(agent.actor(x), reference.actor(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(agent.log_temperature, reference.log_temperature, atol=1e-6, rtol=1e-6)


def test_target_is_the_hand_computed_number() -> None:
    """Critics that answer 10 and 4 everywhere: y = 1 + 0.9 * 4 alive, y = 1 when terminated."""
    cfg = replace(SMALL, critics=2, subset=2, utd=1, batch=2, discount=0.9, backup_entropy=False, critic_lr=0.0)
    agent = make_agent(replace(cfg, seed=0), obs_size=D, num_actions=A)
    for flat in (agent.critics.data, agent.targets):
        last = split(flat, agent.shape)[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([10.0, 4.0]).view(2, 1, 1))
    batch = make_batch(2)._replace(reward=torch.ones(2), terminated=torch.tensor([0.0, 1.0]))
    metrics = update(agent, batch, cfg)
    y = torch.tensor([1.0 + 0.9 * 4.0, 1.0])
    expected = (torch.tensor([[10.0], [4.0]]) - y).square().mean()
    assert metrics["critic_loss"] == pytest.approx(float(expected), rel=1e-6)
    assert metrics["q"] == pytest.approx(7.0, rel=1e-6)


def test_targets_of_three_steps_are_the_hand_computed_number() -> None:
    """Four steps of one episode that pay 1 and are cut by time; critics answer 8 everywhere, discount 1/2.

    y is 1 + 1/2 + 1/4 + 8/8 from the first two, 1 + 1/2 + 8/4 and 1 + 8/2 from the others.
    """
    cfg = replace(
        SMALL, critics=2, subset=2, utd=1, batch=400, discount=0.5, n_step=3, backup_entropy=False, critic_lr=0.0
    )
    agent = make_agent(cfg, obs_size=D, num_actions=A)
    for flat in (agent.critics.data, agent.targets):
        last = split(flat, agent.shape)[-1]
        last.weight.zero_()
        last.bias.fill_(8.0)
    replay = Replay(10, transition_columns(D, A))
    states = np.arange(5.0)[:, None].repeat(D, 1)
    columns = {"obs": states[:4], "next_obs": states[1:], "action": np.zeros((4, A))}
    replay.extend(columns | {"reward": np.ones(4), "terminated": np.zeros(4)})
    batch = draw(replay, None, cfg, np.random.default_rng(0))
    y = torch.tensor([2.75, 2.75, 3.5, 5.0])[batch.obs[:, 0].long()]
    assert update(agent, batch, cfg)["critic_loss"] == pytest.approx(float((8.0 - y).square().mean()), rel=1e-5)


def test_entropy_enters_the_target_with_its_temperature() -> None:
    cfg = replace(SMALL, utd=1, batch=5000, critic_lr=0.0, temperature=0.5, discount=1.0, start_std=0.05)
    agent = make_agent(replace(cfg, seed=0), obs_size=D, num_actions=A)
    for flat in (agent.critics.data, agent.targets):
        last = split(flat, agent.shape)[-1]
        last.weight.zero_()
        last.bias.zero_()
    for layer in agent.actor.mlp.layers:  # mean zero: tanh hardly squashes, the entropy is that of the Gaussian
        layer.weight.data.zero_()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        layer.bias.data.zero_()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    batch = make_batch(5000)._replace(reward=torch.zeros(5000), terminated=torch.zeros(5000))
    entropy = A * (0.5 * math.log(2.0 * math.pi * math.e) + math.log(0.05))  # nats
    loss = update(agent, batch, cfg)["critic_loss"]  # mean of y^2 = (mean of y)^2 + variance
    variance = 0.25 * A * 0.5  # var of log N is A / 2
    assert loss == pytest.approx((0.5 * entropy) ** 2 + variance, rel=0.03)


def test_layer_norm_bounds_values_of_absurd_actions() -> None:
    values = {}
    for layer_norm in (True, False):
        shape = Shape(D + A, (64, 64), 3, layer_norm)
        layers = split(init_ensemble(shape, torch.Generator().manual_seed(0)), shape)
        x = torch.cat((torch.zeros(100, D), torch.randn(100, A, generator=torch.Generator().manual_seed(1))), -1)
        values[layer_norm] = [float(evaluate(layers, x * k).abs().max()) for k in (1.0, 1e3, 1e6)]
    bound = 64.0**0.5 * 1.0 + 1.0  # |z| <= sqrt(H) for unit gain, |w| <= 1 for weights in +-1/sqrt(H)
    assert max(values[True]) <= bound and values[True][2] == pytest.approx(values[True][1], rel=1e-2)
    assert values[False][2] > 500.0 * values[False][1] > 1e5 * bound / 100.0


def test_one_batch_is_learnt_by_heart() -> None:
    cfg = replace(SMALL, utd=20, batch=32, discount=0.0, critic_lr=3e-3, hidden=(64, 64))
    agent = make_agent(replace(cfg, seed=0), obs_size=D, num_actions=A)
    batch = make_batch(32)
    block = Batch(*(torch.cat([t] * 20) for t in batch))
    fix_statistics(agent, batch.obs)
    first = update(agent, block, cfg)["critic_loss"]
    last = [update(agent, block, cfg)["critic_loss"] for _ in range(40)][-1]
    assert last < 1e-3 < 0.3 < first


def test_larger_subsets_give_lower_targets() -> None:
    means = []
    for subset in (1, 2, 4):
        cfg = replace(SMALL, subset=subset, utd=50, batch=20, critic_lr=0.0, tau=0.0, backup_entropy=False)
        agent = make_agent(replace(cfg, seed=0), obs_size=D, num_actions=A)
        for flat, sign in ((agent.critics.data, 0.0), (agent.targets, -1.0)):
            last = split(flat, agent.shape)[-1]
            last.weight.zero_()
            last.bias.copy_(sign * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1))
        batch = make_batch(1000)._replace(reward=torch.zeros(1000), terminated=torch.zeros(1000))
        means.append(update(agent, batch, cfg)["critic_loss"])  # y^2 where q = 0: grows as y falls
    assert means[0] < means[1] < means[2] == pytest.approx((0.99 * 4.0) ** 2, rel=1e-5)


def test_a_subset_that_is_not_whole_is_so_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [len(draw_subset(replace(SMALL, subset=2.25), generator).unique()) for _ in range(4_000)]
    assert set(sizes) == {2, 3}
    assert np.mean(sizes) == pytest.approx(2.25, abs=0.03)  # four deviations


def test_warmup_and_start_keep_the_released_policy() -> None:
    cfg = replace(SMALL, warmup=6)
    source = make_agent(replace(cfg, seed=5), obs_size=D, num_actions=A)
    net = source.actor.as_mlp()
    agent = make_agent(replace(cfg, seed=6), obs_size=D, num_actions=A, start=net)
    obs = make_batch(20).obs
    torch.testing.assert_close(agent.actor(obs), source.actor(obs), atol=0.0, rtol=0.0)
    for k in range(2):
        update(agent, make_batch(30, seed=k), cfg)
    torch.testing.assert_close(agent.actor(obs), source.actor(obs), atol=0.0, rtol=0.0)
    assert "actor_q" in update(agent, make_batch(30, seed=3), cfg)
    assert not torch.equal(agent.actor(obs), source.actor(obs))
    torch.testing.assert_close(agent.start(obs), source.actor(obs), atol=0.0, rtol=0.0)


def test_resumed_learning_gives_identical_numbers(tmp_path) -> None:
    cfg = SMALL
    agent = make_agent(replace(cfg, seed=0), obs_size=D, num_actions=A)
    for k in range(3):
        update(agent, make_batch(30, seed=k), cfg)
    checkpoint.save(tmp_path / "agent.npz", agent.snapshot())
    straight = [update(agent, make_batch(30, seed=k), cfg) for k in range(3, 6)]
    resumed = make_agent(replace(cfg, seed=77), obs_size=D, num_actions=A)
    resumed.restore(checkpoint.load(tmp_path / "agent.npz"))
    assert [update(resumed, make_batch(30, seed=k), cfg) for k in range(3, 6)] == straight


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"subset": 5}, r"subset is 5; it must be a number in \[1, 4\]"),
        ({"subset": 1.5, "dropout": 0.1}, "with dropout it must be a whole number"),
        ({"actor_reduce": "max"}, "max"),
        ({"start_std": 9.0}, "std_range"),
        ({"n_step": 0}, "n_step is 0"),
        ({"action_scale": 0.0}, "action_scale is 0.0"),
        ({"utd": "1"}, r"rlpd config: utd is '1'; it must be a whole number, at least 1"),
        ({"utd": True}, "utd is True"),
        ({"batch": 0}, "batch is 0"),
        ({"save_every": 0}, "save_every is 0; it must be a whole number, at least 1"),
        ({"log_every": 0}, "log_every is 0"),
        ({"total_steps": -1}, "total_steps is -1; it must be a whole number, at least 0"),
        ({"total_steps": 1e5}, r"total_steps is 100000\.0; it must be a whole number"),
        ({"discount": 1.5}, r"discount is 1\.5; it must be a number in \[0, 1\]"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"blocks_per_step": -1}, "blocks_per_step is -1; it must be a finite number, at least 0"),
        ({"blocks_per_step": float("inf")}, "blocks_per_step is inf"),
        ({"critic_lr": "3e-4"}, "critic_lr is '3e-4'"),
    ],
)
def test_impossible_settings_are_named(change: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(SMALL, **change)
