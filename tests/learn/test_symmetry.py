"""Symmetry in PPO: images against hand computation, a symmetric policy without loss, a robot that learns with it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robot_rl import zoo
from robot_rl.hardware.symmetry import Reflection, Reflections, make_reflections
from robot_rl.learn import gsde, ppo, symmetry
from robot_rl.learn.metrics import EpisodeTracker
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.rollout import collect, start_rollout
from robot_rl.learn.surrogate import surrogate_loss, value_loss
from robot_rl.sim.env import make_env
from tests.learn.toy_env import PointMass

SMALL = ppo.Config(num_steps=16, actor_hidden=(32, 16), critic_hidden=(32, 16), minibatches=4)
LINE = Reflections(
    {"policy": Reflection((0, 1), (-1.0, -1.0)), "critic": Reflection((0, 1, 2), (-1.0, -1.0, 1.0))},
    Reflection((0,), (-1.0,)),
)
"""A point mass on a line: positions, velocities and forces turn their sign, the age of the episode stays."""


def collected(cfg: ppo.Config) -> tuple[ppo.Agent, dict[str, Tensor]]:
    """Return an agent with a mirror, and its second rollout as a batch."""
    env = PointMass(32, episode=10)
    obs, sizes = env.reset(), {**env.obs_sizes, "action": 1}
    agent = ppo.make_agent(cfg, sizes)
    agent.mirror = symmetry.make_mirror(LINE, sizes)
    rollout, tracker = start_rollout(obs, cfg.num_steps, 1), EpisodeTracker(32)
    for _ in range(2):
        obs, _ = collect(agent.actor, env, obs, rollout, tracker, agent.generator)
        agent.actor.norm.update(rollout.obs["policy"].flatten(0, 1))
        agent.critic.norm.update(rollout.critic_obs.flatten(0, 1))
    collect(agent.actor, env, obs, rollout, tracker, agent.generator)
    return agent, ppo.as_batch(agent, rollout, cfg)


def test_an_odd_policy_has_no_mirror_loss_and_another_has() -> None:
    cfg = replace(SMALL, symmetry="loss", activation="tanh")
    agent, batch = collected(cfg)
    for layer in agent.actor.mlp.linears():
        layer.bias.data.zero_()  # without biases a tanh network is odd
    agent.actor.norm.mean.zero_()
    batch["obs"] = batch["mirror_obs"] * -1.0
    _, parts = ppo.losses(agent, batch, cfg)
    assert float(parts["asymmetry"]) < 1e-12
    agent.actor.mlp.linears()[-1].bias.data.fill_(0.5)  # mean and image differ by 2 * 0.5
    _, parts = ppo.losses(agent, batch, cfg)
    assert float(parts["asymmetry"]) == pytest.approx(1.0, abs=1e-4)


def test_the_doubled_batch_is_the_originals_and_their_images_with_the_same_targets() -> None:
    cfg = replace(SMALL, symmetry="augment")
    agent, batch = collected(cfg)
    assert agent.mirror is not None
    both = symmetry.augmented(batch, agent.mirror)
    n, norm = len(batch["u"]), agent.actor.norm
    raw = batch["obs"] * (norm.var.sqrt() + norm.floor) + norm.mean
    assert torch.allclose(both["obs"][n:], norm(-raw), atol=1e-5)
    assert torch.equal(both["u"], torch.cat((batch["u"], -batch["u"])))
    for name in ("log_prob", "ret", "advantage", "value"):
        assert torch.equal(both[name], torch.cat((batch[name], batch[name])))
    critic = agent.critic.norm
    age = batch["critic_obs"][:, 2] * (critic.var.sqrt() + critic.floor)[2] + critic.mean[2]
    image = both["critic_obs"][n:, 2] * (critic.var.sqrt() + critic.floor)[2] + critic.mean[2]
    assert torch.allclose(age, image, atol=1e-5)


def test_the_loss_of_an_augmented_batch_is_that_of_both_halves() -> None:
    cfg = replace(SMALL, symmetry="augment", entropy_coef=0.0, mean_bound_coef=0.0, value_coef=0.5)
    agent, batch = collected(cfg)
    with torch.no_grad():
        agent.actor.mlp.linears()[-1].bias.fill_(0.1)  # a policy that leans to one side
        loss, parts = ppo.losses(agent, batch, cfg)
        expected = torch.zeros(())
        for obs, critic_obs, u in (
            (batch["obs"], batch["critic_obs"], batch["u"]),
            (batch["mirror_obs"], batch["mirror_critic_obs"], -batch["u"]),
        ):
            ratio = (gsde.log_prob(u, *agent.actor.distribution(obs)) - batch["log_prob"]).exp()
            expected += 0.5 * surrogate_loss(ratio, batch["advantage"], clip=cfg.clip)
            expected += 0.25 * value_loss(agent.critic(critic_obs), batch["value"], batch["ret"], clip=None)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(parts["asymmetry"]) > 0.0  # watched, but no part of the loss
    plain = replace(cfg, symmetry="none")
    _, alone = ppo.losses(agent, batch, plain)
    assert float(parts["kl"]) == pytest.approx(float(alone["kl"]))  # of the originals only
    assert float(parts["entropy"]) == pytest.approx(float(alone["entropy"]))


@pytest.mark.parametrize(("choice", "factor"), [("augment", 0.5), ("loss", 0.2), ("both", 0.2)])
def test_learning_with_symmetry_gives_a_more_symmetric_policy(tmp_path: Path, choice: str, factor: float) -> None:
    def asymmetry(which: str) -> float:
        cfg = replace(SMALL, total_steps=20 * 16 * 64, symmetry=which, symmetry_coef=5.0, seed=2)
        agent = train(cfg, PointMass(64), tmp_path / which, progress=False, reflections=LINE)
        x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return float((agent.actor(x) + agent.actor(-x)).square().mean())

    assert asymmetry(choice) < factor * asymmetry("none")


def test_a_resumed_run_with_symmetry_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    cfg = replace(SMALL, symmetry="both", save_every=2)

    def run(out: str, rollouts: int, *, resume: bool = False) -> ppo.Agent:
        return train(
            replace(cfg, total_steps=rollouts * 16 * 32), PointMass(32, episode=5), tmp_path / out,
            resume=resume, progress=False, reflections=LINE,
        )  # fmt: skip

    whole = run("whole", 6)
    run("cut", 3)
    resumed = run("cut", 6, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.actor.parameters(), resumed.actor.parameters(), strict=True))


def test_the_go2_learns_with_mirrored_samples(tmp_path: Path) -> None:
    task = zoo.load("sim", "tasks/go2_velocity").task()
    env = make_env(task, num_envs=16, seed=0, threads=1)
    mirror = make_reflections(env.robot, env.contract, tuple(task.privileged))
    cfg = replace(SMALL, total_steps=4 * 16 * 16, symmetry="augment")
    train(cfg, env, tmp_path, progress=False, reflections=mirror)  # pyright: ignore[reportArgumentType]
    env.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["loss/asymmetry"] > 0.0 for row in rows)


def test_what_cannot_be_mirrored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no symmetry 'mirror'; the choices are .*'both'"):
        ppo.Config(symmetry="mirror")
    with pytest.raises(ValueError, match="symmetry is 'augment', but the world came without reflections"):
        train(replace(SMALL, symmetry="augment"), PointMass(8), tmp_path, progress=False)
    narrow = dataclasses.replace(LINE, action=Reflection((0, 1), (-1.0, 1.0)))
    with pytest.raises(ValueError, match=r"the mirror has .*'action': 2\}; the environment has .*'action': 1"):
        train(replace(SMALL, symmetry="loss"), PointMass(8), tmp_path, progress=False, reflections=narrow)
