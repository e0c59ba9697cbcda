"""PPO under constraints as terminations: fractions reach the targets, and the limit is learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robot_rl.learn import ppo
from robot_rl.learn.metrics import EpisodeTracker, read_metrics
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.rollout import collect, start_rollout
from robot_rl.learn.targets import gae
from tests.learn.speed_limit import LIMIT, STEPS, Cart, drive, lawful


def agent_of(env: Cart) -> ppo.Agent:
    return ppo.make_agent(ppo.Config(actor_hidden=(16,), critic_hidden=(16,)), {**env.obs_sizes, "action": 1})


def test_a_rollout_keeps_fractions_and_a_violation_ends_no_episode() -> None:
    """Carts far beyond the limit have fractions, and every episode has its 50 steps."""
    env, tracker = Cart(4, p_max=0.37), EpisodeTracker(4)
    obs, agent = env.reset(), agent_of(env)
    env._v[:] = 5.0  # far beyond the limit
    rollout = start_rollout(obs, 2 * STEPS, 1)
    collect(agent.actor, env, obs, rollout, tracker, agent.generator)
    first = rollout.terminated[0]
    assert ((first > 0.0) & (first <= 0.05)).all()  # the curriculum starts at 0.05; a uint8 would hold 0
    assert tracker.episodes == 8
    assert tracker.means()["episode/length"] == STEPS and tracker.means()["episode/terminated"] == 0.0


@pytest.mark.parametrize("delta", [0.0, 0.1, 0.37, 1.0])
def test_a_constant_chance_has_the_fixed_point_of_its_survival(delta: float) -> None:
    """Reward 1 - delta for ever: V = (1 - delta) / (1 - 0.9 (1 - delta)); delta 1 is an ordinary end."""
    T = 400
    reward, zeros = torch.full((T, 1), 1.0 - delta, dtype=torch.float64), torch.zeros(T, 1, dtype=torch.float64)
    value = gae(reward, zeros, zeros, zeros + delta, zeros.bool(), discount=0.9, trace=1.0)[0]
    assert float(value) == pytest.approx((1.0 - delta) / (1.0 - 0.9 * (1.0 - delta)))


def test_a_larger_chance_lowers_the_return_by_what_it_cuts() -> None:
    """D return / d delta_t = -(r_t + gamma V_t+1) where the reward is scaled too."""
    delta = torch.tensor([[0.2], [0.3], [0.0]], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    zeros = torch.zeros(3, 1, dtype=torch.float64)
    ret, alive = torch.zeros(1, dtype=torch.float64), 1.0 - delta
    for t in (2, 1, 0):
        ret = alive[t] * (reward[t] + 0.9 * ret)
    ret.sum().backward()
    assert delta.grad is not None
    after = 0.7 * (2.0 + 0.9 * 4.0)  # V of step 1
    assert float(delta.grad[0]) == pytest.approx(-(1.0 + 0.9 * after))
    ours = gae(reward * (1.0 - delta.detach()), zeros, zeros, delta.detach(), zeros.bool(), discount=0.9, trace=1.0)
    assert float(ours[0]) == pytest.approx(float(ret.detach()))


def test_a_violating_step_at_the_end_of_the_clock_still_bootstraps_its_share() -> None:
    """R + gamma (1 - delta) V of the true successor: 1 + 0.5 * 0.75 * 8."""
    one = torch.ones(1, 1)
    advantage = gae(one, 0 * one, 8 * one, 0.25 * one, one.bool(), discount=0.5, trace=0.9)
    assert float(advantage) == pytest.approx(1.0 + 0.5 * 0.75 * 8.0)


def learn(tmp_path: Path, p_max: float | None, *, penalty: float = 0.0) -> tuple[float, float]:
    """Return share of violating steps and return of the mean policy after a short training."""
    cfg = ppo.Config(
        total_steps=120_000, num_steps=25, minibatches=4, epochs=5, discount=0.95, entropy_coef=0.0,
        actor_hidden=(32, 32), critic_hidden=(32, 32), log_std=-0.7, learning_rate=1e-3,
    )  # fmt: skip
    env = Cart(64, p_max=p_max, penalty=penalty)
    agent = train(cfg, env, tmp_path / f"{p_max}_{penalty}", progress=False)
    with torch.no_grad():
        return drive(lambda v: agent.actor(v))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_speed_limit_is_broken_by_ppo_and_kept_by_cat(tmp_path: Path) -> None:
    """Of the best lawful return, which holds 1 m/s from the seventh step on, CaT has 85 %."""
    share, best = drive(lawful)
    assert share == 0.0 and best == pytest.approx(LIMIT / 2 * STEPS, rel=0.1)
    free, unbound = learn(tmp_path, None)
    assert free > 0.6 and unbound > 1.5 * best
    rates = {p: learn(tmp_path, p) for p in (0.05, 0.25, 1.0)}
    for p in (0.25, 1.0):
        assert rates[p][0] < 0.03 and rates[p][1] > 0.85 * best, rates
    assert free >= rates[0.05][0] >= rates[0.25][0] >= rates[1.0][0], rates
    assert "violation/speed" in read_metrics(tmp_path / "0.25_0.0" / "metrics.jsonl")[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_penalties_leave_the_limit_kept_while_gains_outweigh_them(tmp_path: Path) -> None:
    """Cutting the future is a punishment only where the future is worth something: gains of 0.5, a penalty of 1."""
    assert learn(tmp_path, 1.0, penalty=-0.1)[0] < 0.03
    assert learn(tmp_path, 1.0, penalty=-1.0)[0] > 0.5
