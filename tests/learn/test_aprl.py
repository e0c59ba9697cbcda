"""APRL's box, penalty, gate and block of updates, against numbers worked out by hand and autograd."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import aprl, rlpd
from robot_rl.learn.aprl_box import Growth, Penalty, Ramp, beyond_box, range_penalty, reach, shrink
from robot_rl.learn.aprl_dynamics import Gate, fit, judge, make_dynamics, surprise
from robot_rl.learn.ensemble import evaluate, split
from tests.learn.plain_rlpd import Reference
from tests.learn.test_rlpd import SMALL, A, D, make_batch

PAPER = Growth(low=0.35, high=0.6, steps=30_000)


def rows(seed: int = 0, count: int = 50, num_actions: int = A) -> torch.Tensor:
    return torch.rand((count, num_actions), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


def test_box_grows_in_a_line_and_then_stays() -> None:
    ramp = Ramp(0.35, 0)
    assert [reach(PAPER, ramp, step) for step in (0, 15_000, 30_000, 99_000)] == pytest.approx([0.35, 0.475, 0.6, 0.6])
    assert reach(replace(PAPER, power=2.0), ramp, 15_000) == pytest.approx(0.35 + 0.25 / 4.0)
    assert reach(replace(PAPER, steps=0), ramp, 0) == 0.6


def test_shrunk_box_is_half_but_never_below_the_first_one_and_grows_for_as_long_again() -> None:
    ramp = shrink(PAPER, Ramp(0.35, 0), 40_000)
    assert ramp == Ramp(0.35, 40_000)  # max(0.35, 0.3)
    assert reach(PAPER, ramp, 55_000) == pytest.approx(0.475)
    wide = Growth(low=0.35, high=1.0, steps=1_000)
    assert shrink(wide, Ramp(0.8, 500), 500) == Ramp(0.4, 500)


def test_penalty_is_zero_inside_and_the_whole_vector_pays_outside() -> None:
    action = torch.tensor([[0.1, -0.3, 0.35], [0.5, -0.2, 0.0]])
    cost, slope = range_penalty(action, 0.35, Penalty())
    assert cost.tolist() == pytest.approx([0.0, 12.0 * 0.7])
    assert slope.tolist() == [[0.0, 0.0, 0.0], [12.0, -12.0, 0.0]]  # also where -0.2 lies inside: the authors' form
    cost, slope = range_penalty(action, 0.35, Penalty(overshoot=True))
    assert cost.tolist() == pytest.approx([0.0, 12.0 * 0.15])
    assert slope.tolist() == [[0.0, 0.0, 0.0], [12.0, 0.0, 0.0]]
    assert beyond_box(action, 0.35).tolist() == [False, True]


@pytest.mark.parametrize(
    "penalty", [Penalty(), Penalty(euclidean=3.0, inside=0.7), Penalty(linear=2.0, overshoot=True)], ids=str
)
def test_gradient_of_the_penalty_is_that_of_autograd(penalty: Penalty) -> None:
    action, c = rows(), 0.4
    leaf = action.clone().requires_grad_()
    size = leaf.abs()
    if penalty.overshoot:
        plain = penalty.linear * (size - c).clamp(min=0.0).sum(-1)
    else:
        out = (action.abs() > c).any(-1)
        outside = penalty.linear * size.sum(-1) + penalty.euclidean * leaf.norm(dim=-1)
        inside = penalty.inside * penalty.linear / (3.0 * c**3) * leaf.pow(4).sum(-1)
        plain = torch.where(out, outside, inside)
    plain.sum().backward()
    cost, slope = range_penalty(action, c, penalty)
    torch.testing.assert_close(cost, plain.detach())
    torch.testing.assert_close(slope, leaf.grad)


class Boxed(Reference):
    """The plain update with the penalty in the actor's loss, by autograd."""

    def improve(self, part: rlpd.Batch) -> None:
        cfg = self.cfg
        xi = self.actor.noise(len(part.obs), matrices=1, generator=self.generator)
        action, log_prob, _ = self.actor.sample(part.obs, xi)
        q = self.value(self.critics, part.obs, action, self.drops(cfg.critics, len(part.obs), 1)[0]).mean(0)
        temperature = self.log_temperature.exp()
        out = (action.detach().abs() > 0.3).any(-1)
        loss = (temperature.detach() * log_prob - q + 12.0 * action.abs().sum(-1) * out).mean()
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        goal = -0.5 * action.shape[-1]
        self.temperature_adam.zero_grad()
        (temperature * (-log_prob.detach().mean() - goal)).backward()
        self.temperature_adam.step()


@pytest.mark.parametrize("exploration", ["gaussian", "gsde"])
def test_actor_with_a_penalty_learns_as_autograd_says_and_critics_do_not_notice(exploration: str) -> None:
    cfg = replace(SMALL, critics=2, dropout=0.1, exploration=exploration, sde_log_std=-1.0)
    agent = rlpd.make_agent(replace(cfg, seed=1), obs_size=D, num_actions=A)
    reference = Boxed(agent, cfg)
    for seed in range(4):
        batch = make_batch(cfg.utd * cfg.batch, seed=seed)
        metrics = rlpd.update(agent, batch, cfg, term=lambda a: range_penalty(a, 0.3, Penalty()))
        reference.update(batch)
        assert metrics["term"] > 0.0
    x, a = make_batch(50, seed=20).obs, make_batch(50, seed=21).action
    torch.testing.assert_close(agent.actor(x), reference.actor(x), atol=1e-5, rtol=1e-5)
    inputs = torch.cat(((x - agent.obs_mean) * agent.obs_scale, a), -1)
    layers = split(agent.critics.detach(), agent.shape)
    torch.testing.assert_close(
        evaluate(layers, inputs), reference.value(reference.critics, x, a).detach(), atol=1e-5, rtol=1e-5
    )


def test_term_that_is_absent_or_zero_changes_no_bit() -> None:
    agents = [rlpd.make_agent(replace(SMALL, seed=1), obs_size=D, num_actions=A) for _ in range(2)]
    for seed in range(3):
        batch = make_batch(SMALL.utd * SMALL.batch, seed=seed)
        plain = rlpd.update(agents[0], batch, SMALL)
        boxed = rlpd.update(agents[1], batch, SMALL, term=lambda a: range_penalty(a, 1.0, Penalty()))
        assert boxed == plain | {"term": 0.0}
    assert torch.equal(agents[0].critics, agents[1].critics)
    x = make_batch(20).obs
    assert torch.equal(agents[0].actor(x), agents[1].actor(x))


def test_actor_has_a_clip_of_its_own() -> None:
    """A clip of almost nothing stops Adam's first step short of its rate only where it applies."""
    moved = []
    for cfg in (SMALL, replace(SMALL, grad_clip=1e-12), replace(SMALL, grad_clip=1e-12, actor_grad_clip=0.0)):
        agent = rlpd.make_agent(replace(cfg, seed=1), obs_size=D, num_actions=A)
        before = copy.deepcopy(agent.actor)
        rlpd.update(agent, make_batch(cfg.utd * cfg.batch), cfg)
        x = make_batch(20).obs
        moved.append(float((agent.actor(x) - before(x)).detach().abs().max()))
    assert moved[1] < 0.1 * moved[0] < moved[2]


def test_gate_opens_when_the_mean_of_errors_jumps_and_then_forgets_it() -> None:
    gate, mean, said = Gate(), None, []
    for error in (1.0, 1.0, 1.0):
        mean, surprised = judge(gate, mean, error)
        said.append(surprised)
    assert (mean, said) == (1.0, [False] * 3)
    assert judge(gate, mean, 3.0) == (None, True)  # (1 + 3) / 2 = 2 > 1.5
    assert judge(gate, mean, 1.9) == (1.45, False)


def test_model_learns_a_linear_world_and_is_surprised_by_another() -> None:
    g = torch.Generator().manual_seed(0)
    model = make_dynamics(3, 2, hidden=(64, 64), lr=3e-3, generator=g)
    matrix = torch.randn((5, 3), generator=g) * 0.3

    def batch(seed: int, gain: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        obs, action = rows(seed, 256, 3), rows(seed + 1000, 256, 2)
        return obs, action, obs + torch.cat((obs, gain * action), -1) @ matrix

    first, *_ = [fit(model, *batch(seed)) for seed in range(400)]
    assert surprise(model, *batch(999)) < 0.01 * first
    assert surprise(model, *batch(999, gain=3.0)) > 20.0 * surprise(model, *batch(999))


def test_gradient_of_the_model_is_that_of_autograd() -> None:
    model = make_dynamics(3, 2, hidden=(8,), lr=0.0, generator=torch.Generator().manual_seed(0))
    model.scale.copy_(torch.tensor([2.0, 0.5, 1.0]))
    obs, action, after = rows(1, 20, 3), rows(2, 20, 2), rows(3, 20, 3)
    error = fit(model, obs, action, after)
    guess = model.mlp(torch.cat((obs * model.scale, action), -1))
    loss = ((after - obs) * model.scale - guess).square().mean()
    assert error == pytest.approx(float(loss.detach()), rel=1e-6)
    parameters = list(model.mlp.parameters())
    for p, wanted in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(p.grad, wanted)


TINY = aprl.Config(
    rlpd=replace(aprl.LEARNER, hidden=(16,), actor_hidden=(16,), batch=8, utd=3, start_steps=20),
    growth=Growth(low=0.2, high=0.5, steps=100), gate=Gate(window=32, warmup=1), dynamics_hidden=(16,),
)  # fmt: skip
SIZES = {"policy": 4, "critic": 2, "action": 3}


def filled(grown: aprl.Grown, count: int, seed: int = 0) -> Replay:
    replay, rng = Replay(1_000, transition_columns(6, 3)), np.random.default_rng(seed)
    obs = rng.normal(size=(count, 6))
    replay.extend({
        "obs": obs, "action": rng.uniform(-0.2, 0.2, (count, 3)), "reward": rng.normal(size=count),
        "next_obs": obs + 0.1 * rng.normal(size=(count, 6)), "terminated": np.zeros(count),
    })  # fmt: skip
    grown.steps = count
    return replay


def test_a_block_is_so_many_critic_steps_and_one_each_of_actor_and_model() -> None:
    grown = aprl.make_grown(TINY, SIZES)
    replay = filled(grown, 40)
    aprl.fix_statistics(grown, replay)
    metrics = aprl.improve(grown, replay, np.random.default_rng(0))
    assert (grown.agent.critic_updates, grown.agent.actor_updates) == (3, 1)
    assert [int(state["step"]) for state in grown.dynamics.adam.state.values()] == [1] * 4
    assert metrics["penalty"] > 0.0 and metrics["dynamics"] > 0.0
    assert grown.learning.target_entropy == pytest.approx(3.0 * math.log(0.2 / math.e))  # -A, in units of the box


def test_few_transitions_say_nothing_and_a_surprise_shrinks_the_box() -> None:
    grown = aprl.make_grown(TINY, SIZES)
    grown.ramp = Ramp(0.5, 0)
    aprl.end_episode(grown, filled(grown, 31))
    assert grown.mean_error is None
    replay = filled(grown, 90)
    aprl.end_episode(grown, replay)
    assert grown.mean_error == grown.error < 1.5 and grown.shrunk == 0
    replay.rows[60:90, 12:16] += 9.0  # the newest observations jump: next_obs begins behind 6 obs, 3 actions, reward
    aprl.end_episode(grown, replay)
    assert (grown.shrunk, grown.mean_error, grown.ramp) == (1, None, Ramp(0.25, 90))


def test_random_actions_fill_the_box_and_now_and_then_a_wider_one() -> None:
    grown = aprl.make_grown(TINY, SIZES)
    size = torch.cat([aprl.random_action(grown) for _ in range(4_000)]).abs()
    assert size.max() <= 0.3 and (size <= 0.2).all(-1).float().mean() > 0.85
    # beyond 0.2 where the wider box is drawn and not all three stay within two thirds: 0.15 (1 - 8/27)
    assert float((size > 0.2).any(-1).float().mean()) == pytest.approx(0.15 * (1.0 - 8.0 / 27.0), abs=0.02)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rlpd": replace(aprl.LEARNER, n_step=3)}, "n_step is 3"),
        ({"wide_factor": 0.5}, "wide_factor 0.5"),
        ({"hold_margin": -0.1}, "hold_margin is -0.1"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(TINY, **change)
    with pytest.raises(ValueError, match=r"low is 0\.9 and high 0\.5"):
        Growth(low=0.9, high=0.5)
