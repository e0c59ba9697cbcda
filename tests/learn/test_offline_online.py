"""From data to the world: RLPD goes on from IQL's policy and critics, with the data as prior, without a collapse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint, iql, rlpd
from robot_rl.learn.offline_online import OFFLINE as STAGE
from robot_rl.learn.offline_online import Config, newest, train
from robot_rl.learn.rlpd_file import unpack
from robot_rl.learn.watched import evaluate
from tests.learn.toy_env import PointMass

OFFLINE = iql.Config(
    hidden=(32, 32), layer_norm=True, actor_hidden=(32, 32), batch=64, updates=600, block=50, log_every=600,
    save_every=600, critic_lr=1e-3, value_lr=1e-3, actor_lr=1e-3, tau=0.02, discount=0.95, expectile=0.8,
)  # fmt: skip
ONLINE = rlpd.Config(
    critics=2, subset=2, hidden=(32, 32), actor_hidden=(32, 32), batch=64, utd=4, blocks_per_step=0.25, discount=0.95,
    start_std=0.3, temperature=0.01, target_entropy=-1.5, start_steps=100, log_every=200, save_every=10**6,
    capacity=5000, critic_lr=1e-3, actor_lr=1e-3, tau=0.02,
)  # fmt: skip


def recorded() -> Replay:
    """A timid controller with much noise on its force, 100 episodes of at most 40 steps."""
    world, rng = PointMass(10, privileged=False, seed=3, episode=40), np.random.default_rng(0)
    data = Replay(4000, transition_columns(2, 1), streams=10)
    obs = world.reset()["policy"]
    for _ in range(400):
        force = -0.3 * obs[:, :1] - 0.1 * obs[:, 1:] + 0.5 * torch.from_numpy(rng.normal(size=(10, 1))).float()
        action = force.clamp(-1.0, 1.0)
        step = world.step(action)
        data.extend({
            "obs": obs.numpy(), "action": action.numpy(), "reward": step.reward.numpy(),
            "next_obs": step.next_obs["policy"].numpy(), "terminated": step.terminated.numpy(),
        })  # fmt: skip
        obs = step.obs["policy"]
    return data


def judged(policy: Callable[[Tensor], Tensor]) -> float:
    return float(np.mean(evaluate(PointMass(40, privileged=False, seed=99), policy)[0]))


def test_fine_tuning_never_falls_below_where_it_began_and_ends_above(tmp_path: Path) -> None:
    data, cfg = recorded(), Config(offline=OFFLINE, online=ONLINE)
    returns = []
    for stage in range(1, 6):
        world = PointMass(4, privileged=False)
        run = replace(cfg, total_steps=200 * stage)
        train(run, world, data, tmp_path, resume=stage > 1, progress=False)
        if stage == 1:
            offline = checkpoint.latest(tmp_path / STAGE / "checkpoints")
            assert offline is not None
            returns.append(judged(iql.unpack(checkpoint.load(offline))[0].policy))
        path = newest(tmp_path)
        assert path is not None
        returns.append(judged(unpack(checkpoint.load(path))[0].actor))
    timid = judged(lambda obs: -0.3 * obs[:, :1] - 0.1 * obs[:, 1:])
    assert returns[0] > timid
    assert min(returns) > 0.99 * returns[0]  # with fresh critics the first stage falls to 0.95
    assert returns[-1] > returns[0]
