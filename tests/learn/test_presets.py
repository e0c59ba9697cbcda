"""The named methods: every row of the family's table, as numbers and as an update."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from robot_rl.learn.ensemble import evaluate, split
from robot_rl.learn.presets import METHODS, preset
from robot_rl.learn.rlpd import Batch, fix_statistics, make_agent, update
from tests.learn.plain_rlpd import Reference

TABLE = {
    # method: UTD, critics, subset, LayerNorm, dropout, entropy in the backup, target entropy, actor, start
    "sac": (1, 2, 2, False, 0.0, True, -6.0, "min", 10_000),
    "redq": (20, 10, 2, False, 0.0, True, -3.0, "mean", 5_000),
    "droq": (20, 2, 2, True, 0.005, True, -3.0, "mean", 5_000),
    "rlpd": (20, 10, 2, True, 0.0, True, None, "mean", 5_000),
}


@pytest.mark.parametrize("method", TABLE)
def test_the_numbers_are_the_papers(method: str) -> None:
    c = preset(method, num_actions=6, task="Walker2d-v5")
    got = (
        c.utd, c.critics, c.subset, c.layer_norm, c.dropout, c.backup_entropy, c.target_entropy, c.actor_reduce,
        c.start_steps,
    )  # fmt: skip
    assert got == TABLE[method]
    assert (c.batch, c.tau, c.discount, c.hidden, c.actor_hidden) == (256, 0.005, 0.99, (256, 256), (256, 256))
    assert {c.actor_lr, c.critic_lr, c.temperature_lr} == {3e-4} and c.temperature == 1.0


def test_tasks_have_their_own_numbers_whatever_their_version() -> None:
    for task, entropy, rate in (
        ("Hopper-v5", -1.0, 1e-4), ("Hopper-v4", -1.0, 1e-4), ("Ant-v5", -4.0, 0.01), ("Humanoid-v5", -2.0, 0.1),
        ("HalfCheetah-v5", -3.0, 0.01), ("Pendulum-v1", None, 0.01),
    ):  # fmt: skip
        c = preset("droq", num_actions=3, task=task)
        assert (c.target_entropy, c.dropout) == (entropy, rate)
        assert preset("redq", num_actions=3, task=task).target_entropy == entropy


def test_an_unknown_method_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'td3'; the choices are .*droq"):
        preset("td3", num_actions=1)


@pytest.mark.parametrize("method", METHODS)
def test_an_update_is_the_plain_one(method: str) -> None:
    """Smaller networks and minibatches, everything else as it is; same targets, hence same weights."""
    full = preset(method, num_actions=3, task="Ant-v5")
    cfg = replace(full, hidden=(24, 16), actor_hidden=(20, 12), batch=8, seed=1)
    if method == "droq":
        cfg = replace(cfg, dropout=0.1)  # so that units of small layers do drop
    agent = make_agent(cfg, obs_size=7, num_actions=3)
    g = torch.Generator().manual_seed(2)

    def batch() -> Batch:
        rows = cfg.utd * cfg.batch
        obs, next_obs = (2.0 + 3.0 * torch.randn((rows, 7), generator=g) for _ in range(2))
        action = torch.rand((rows, 3), generator=g) * 2.0 - 1.0
        terminated = (torch.rand(rows, generator=g) < 0.2).float()
        return Batch(obs, action, torch.randn(rows, generator=g), next_obs, terminated)

    fix_statistics(agent, batch().obs)
    plain = Reference(agent, cfg)
    for _ in range(3):
        block = batch()
        update(agent, block, cfg)
        plain.update(block)
    obs, action = block.obs[:8], block.action[:8]
    x = torch.cat(((obs - agent.obs_mean) * agent.obs_scale, action), -1)
    for flat, slow in ((agent.critics.detach(), plain.critics), (agent.targets, plain.targets)):
        found = evaluate(split(flat, agent.shape), x)
        torch.testing.assert_close(found, plain.value(slow, obs, action).detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(agent.actor(obs), plain.actor(obs), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(agent.log_temperature, plain.log_temperature, atol=1e-6, rtol=1e-6)
