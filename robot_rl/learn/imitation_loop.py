"""Cloning in a simulated world: the expert shows, the policy drives, what the expert says is added and cloned.

Knows: a ``VecEnv``, an overseer, rounds. Does not know: the error (``imitation``), why the overseer takes over.

Shapes: N environments · D observation · A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay
from robot_rl.learn import checkpoint
from robot_rl.learn.env import VecEnv
from robot_rl.learn.imitation import Clone, Config, clone_columns, fit, make_clone, pack, unpack
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.overseer import Overseer
from robot_rl.learn.rlif_loop import ACTION_LIMIT


@dataclass(slots=True)
class Run:
    """A world, an overseer and a clone on their way."""

    clone: Clone
    env: VecEnv
    overseer: Overseer
    data: Replay
    """What was labelled so far."""
    tracker: EpisodeTracker
    rng: np.random.Generator
    obs: dict[str, Tensor]


def train(
    cfg: Config, env: VecEnv, out: Path, overseer: Overseer, *, resume: bool = False, progress: bool = True
) -> Clone:
    """Clone demonstrations, then let the policy drive and clone what the expert says, round by round.

    Writes ``out/checkpoints/*.npz``, one per round, and ``out/metrics.jsonl``.

    Args:
        cfg: Settings.
        env: The world.
        out: Folder of the run.
        overseer: The expert, and when it takes over (hg_dagger), made for ``env.num_envs``.
        resume: Go on from the newest checkpoint; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: ``resume`` without a checkpoint, or a fresh run in a folder that has one.
        FloatingPointError: The error is not finite.
    """
    folder, newest = out / "checkpoints", checkpoint.latest(out / "checkpoints")
    if resume == (newest is None):
        why = "nothing to resume: no checkpoint in" if resume else "a run may not begin over another: checkpoints in"
        raise ValueError(f"{why} {folder}")
    run = _begin(cfg, env, overseer)
    if newest is not None:
        _resume(run, cfg, newest)
    clone = run.clone
    rounds = 0 if cfg.method == "bc" else cfg.rounds
    with RunLog(out, rounds + 1, first_iteration=clone.round, progress=progress) as log, held_interrupt() as stop:
        while clone.round < rounds + 1 and (clone.round == 0 or clone.steps < cfg.total_steps):
            first = clone.round == 0
            labelled = _drive(run, cfg, cfg.demos if first else cfg.episodes, alone=first)
            error = fit(clone, run.data, cfg.pretrain_updates if first else cfg.round_updates, cfg, run.rng)
            clone.round += 1
            row = {"loss/behaviour": error, "overseer/labels": float(labelled)} | run.tracker.means()
            log.write(clone.round, clone.steps, row)
            _save(run, cfg, folder)
            stop.leave()
    return clone


def _drive(run: Run, cfg: Config, episodes: int, *, alone: bool) -> int:
    """Take steps until so many episodes have ended, add what the expert labelled, and return the number of labels."""
    ended, before = 0, run.data.total
    while ended < episodes:
        action, wanted, chosen = _decide(run, cfg, alone=alone)
        if bool(chosen.any()):
            run.data.extend({"obs": run.obs["policy"][chosen], "action": wanted[chosen]})
        step = run.env.step(action)
        over = (step.terminated >= 1.0) | step.truncated
        run.tracker.add(step.reward, step.terminated, step.truncated)
        run.overseer.forget(over)
        run.obs = step.obs
        run.clone.steps += run.env.num_envs
        ended += int(over.sum())
    return run.data.total - before


def _decide(run: Run, cfg: Config, *, alone: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is executed and what is to be cloned, each (N, A), and where, bool (N,)."""
    n = run.env.num_envs
    if alone:
        action = run.overseer.drive(run.obs).clamp(-ACTION_LIMIT, ACTION_LIMIT)
        return action, action, torch.ones(n, dtype=torch.bool)
    robot = _explore(run, cfg)
    if cfg.method == "dagger":
        asked = torch.rand(n, generator=run.clone.generator) < cfg.relabel
        return robot, run.overseer.drive(run.obs).clamp(-ACTION_LIMIT, ACTION_LIMIT), asked
    action, human = run.overseer.oversee(run.obs, robot)
    action = action.clamp(-ACTION_LIMIT, ACTION_LIMIT)
    return action, action, torch.ones_like(human) if cfg.clone_robot_steps else human


@torch.no_grad()
def _explore(run: Run, cfg: Config) -> Tensor:
    action = run.clone.actor(run.obs["policy"])
    std = cfg.noise * math.exp(-cfg.noise_decay * (run.clone.round - 1))
    noise = torch.randn(action.shape, generator=run.clone.generator)
    return (action + std * noise).clamp(-ACTION_LIMIT, ACTION_LIMIT)


def _begin(cfg: Config, env: VecEnv, overseer: Overseer) -> Run:
    sizes = {"policy": env.obs_sizes["policy"], "action": env.num_actions}
    data = Replay(cfg.total_steps + env.num_envs, clone_columns(sizes["policy"], sizes["action"]))
    tracker, rng = EpisodeTracker(env.num_envs), np.random.default_rng(cfg.seed)
    return Run(make_clone(cfg, sizes), env, overseer, data, tracker, rng, env.reset())


def _save(run: Run, cfg: Config, folder: Path) -> None:
    env = run.env
    tree = pack(run.clone, cfg) | {
        "data": run.data.state_dict(), "overseer": run.overseer.snapshot(), "rng": run.rng.bit_generator.state,
        "tracker": run.tracker.snapshot(), "obs": run.obs,
        "env": env.snapshot() if isinstance(env, checkpoint.Restorable) else None,
    }  # fmt: skip
    checkpoint.save(checkpoint.numbered(folder, run.clone.round), tree)
    checkpoint.prune(folder, keep=2, every=0)


def _resume(run: Run, cfg: Config, path: Path) -> None:
    tree = checkpoint.load(path)
    run.clone, _ = unpack(tree, cfg)
    run.data.load_state_dict({**tree["data"], "rows": tree["data"]["rows"].numpy()})
    run.rng.bit_generator.state = tree["rng"]
    run.overseer.restore(tree["overseer"])
    if tree["env"] is not None and isinstance(run.env, checkpoint.Restorable):
        run.env.restore(tree["env"])
        run.tracker.restore(tree["tracker"])
        run.obs = tree["obs"]
    else:
        run.overseer.forget(torch.ones(run.env.num_envs, dtype=torch.bool))  # of episodes that are lost
