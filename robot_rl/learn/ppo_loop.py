"""PPO in a world: collect, update, write, again (Schulman et al. 2017, algorithm 1).

Knows: a ``VecEnv``, budgets, checkpoints, the numbers of a run.
Does not know: losses (``ppo``), tasks.

Shapes: N environments · D observation.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_rl.hardware.symmetry import Reflections
from robot_rl.learn import checkpoint, recurrent, rnd
from robot_rl.learn.env import VecEnv
from robot_rl.learn.interrupt import Interrupt, held_interrupt
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.ppo import Agent, Config, as_batch, make_agent, pack, unpack, update
from robot_rl.learn.ranks import ALONE, Ranks
from robot_rl.learn.rollout import Rollout, Staggered, collect, start_rollout
from robot_rl.learn.symmetry import Mirror, make_mirror

_log = logging.getLogger(__name__)

_SHAPE = ("actor_obs", "actor_hidden", "critic_hidden", "activation", "memory", "memory_features", "exploration",
          "sde_full_std", "sde_expln")  # fmt: skip
"""Settings that a resumed run must share with its checkpoint."""


def train(
    cfg: Config,
    env: VecEnv,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    reflections: Reflections | None = None,
    ranks: Ranks = ALONE,
) -> Agent:
    """Learn until ``total_steps`` or ``max_minutes`` and return the agent.

    Writes ``out/checkpoints/*.npz``, ``out/metrics.jsonl`` and TensorBoard events beside it; of several ranks the first
    writes, and the others keep what their worlds need in ``out/checkpoints/rank<n>``.

    Args:
        cfg: Settings.
        env: The world.
        out: Folder of the run; made if missing.
        resume: Go on from the newest checkpoint in ``out``; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar on the terminal.
        reflections: What the world looks like in a mirror; wanted where ``cfg.symmetry`` is not "none".
        ranks: The processes that learn together, each in its own ``env``; ``total_steps`` is of all.

    Raises:
        ValueError: ``resume`` without a checkpoint, a fresh run in a folder that has one, or no reflections.
        FloatingPointError: Something is not finite; ``out/checkpoints/last_good.npz`` holds the last good weights.
    """
    _set_torch(cfg)
    folder = out / "checkpoints"
    run = _resume(cfg, env, folder, ranks) if resume else _begin(cfg, env, folder, ranks)
    agent, own = run.agent, _own(folder, ranks)
    agent.mirror = _mirror(cfg, env, reflections, run.obs["policy"].device)
    writer = RunLog(out, cfg.total_steps, first_iteration=agent.iteration, progress=progress) if ranks.first else None
    with writer or nullcontext() as log, held_interrupt() as stop:
        while not _finished(cfg, agent, stop):
            try:
                row = iterate(run, cfg)
            except FloatingPointError as error:
                _save(cfg, run, own / "last_good.npz")
                raise FloatingPointError(f"{error}; last good weights: {own / 'last_good.npz'}") from error
            if not row:
                continue
            if log:
                log.write(agent.iteration, agent.steps, row | run.tracker.means())
            if agent.iteration % cfg.save_every == 0:
                _keep(cfg, run, folder)
                checkpoint.prune(own, keep=2, every=cfg.keep_every)
        _keep(cfg, run, folder)
    return agent


@dataclass(slots=True)
class Run:
    """A world and a learner on their way."""

    agent: Agent
    env: VecEnv
    tracker: EpisodeTracker
    obs: dict[str, Tensor]
    """Where the world stands, (N, D) per group."""
    rollout: Rollout


def start(cfg: Config, env: VecEnv, ranks: Ranks = ALONE) -> Run:
    """Reset the world and build a fresh learner for it; all ranks begin with the same weights."""
    obs = env.reset()
    if isinstance(env, Staggered):
        env.stagger()
    agent = make_agent(cfg, {**env.obs_sizes, "action": env.num_actions}, obs["policy"].device)
    agent.ranks = ranks
    agent.generator.manual_seed(ranks.seed(cfg.seed))
    return Run(agent, env, EpisodeTracker(env.num_envs), obs, start_rollout(obs, cfg.num_steps, env.num_actions))


def iterate(run: Run, cfg: Config) -> dict[str, float]:
    """Collect a rollout, learn from it, and return what was measured; nothing where it only fed the normaliser.

    Raises:
        FloatingPointError: Something is not finite; the weights are the last good ones.
    """
    agent, env, rollout = run.agent, run.env, run.rollout
    steps, began = cfg.num_steps * env.num_envs * agent.ranks.size, time.perf_counter()
    if cfg.rnd is not None:
        rnd.watch(rollout, cfg.rnd)
    run.obs, row = collect(
        agent.actor, env, run.obs, rollout, run.tracker, agent.generator,
        sde_every=cfg.sde_every, group=cfg.actor_obs,
    )  # fmt: skip
    collected = time.perf_counter()
    agent.steps += steps
    if cfg.normalise and float(agent.actor.norm.count) == 0.0:
        _normalise(cfg, agent, rollout)
        return {}
    if cfg.rnd is not None:
        row |= rnd.add_bonus(agent.curiosity, cfg.rnd, rollout, agent.ranks, steps=agent.steps, discount=cfg.discount)
    row |= update(agent, as_batch(agent, rollout, cfg), cfg)
    if cfg.rnd is not None:
        row |= rnd.learn(agent.curiosity, cfg.rnd, rollout, agent.generator, agent.ranks)
    if cfg.normalise:
        _normalise(cfg, agent, rollout)
    ended = time.perf_counter()
    agent.iteration += 1
    agent.train_s = agent.ranks.agreed(agent.train_s + (ended - began))
    return row | {
        "time/fps": steps / (ended - began), "time/collect_s": collected - began,
        "time/update_s": ended - collected, "time/train_s": agent.train_s,
    }  # fmt: skip


def _finished(cfg: Config, agent: Agent, stop: Interrupt) -> bool:
    """Return whether a run is over, for all ranks alike: a Ctrl-C that one of them saw stops all."""
    if agent.ranks.any(stop.asked):
        stop.asked = True
        return True
    return agent.steps >= cfg.total_steps or 0.0 < cfg.max_minutes <= agent.train_s / 60.0


def _mirror(cfg: Config, env: VecEnv, given: Reflections | None, device: torch.device) -> Mirror | None:
    if cfg.symmetry == "none":
        return None
    if given is None:
        raise ValueError(f"symmetry is {cfg.symmetry!r}, but the world came without reflections; the choice is 'none'")
    return make_mirror(given, {**env.obs_sizes, "action": env.num_actions}, device)


def _own(folder: Path, ranks: Ranks) -> Path:
    """Return where this rank keeps its checkpoints."""
    return folder if ranks.first else folder / f"rank{ranks.rank}"


def _begin(cfg: Config, env: VecEnv, folder: Path, ranks: Ranks) -> Run:
    if checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    return start(cfg, env, ranks)


def _resume(cfg: Config, env: VecEnv, folder: Path, ranks: Ranks) -> Run:
    path = checkpoint.latest(folder)
    if path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    own = _own(folder, ranks) / path.name
    if not own.exists():
        raise ValueError(f"{path} was written without {ranks}: {own} is missing; resume with as many ranks or fewer")
    tree = checkpoint.load(own)
    _check_shape(path, tree, cfg, {**env.obs_sizes, "action": env.num_actions})
    tracker = EpisodeTracker(env.num_envs)
    obs = env.reset()
    agent, _ = unpack(tree, cfg, obs["policy"].device)
    agent.ranks = ranks
    recurrent.restore(agent.actor, agent.critic, tree.get("memory"))
    if tree["env"] and isinstance(env, checkpoint.Restorable):
        env.restore(tree["env"])
        obs = {name: x.to(obs[name].device) for name, x in tree["obs"].items()}
        tracker.restore(tree["tracker"])
    _log.info("resumed %s at iteration %d", path, agent.iteration)
    return Run(agent, env, tracker, obs, start_rollout(obs, cfg.num_steps, env.num_actions))


def _check_shape(path: Path, tree: dict[str, Any], cfg: Config, sizes: dict[str, int]) -> None:
    """Raise ValueError where the stored networks do not fit the settings or the environment."""
    if tree["sizes"] != sizes:
        raise ValueError(f"{path} was trained with sizes {tree['sizes']}; the environment has {sizes}")
    for name in _SHAPE:
        wanted = getattr(cfg, name)
        stored = tree["config"].get(name, wanted)
        if stored != (list(wanted) if isinstance(wanted, tuple) else wanted):
            raise ValueError(f"{path} was trained with {name} = {stored}; the recipe says {wanted}")


def _keep(cfg: Config, run: Run, folder: Path) -> None:
    """Write the checkpoint of this iteration, that of rank 0 last: where it is, all are."""
    ranks, name = run.agent.ranks, checkpoint.numbered(folder, run.agent.iteration).name
    ranks.check_equal([*run.agent.actor.parameters(), *run.agent.critic.parameters()])
    if not ranks.first:
        _save(cfg, run, _own(folder, ranks) / name)
    ranks.meet()
    if ranks.first:
        _save(cfg, run, folder / name)


def _save(cfg: Config, run: Run, path: Path) -> None:
    env = run.env.snapshot() if isinstance(run.env, checkpoint.Restorable) else None
    checkpoint.save(path, pack(run.agent, cfg) | {"tracker": run.tracker.snapshot(), "obs": run.obs, "env": env})


def _normalise(cfg: Config, agent: Agent, rollout: Rollout) -> None:
    agent.actor.norm.update(agent.ranks.rows(rollout.obs[cfg.actor_obs].flatten(0, 1)))
    agent.critic.norm.update(agent.ranks.rows(rollout.critic_obs.flatten(0, 1)))


def _set_torch(cfg: Config) -> None:
    if cfg.threads > 0:
        torch.set_num_threads(cfg.threads)
    if cfg.bf16:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # pyright: ignore[reportAttributeAccessIssue]
