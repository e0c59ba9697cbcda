"""PPO in a world: collect, update, write, again (Schulman et al. 2017, algorithm 1).

Knows: a ``VecEnv``, budgets, checkpoints, the numbers of a run.
Does not know: losses (``ppo``), tasks.

Shapes: N environments · D observation.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_rl.hardware.symmetry import Reflections
from robot_rl.learn import checkpoint
from robot_rl.learn.env import VecEnv
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.ppo import Agent, Config, as_batch, make_agent, pack, unpack, update
from robot_rl.learn.rollout import Rollout, Staggered, collect, start_rollout
from robot_rl.learn.symmetry import Mirror, make_mirror

_log = logging.getLogger(__name__)


def train(
    cfg: Config,
    env: VecEnv,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    reflections: Reflections | None = None,
) -> Agent:
    """Learn until ``total_steps`` or ``max_minutes`` and return the agent.

    Writes ``out/checkpoints/*.npz``, ``out/metrics.jsonl`` and TensorBoard events beside it.

    Args:
        cfg: Settings.
        env: The world.
        out: Folder of the run; made if missing.
        resume: Go on from the newest checkpoint in ``out``; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar on the terminal.
        reflections: What the world looks like in a mirror; wanted where ``cfg.symmetry`` is not "none".

    Raises:
        ValueError: ``resume`` without a checkpoint, a fresh run in a folder that has one, or no reflections.
        FloatingPointError: Something is not finite; ``out/checkpoints/last_good.npz`` holds the last good weights.
    """
    _set_torch(cfg)
    folder = out / "checkpoints"
    agent, tracker, obs = _resume(cfg, env, folder) if resume else _begin(cfg, env, folder)
    agent.mirror = _mirror(cfg, env, reflections, obs["policy"].device)
    rollout = start_rollout(obs, cfg.num_steps, env.num_actions)
    steps_per_iteration = cfg.num_steps * env.num_envs
    with RunLog(out, cfg.total_steps, first_iteration=agent.iteration, progress=progress) as log:
        while agent.steps < cfg.total_steps and not 0.0 < cfg.max_minutes <= agent.train_s / 60.0:
            began = time.perf_counter()
            try:
                obs, row = collect(agent.actor, env, obs, rollout, tracker, agent.generator, sde_every=cfg.sde_every)
                collected = time.perf_counter()
                agent.steps += steps_per_iteration
                if cfg.normalise and float(agent.actor.norm.count) == 0.0:
                    _normalise(agent, rollout)
                    continue
                row |= update(agent, as_batch(agent, rollout, cfg), cfg)
            except FloatingPointError as error:
                _save(cfg, agent, tracker, env, obs, folder / "last_good.npz")
                raise FloatingPointError(f"{error}; last good weights: {folder / 'last_good.npz'}") from error
            if cfg.normalise:
                _normalise(agent, rollout)
            ended = time.perf_counter()
            agent.iteration += 1
            agent.train_s += ended - began
            row |= {
                "time/fps": steps_per_iteration / (ended - began), "time/collect_s": collected - began,
                "time/update_s": ended - collected, "time/train_s": agent.train_s,
            }  # fmt: skip
            log.write(agent.iteration, agent.steps, row | tracker.means())
            if agent.iteration % cfg.save_every == 0:
                _save(cfg, agent, tracker, env, obs, checkpoint.numbered(folder, agent.iteration))
                checkpoint.prune(folder, keep=2, every=cfg.keep_every)
        _save(cfg, agent, tracker, env, obs, checkpoint.numbered(folder, agent.iteration))
    return agent


def _mirror(cfg: Config, env: VecEnv, given: Reflections | None, device: torch.device) -> Mirror | None:
    if cfg.symmetry == "none":
        return None
    if given is None:
        raise ValueError(f"symmetry is {cfg.symmetry!r}, but the world came without reflections; the choice is 'none'")
    return make_mirror(given, {**env.obs_sizes, "action": env.num_actions}, device)


def _begin(cfg: Config, env: VecEnv, folder: Path) -> tuple[Agent, EpisodeTracker, dict[str, Tensor]]:
    if checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    obs = env.reset()
    if isinstance(env, Staggered):
        env.stagger()
    agent = make_agent(cfg, {**env.obs_sizes, "action": env.num_actions}, obs["policy"].device)
    return agent, EpisodeTracker(env.num_envs), obs


def _resume(cfg: Config, env: VecEnv, folder: Path) -> tuple[Agent, EpisodeTracker, dict[str, Tensor]]:
    path = checkpoint.latest(folder)
    if path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    tree = checkpoint.load(path)
    _check_shape(path, tree, cfg, {**env.obs_sizes, "action": env.num_actions})
    tracker = EpisodeTracker(env.num_envs)
    obs = env.reset()
    agent, _ = unpack(tree, cfg, obs["policy"].device)
    if tree["env"] and isinstance(env, checkpoint.Restorable):
        env.restore(tree["env"])
        obs = {name: x.to(obs[name].device) for name, x in tree["obs"].items()}
        tracker.restore(tree["tracker"])
    _log.info("resumed %s at iteration %d", path, agent.iteration)
    return agent, tracker, obs


def _check_shape(path: Path, tree: dict[str, Any], cfg: Config, sizes: dict[str, int]) -> None:
    """Raise ValueError where the stored networks do not fit the settings or the environment."""
    if tree["sizes"] != sizes:
        raise ValueError(f"{path} was trained with sizes {tree['sizes']}; the environment has {sizes}")
    for name in ("actor_hidden", "critic_hidden", "activation", "exploration", "sde_full_std"):
        stored, wanted = tree["config"][name], getattr(cfg, name)
        if stored != (list(wanted) if isinstance(wanted, tuple) else wanted):
            raise ValueError(f"{path} was trained with {name} = {stored}; the recipe says {wanted}")


def _save(cfg: Config, agent: Agent, tracker: EpisodeTracker, env: VecEnv, obs: dict[str, Tensor], path: Path) -> None:
    tree = pack(agent, cfg) | {
        "tracker": tracker.snapshot(), "obs": obs,
        "env": env.snapshot() if isinstance(env, checkpoint.Restorable) else None,
    }  # fmt: skip
    checkpoint.save(path, tree)


def _normalise(agent: Agent, rollout: Rollout) -> None:
    agent.actor.norm.update(rollout.obs["policy"].flatten(0, 1))
    agent.critic.norm.update(rollout.critic_obs.flatten(0, 1))


def _set_torch(cfg: Config) -> None:
    if cfg.threads > 0:
        torch.set_num_threads(cfg.threads)
    if cfg.bf16:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # pyright: ignore[reportAttributeAccessIssue]
