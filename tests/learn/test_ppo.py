"""PPO: losses against arithmetic, one update against its promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from robot_rl.learn import gsde, ppo
from robot_rl.learn.metrics import EpisodeTracker
from robot_rl.learn.rollout import Rollout, collect, require_finite, start_rollout
from robot_rl.learn.surrogate import gaussian_kl, surrogate_loss, value_loss
from tests.learn.toy_env import PointMass

SMALL = ppo.Config(num_steps=16, actor_hidden=(32, 16), critic_hidden=(32, 16), minibatches=4)


def rolled(cfg: ppo.Config, env: PointMass | None = None) -> tuple[ppo.Agent, Rollout]:
    """Return a fresh agent and its first rollout, the normaliser fed by an earlier one."""
    env = env or PointMass(32, episode=10)
    obs = env.reset()
    agent = ppo.make_agent(cfg, {**env.obs_sizes, "action": env.num_actions})
    rollout, tracker = start_rollout(obs, cfg.num_steps, env.num_actions), EpisodeTracker(env.num_envs)
    for _ in range(2):
        obs, _ = collect(agent.actor, env, obs, rollout, tracker, agent.generator, sde_every=cfg.sde_every)
        if float(agent.actor.norm.count) == 0.0:
            agent.actor.norm.update(rollout.obs["policy"].flatten(0, 1))
            agent.critic.norm.update(rollout.critic_obs.flatten(0, 1))
    return agent, rollout


def test_the_surrogate_of_three_numbers() -> None:
    # min(1.5 * 1, 1.2 * 1) = 1.2; min(0.5 * 1, 0.8 * 1) = 0.5; min(0.5 * -1, 0.8 * -1) = -0.8
    loss = surrogate_loss(torch.tensor([1.5, 0.5, 0.5]), torch.tensor([1.0, 1.0, -1.0]), clip=0.2)
    assert float(loss) == pytest.approx(-(1.2 + 0.5 - 0.8) / 3.0)


def test_the_value_loss_of_three_numbers() -> None:
    value, old, ret = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 2.0, 1.0])
    # squared errors 1, 0, 4; clipped to old +- 0.5: values 1, 1.5, 1.5, errors 1, 0.25, 0.25; the larger counts
    assert float(value_loss(value, old, ret, clip=None)) == pytest.approx(5.0 / 3.0)
    assert float(value_loss(value, old, ret, clip=0.5)) == pytest.approx((1.0 + 0.25 + 4.0) / 3.0)


def test_the_kl_is_that_of_torch() -> None:
    a = torch.distributions.Normal(torch.tensor([0.1, -0.4]), torch.tensor([0.5, 1.2]))
    b = torch.distributions.Normal(torch.tensor([0.3, 0.2]), torch.tensor([0.7, 0.9]))
    expected = torch.distributions.kl_divergence(a, b).sum()
    assert torch.allclose(gaussian_kl(a.mean, a.stddev, b.mean, b.stddev), expected)


def test_the_learning_rate_follows_the_kl_within_its_bounds() -> None:
    cfg = replace(SMALL, target_kl=0.01, learning_rate_range=(1e-4, 1e-2))
    assert ppo.steer(1e-3, 0.021, cfg) == pytest.approx(1e-3 / 1.5)
    assert ppo.steer(1e-3, 0.004, cfg) == pytest.approx(1.5e-3)
    assert ppo.steer(1e-3, 0.010, cfg) == 1e-3
    assert ppo.steer(1e-3, 0.0, cfg) == 1e-3
    assert ppo.steer(1.2e-4, 1.0, cfg) == 1e-4
    assert ppo.steer(9e-3, 0.001, cfg) == 1e-2
    assert ppo.steer(1e-3, 1.0, replace(cfg, target_kl=0.0)) == 1e-3


@pytest.mark.parametrize("exploration", ["gaussian", "gsde"])
def test_before_any_step_every_ratio_is_one(exploration: str) -> None:
    cfg = replace(SMALL, exploration=exploration)
    agent, rollout = rolled(cfg)
    batch = ppo.as_batch(agent, rollout, cfg)
    mean, std = agent.actor.distribution(batch["obs"])
    ratio = (gsde.log_prob(batch["u"], mean, std) - batch["log_prob"]).exp()
    assert float((ratio - 1.0).abs().max().detach()) < 1e-5
    _, parts = ppo.losses(agent, batch, cfg)
    assert float(parts["clip_fraction"]) == 0.0
    assert float(parts["kl"]) == pytest.approx(0.0, abs=1e-6)


def test_gsde_draws_a_matrix_per_segment_of_the_rollout() -> None:
    cfg = replace(SMALL, exploration="gsde", sde_every=4, num_steps=12, actor_hidden=(32, 2))
    agent, rollout = rolled(cfg)
    z = agent.actor.mlp.features(agent.actor.norm(rollout.obs["policy"])).detach()  # (T, N, 2)
    noise = rollout.u - rollout.mean

    def misfit(steps: slice) -> float:
        """How far the noise of environment 0 is from linear in the two features."""
        matrix = torch.linalg.lstsq(z[steps, 0], noise[steps, 0]).solution
        return float((z[steps, 0] @ matrix - noise[steps, 0]).norm() / noise[steps, 0].norm())

    assert max(misfit(slice(t, t + 4)) for t in (0, 4, 8)) < 1e-3
    assert min(misfit(slice(t, t + 4)) for t in (2, 6)) > 1e-2


def test_truncated_steps_bootstrap_from_their_true_successor() -> None:
    env = PointMass(8, episode=5)
    cfg = replace(SMALL, num_steps=5, trace=0.0)
    obs = env.reset()
    agent = ppo.make_agent(cfg, {**env.obs_sizes, "action": 1})
    rollout = start_rollout(obs, 5, 1)
    collect(agent.actor, env, obs, rollout, EpisodeTracker(8), agent.generator)
    clock = rollout.truncated[-1]
    assert clock.any()
    batch = ppo.as_batch(agent, rollout, cfg)
    ret = batch["ret"].view(5, 8)[-1][clock]
    successor = torch.cat(rollout.cut_obs)
    assert torch.equal(successor[:, 2], torch.ones(len(successor)))  # the age of the episode is full, not reset
    with torch.no_grad():
        expected = rollout.reward[-1][clock] + cfg.discount * agent.critic(agent.critic.norm(successor))
    assert torch.allclose(ret, expected, atol=1e-5)


def test_one_batch_overfits() -> None:
    cfg = replace(SMALL, epochs=300, minibatches=1, target_kl=0.0, critic_learning_rate=3e-3, entropy_coef=0.0)
    agent, rollout = rolled(cfg)
    batch = {name: x[::32] for name, x in ppo.as_batch(agent, rollout, cfg).items()}  # 16 rows
    with torch.no_grad():
        _, first = ppo.losses(agent, batch, cfg)
    ppo.update(agent, batch, cfg)
    with torch.no_grad():
        _, last = ppo.losses(agent, batch, cfg)
    best = -(batch["advantage"] + cfg.clip * batch["advantage"].abs()).mean()  # every ratio at its useful bound
    gain = float(first["policy_loss"] - last["policy_loss"]) / float(first["policy_loss"] - best)
    assert gain > 0.4
    assert float(last["value_loss"]) < 0.01 * float(first["value_loss"])


def test_the_environment_receives_squashed_actions_and_the_buffer_keeps_the_rest() -> None:
    _, rollout = rolled(replace(SMALL, log_std=0.5))
    assert float(rollout.u.abs().max()) > 1.0  # PointMass asserts that what it got lay in [-1, 1]


def test_means_far_out_are_pulled_back() -> None:
    cfg = replace(SMALL, mean_bound=0.5, mean_bound_coef=1.0, entropy_coef=0.0)
    agent, rollout = rolled(cfg)
    with torch.no_grad():
        agent.actor.mlp.layers[-1].bias.fill_(1.5)
    batch = ppo.as_batch(agent, rollout, cfg)
    _, parts = ppo.losses(agent, batch, cfg)
    assert float(parts["mean_bound"]) == pytest.approx(1.0, abs=0.15)


def test_the_log_std_stays_in_its_range() -> None:
    cfg = replace(SMALL, entropy_coef=10.0, log_std_range=(-1.0, 0.1), target_kl=0.0, learning_rate=0.1)
    agent, rollout = rolled(cfg)
    ppo.update(agent, ppo.as_batch(agent, rollout, cfg), cfg)
    assert float(agent.actor.log_std) == pytest.approx(0.1)


def test_something_not_finite_is_named_with_its_place() -> None:
    x = torch.zeros(3, 2)
    x[1, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"obs/policy\[1, 0\] is nan; 1 of 6 are not finite"):
        require_finite({"reward": torch.zeros(2), "obs/policy": x})


def test_a_poisoned_batch_leaves_the_weights_alone() -> None:
    agent, rollout = rolled(SMALL)
    batch = ppo.as_batch(agent, rollout, SMALL)
    batch["ret"].fill_(float("inf"))
    before = [p.clone() for p in agent.critic.parameters()]
    with pytest.raises(FloatingPointError, match="value_loss"):
        ppo.update(agent, batch, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.critic.parameters(), strict=True))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"discount is 1\.5; it must lie in \[0, 1\]"):
        ppo.Config(discount=1.5)
    with pytest.raises(ValueError, match="epochs is 0; it must be at least 1"):
        ppo.Config(epochs=0)
    with pytest.raises(ValueError, match=r"no exploration 'sde'; the choices are \('gaussian', 'gsde'\)"):
        ppo.Config(exploration="sde")
    with pytest.raises(ValueError, match=r"no activation 'gelu'; the choices are \('elu', .*'tanh'\)"):
        ppo.Config(activation="gelu")
