"""Dropout in the critics: the law of the mask, the place in the network, the gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from robot_rl.learn import dropout
from robot_rl.learn.dropout import Drops
from robot_rl.learn.ensemble import Layer, Shape, action_gradient, evaluate, init_ensemble, regress, split
from robot_rl.learn.rlpd import Batch, Config, make_agent, update

RATES = (1e-4, 0.01, 0.1, 0.5)


def masks(rate: float, *, members: int, rows: int, width: int, passes: int, seed: int = 0) -> Tensor:
    """Dropped units as ones, (passes, members, rows, width)."""
    found = torch.zeros(passes, members * rows * width)
    drops = dropout.draw(
        rate, (width,), members=members, rows=rows, passes=passes, generator=torch.Generator().manual_seed(seed)
    )
    for row, drop in zip(found, drops, strict=True):
        assert drop is not None and bool((drop.at[0].diff() > 0).all())
        row[drop.at[0]] = 1.0
    return found.view(passes, members, rows, width)


def near(count: float, trials: int, rate: float) -> bool:
    """Whether a count of successes is within 4.5 standard deviations."""
    return abs(count - trials * rate) < 4.5 * (trials * rate * (1.0 - rate)) ** 0.5


@pytest.mark.parametrize("rate", RATES)
def test_units_drop_at_their_rate_wherever_they_are(rate: float) -> None:
    m = masks(rate, members=4, rows=50, width=40, passes=100)  # 800,000 trials
    assert near(float(m.sum()), m.numel(), rate)
    for dim in range(4):  # every pass, member, row and unit alike
        counts = m.sum([d for d in range(4) if d != dim])
        trials = m.numel() // len(counts)
        expected = torch.distributions.Binomial(trials, torch.tensor(rate)).variance
        spread = (counts - trials * rate).square().mean() / expected  # 1 where each is binomial
        assert abs(float(spread) - 1.0) < 6.0 * (2.0 / len(counts)) ** 0.5
        assert float((counts - trials * rate).abs().max()) < 6.0 * float(expected) ** 0.5 + 3.0


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_units_drop_independently_of_their_neighbours(rate: float, dim: int) -> None:
    """Both of two neighbours along passes, members, rows and units drop as often as chance has it."""
    m = masks(rate, members=10, rows=40, width=50, passes=40, seed=1)
    size = m.shape[dim]
    both = m.narrow(dim, 0, size - 1) * m.narrow(dim, 1, size - 1)
    assert near(float(both.sum()), both.numel(), rate**2)


def test_gaps_are_geometric_to_the_first_and_the_last_unit() -> None:
    """The first unit and the last of a row of trials drop as often as any; no trial is skipped at a seam."""
    firsts = lasts = 0
    for seed in range(600):
        m = masks(0.3, members=1, rows=1, width=7, passes=3, seed=seed).flatten()
        firsts, lasts = firsts + int(m[0]), lasts + int(m[-1])
    assert near(firsts, 600, 0.3) and near(lasts, 600, 0.3)


def test_many_trials_need_more_than_one_draw() -> None:
    """Rates so small that the first guess of the number of gaps is often too low."""
    counts = [float(masks(0.003, members=1, rows=1, width=300, passes=1, seed=seed).sum()) for seed in range(600)]
    assert near(sum(counts), 180_000, 0.003)


def test_without_a_rate_no_random_number_is_spent() -> None:
    g = torch.Generator().manual_seed(0)
    before = g.get_state()
    assert dropout.draw(0.0, (8, 8), members=2, rows=4, passes=3, generator=g) == [None, None, None]
    assert torch.equal(g.get_state(), before)


def dense(layers: list[Layer], x: Tensor, drops: Drops, rate: float) -> Tensor:
    """The ensemble with dense masks, by autograd's operations: Linear, dropout, LayerNorm, ReLU."""
    h = x.expand(layers[0].weight.shape[0], *x.shape)
    for layer, at in zip(layers[:-1], drops.at, strict=True):
        h = h @ layer.weight + layer.bias
        mask = torch.ones(h.numel(), dtype=h.dtype).index_fill(0, at, 0.0).view_as(h)
        h = h * mask / (1.0 - rate)
        if layer.gain is not None:
            h = torch.nn.functional.layer_norm(h, h.shape[-1:]) * layer.gain + layer.shift
        h = torch.relu(h)
    return (h @ layers[-1].weight + layers[-1].bias).squeeze(-1)


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("rate", [0.01, 0.4])
def test_values_and_gradients_are_those_of_autograd(layer_norm: bool, rate: float) -> None:
    shape = Shape(9, (33, 17), 3, layer_norm)
    g = torch.Generator().manual_seed(0)
    flat = (init_ensemble(shape, g) + 0.1 * torch.randn(shape.size, generator=g)).double().requires_grad_()
    x, y = torch.randn(40, 9, generator=g).double().requires_grad_(), torch.randn(40, generator=g).double()
    drop = dropout.draw(rate, shape.hidden, members=3, rows=40, passes=1, generator=g)[0]
    assert drop is not None and all(len(at) for at in drop.at)
    q = dense(split(flat, shape), x, drop, rate)
    (wanted,) = torch.autograd.grad((q - y).square().mean(1).sum(), flat, retain_graph=True)
    (by_x,) = torch.autograd.grad(q.mean(0).sum(), x)
    with torch.no_grad():
        got = torch.zeros_like(flat)
        found = regress(split(flat, shape), split(got, shape), x, y, drops=drop)
        value, by_action = action_gradient(split(flat, shape), x, 4, reduce="mean", drops=drop)
    torch.testing.assert_close(found, q, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(value, q.mean(0), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(by_action, by_x[:, -4:], rtol=1e-8, atol=1e-11)


def test_the_expected_value_before_the_norm_is_that_without_drops() -> None:
    shape = Shape(5, (8,), 2, layer_norm=False)
    g = torch.Generator().manual_seed(0)
    layers = split(init_ensemble(shape, g), shape)
    layers[0].bias.fill_(3.0)  # every unit alive: the network is linear
    x = torch.rand(4, 5, generator=g).repeat(2000, 1)
    drop = dropout.draw(0.3, shape.hidden, members=2, rows=8000, passes=1, generator=g)[0]
    mean = evaluate(layers, x, drops=drop).view(2, 2000, 4).mean(1)
    torch.testing.assert_close(mean, evaluate(layers, x[:4]), atol=0.05, rtol=0.0)


SMALL = Config(critics=2, subset=2, hidden=(24, 16), utd=2, batch=10, dropout=0.2, actor_hidden=(8, 8), critic_lr=0.0)


def batch(rows: int) -> Batch:
    g = torch.Generator().manual_seed(3)
    obs, action = torch.randn(rows, 4, generator=g), torch.rand(rows, 2, generator=g)
    return Batch(obs, action, torch.zeros(rows), obs, torch.zeros(rows))


@pytest.mark.parametrize("name", ["critic_loss", "q", "actor_q"])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_masks_differ_between_calls_in_target_value_and_for_the_actor(name: str, rate: float) -> None:
    """Nothing learns, the policy's noise is next to none: what differs between two updates are the masks."""
    cfg = replace(
        SMALL, dropout=rate, tau=0.0, start_std=1e-6, std_range=(1e-7, 1.0), backup_entropy=False, actor_lr=0.0,
        temperature_lr=0.0, discount=1.0,
    )  # fmt: skip
    agent = make_agent(cfg, obs_size=4, num_actions=2)
    if name == "critic_loss":  # values of zero: what is left of the loss is the target
        last = split(agent.critics.data, agent.shape)[-1]
        last.weight.zero_()
        last.bias.zero_()
    first, second = (update(agent, batch(20), cfg)[name] for _ in range(2))
    assert (abs(first - second) > 1e-3 * abs(first)) == (rate > 0.0)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_named(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        replace(SMALL, dropout=rate)
