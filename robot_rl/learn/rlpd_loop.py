"""RLPD in a simulated world: act, remember, learn, step by step (Ball et al. 2023, algorithm 1).

Knows: a ``VecEnv``, when to act at random, when gSDE draws anew (by the clock, never at resets), when a block of
updates is due. Does not know: losses (``rlpd``), robots and their stores (``learner``).

Shapes: N environments · D observation of the critic · A action.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint
from robot_rl.learn.agent import Agent
from robot_rl.learn.env import Step, VecEnv, joined
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.jump_start import JumpStart
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.rlpd import Config, draw, fix_statistics, make_agent, update
from robot_rl.learn.rlpd_file import pack


def train(
    cfg: Config, env: VecEnv, out: Path, *, start: DenseNet | Agent | None = None, prior: Replay | None = None,
    jump_start: JumpStart | None = None, resume: bool = False, progress: bool = True,
) -> Agent:  # fmt: skip
    """Act, remember, learn until ``total_steps`` and return the agent.

    Writes ``out/checkpoints/*.npz`` and ``out/metrics.jsonl``. Where the world has privileged terms, the critics see
    the policy's observation and then the critic's group.

    Args:
        cfg: Settings.
        env: The world; learning takes place where its tensors are (``OnDevice``).
        out: Folder of the run.
        start: A policy to start from, or all that was learnt offline (``iql.begin_online``), which is then changed.
        prior: Transitions of others, half of every minibatch.
        jump_start: Fresh; who acts first in every episode.
        resume: Go on from the newest checkpoint; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: There are no steps to take, ``resume`` without a checkpoint or with other settings, or a fresh run
            in a folder that has one.
    """
    if cfg.total_steps < 1:
        raise ValueError(f"rlpd: total_steps is {cfg.total_steps}; a run takes at least 1")
    sizes, folder = env.obs_sizes, out / "checkpoints"
    if not resume and checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    obs, wide = env.reset(), sum(sizes.values())
    if isinstance(start, Agent):
        agent = start
    else:
        agent = make_agent(
            cfg, obs_size=sizes["policy"], num_actions=env.num_actions, start=start, critic_obs_size=wide
        )
    agent.to(obs["policy"].device)
    columns, tracker = transition_columns(wide, env.num_actions), EpisodeTracker(env.num_envs)
    replay = Replay(cfg.capacity, columns, streams=env.num_envs)
    rng = np.random.default_rng(cfg.seed)
    if resume:
        obs = _resume(agent, cfg, replay, rng, tracker, jump_start, env, obs, folder)
    metrics: dict[str, float] = {}
    first = replay.total // cfg.log_every
    with RunLog(out, cfg.total_steps, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        while replay.total < cfg.total_steps:
            before = replay.total
            uniform = start is None and before < cfg.start_steps
            action = _act(agent, obs, env, uniform=uniform, redraw=before // env.num_envs % cfg.sde_every == 0)
            if jump_start is not None:
                action = jump_start.act(obs, action)
            step = env.step(action)
            replay.extend(as_columns(obs, action, step))
            tracker.add(step.reward, step.terminated, step.truncated)
            if jump_start is not None:
                jump_start.add(step.reward, step.terminated, step.truncated)
            obs = step.obs
            if before < cfg.start_steps <= replay.total and not isinstance(start, Agent):
                fix_statistics(
                    agent, torch.from_numpy(replay.split(replay.rows[: len(replay)])["obs"]), fresh_actor=start is None
                )
            for _ in range(due(replay.total, env.num_envs, cfg)):
                metrics |= update(agent, draw(replay, prior, cfg, rng), cfg)
            if replay.total // cfg.log_every > before // cfg.log_every:
                row = {f"loss/{name}": value for name, value in metrics.items()}
                guided = {} if jump_start is None else jump_start.metrics()
                log.write(replay.total // cfg.log_every, replay.total, row | tracker.means() | guided)
            saves = replay.total // cfg.save_every > before // cfg.save_every or replay.total >= cfg.total_steps
            if saves or stop.asked:
                _save(agent, cfg, replay, rng, tracker, jump_start, env, obs, folder)
                stop.leave()
    return agent


def as_columns(obs: dict[str, Tensor], action: Tensor, step: Step) -> dict[str, Tensor]:
    """Return a step of N environments as rows of ``transition_columns``."""
    return {
        "obs": joined(obs).cpu(), "action": action.cpu(), "reward": step.reward.cpu(),
        "next_obs": joined(step.next_obs).cpu(), "terminated": step.terminated.cpu(),
    }  # fmt: skip


@torch.no_grad()
def _act(agent: Agent, obs: dict[str, Tensor], env: VecEnv, *, uniform: bool, redraw: bool) -> Tensor:
    n = env.num_envs
    if uniform:
        return torch.rand((n, env.num_actions), generator=agent.generator) * 2.0 - 1.0
    if agent.actor.exploration == "gaussian":
        return agent.actor.sample(obs["policy"], agent.actor.noise(n, matrices=n, generator=agent.generator))[0]
    if redraw or agent.noise is None:
        agent.noise = agent.actor.noise(n, matrices=n, generator=agent.generator)
    return agent.actor.explored(obs["policy"], agent.noise)


def due(total: int, num_envs: int, cfg: Config) -> int:
    """Return the blocks that the segment ending at ``total`` transitions pays for; exact over time for any ratio."""
    if total <= cfg.start_steps or total // num_envs % cfg.segment:
        return 0
    before = total - cfg.segment * num_envs
    return int(total * cfg.blocks_per_step) - int(before * cfg.blocks_per_step)


def _save(
    agent: Agent,
    cfg: Config,
    replay: Replay,
    rng: np.random.Generator,
    tracker: EpisodeTracker,
    jump_start: JumpStart | None,
    env: VecEnv,
    obs: dict[str, Tensor],
    folder: Path,
) -> None:
    tree = pack(agent, cfg, replay.total) | {
        "replay": replay.state_dict(), "rng": rng.bit_generator.state, "tracker": tracker.snapshot(), "obs": obs,
        "env": env.snapshot() if isinstance(env, checkpoint.Restorable) else None,
        "jump_start": None if jump_start is None else jump_start.snapshot(),
    }  # fmt: skip
    checkpoint.save(checkpoint.numbered(folder, replay.total), tree)
    checkpoint.prune(folder, keep=2, every=0)


def _resume(
    agent: Agent, cfg: Config, replay: Replay, rng: np.random.Generator, tracker: EpisodeTracker,
    jump_start: JumpStart | None, env: VecEnv, obs: dict[str, Tensor], folder: Path,
) -> dict[str, Tensor]:  # fmt: skip
    path = checkpoint.latest(folder)
    if path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    tree = checkpoint.load(path)
    checkpoint.check_settings(tree, cfg, path, free=("total_steps", "log_every", "save_every"))
    agent.restore(tree["agent"])
    replay.load_state_dict({**tree["replay"], "rows": tree["replay"]["rows"].numpy()})
    rng.bit_generator.state = tree["rng"]
    guided = tree.get("jump_start")
    if (jump_start is None) != (guided is None):
        raise ValueError(f"{path} was trained {'with' if guided else 'without'} a guide; go on as it began")
    if jump_start is not None:
        jump_start.restore(tree["jump_start"])
    if tree["env"] is not None and isinstance(env, checkpoint.Restorable):
        env.restore(tree["env"])
        tracker.restore(tree["tracker"])
        obs = {name: x.to(obs[name].device) for name, x in tree["obs"].items()}
    elif jump_start is not None:
        jump_start.begin_episodes()
    return obs
