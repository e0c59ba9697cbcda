"""APRL on one robot, simulated: act, remember, learn a block, look back when an episode ends.

Knows: a ``VecEnv`` of one robot, when to act at random. Does not know: losses, the box's rules (``aprl``).

Shapes: A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint
from robot_rl.learn.aprl import (
    Config,
    Grown,
    end_episode,
    fix_statistics,
    improve,
    make_grown,
    pack,
    random_action,
    unpack,
)
from robot_rl.learn.aprl_box import beyond_box
from robot_rl.learn.env import VecEnv, joined
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import EpisodeTracker, RunLog

Watch = Callable[[], Mapping[str, float]]
"""Numbers of the world after a step, e.g. how fast the robot is; rows of metrics have their means."""


@dataclass(slots=True)
class Run:
    """A world and a learner on their way."""

    grown: Grown
    env: VecEnv
    replay: Replay
    tracker: EpisodeTracker
    rng: np.random.Generator
    obs: dict[str, Tensor]
    counts: dict[str, float] = field(default_factory=dict[str, float])
    """Since the last row of metrics: steps, falls, actions beyond the box, sums of what is watched."""


def train(
    cfg: Config, env: VecEnv, out: Path, *, resume: bool = False, start: Path | None = None, watch: Watch = dict,
    progress: bool = True,
) -> Grown:  # fmt: skip
    """Act, remember, learn until ``total_steps`` and return what was learnt.

    Writes ``out/checkpoints/*.npz`` and ``out/metrics.jsonl``; there ``box/half_width`` is the box, ``box/beyond`` the
    share of actions outside it, ``box/shrunk`` how often it shrank, ``dynamics/mean_error`` what the gate looks at, and
    ``episode/falls`` the episodes since the row before that a terminal state ended.

    Args:
        cfg: Settings.
        env: The world; of one robot.
        out: Folder of the run.
        resume: Go on from the newest checkpoint; exact where ``env`` is ``checkpoint.Restorable``.
        start: A fresh run goes on from this checkpoint of another, with all that it has learnt and seen, in ``env``.
        watch: Asked after every step.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The world has several robots; ``resume`` without a checkpoint or with other settings, or a fresh run
            in a folder that has one.
    """
    if env.num_envs != 1:
        raise ValueError(f"aprl learns on one robot, after each of its steps; the world has {env.num_envs}")
    run, folder = _begin(cfg, env), out / "checkpoints"
    newest = checkpoint.latest(folder)
    if resume and newest is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    if not resume and newest is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    path = newest if resume else start
    if path is not None:
        _continue(run, cfg, path, same_world=resume)
    grown, metrics, every = run.grown, dict[str, float](), run.grown.learning.log_every
    first = grown.steps // every
    with RunLog(out, cfg.total_steps, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        while grown.steps < cfg.total_steps:
            ended = advance(run, watch)
            if grown.steps == grown.learning.start_steps:
                fix_statistics(grown, run.replay)
            if grown.steps > grown.learning.start_steps:
                metrics = improve(grown, run.replay, run.rng)
            if ended:
                end_episode(grown, run.replay)
            if grown.steps % every == 0:
                log.write(grown.steps // every, grown.steps, _row(run, metrics))
            if grown.steps % grown.learning.save_every == 0 or grown.steps >= cfg.total_steps or stop.asked:
                _save(run, folder)
                stop.leave()
    return grown


def advance(run: Run, watch: Watch = dict) -> bool:
    """Take one step and store it; return whether an episode ended."""
    grown, half_width = run.grown, run.grown.half_width
    action = random_action(grown) if grown.steps < grown.learning.start_steps else _act(run)
    step = run.env.step(action)
    run.replay.extend({
        "obs": joined(run.obs), "action": action, "reward": step.reward, "next_obs": joined(step.next_obs),
        "terminated": step.terminated,
    })  # fmt: skip
    run.tracker.add(step.reward, step.terminated, step.truncated)
    run.obs = step.obs
    grown.steps += 1
    fell = bool(step.terminated >= 1.0)
    seen = {"steps": 1.0, "falls": float(fell), "beyond": float(beyond_box(action, half_width))}
    for name, value in (seen | {f"watched/{name}": value for name, value in watch().items()}).items():
        run.counts[name] = run.counts.get(name, 0.0) + value
    return fell or bool(step.truncated)


@torch.no_grad()
def _act(run: Run) -> Tensor:
    agent = run.grown.agent
    return agent.actor.sample(run.obs["policy"], agent.actor.noise(1, matrices=1, generator=agent.generator))[0]


def _row(run: Run, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers since the last row, and begin to count anew."""
    grown, counts, steps = run.grown, run.counts, run.counts["steps"]
    watched = {name: value / steps for name, value in counts.items() if name.startswith("watched/")}
    row = {f"loss/{name}": value for name, value in metrics.items()} | run.tracker.means() | watched
    row |= {
        "box/half_width": grown.half_width, "box/beyond": counts["beyond"] / steps, "box/shrunk": float(grown.shrunk),
        "dynamics/error": grown.error, "dynamics/mean_error": grown.mean_error or 0.0,
        "episode/falls": counts["falls"],
    }  # fmt: skip
    counts.clear()
    return row


def _begin(cfg: Config, env: VecEnv) -> Run:
    grown = make_grown(cfg, {**env.obs_sizes, "action": env.num_actions})
    columns = transition_columns(sum(env.obs_sizes.values()), env.num_actions)
    replay = Replay(grown.learning.capacity, columns)
    return Run(grown, env, replay, EpisodeTracker(1), np.random.default_rng(cfg.seed), env.reset())


def _save(run: Run, folder: Path) -> None:
    env = run.env
    tree = pack(run.grown) | {
        "replay": run.replay.state_dict(), "rng": run.rng.bit_generator.state, "tracker": run.tracker.snapshot(),
        "counts": dict(run.counts), "obs": run.obs,
        "env": env.snapshot() if isinstance(env, checkpoint.Restorable) else None,
    }  # fmt: skip
    checkpoint.save(checkpoint.numbered(folder, run.grown.steps), tree)
    checkpoint.prune(folder, keep=2, every=0)


def _continue(run: Run, cfg: Config, path: Path, *, same_world: bool) -> None:
    """Take over a checkpoint; where it is of another world, what was learnt and seen but not the episode."""
    tree = checkpoint.load(path)
    if tree.get("algorithm") != "aprl":
        raise ValueError(f"{path} is a checkpoint of {tree.get('algorithm')!r}, not of 'aprl'")
    if same_world:
        checkpoint.check_settings(tree, cfg, path, free=("total_steps",))
    run.grown, _ = unpack(tree, cfg)
    stored = tree["replay"]
    run.replay.load_state_dict({**stored, "rows": stored["rows"].numpy()})
    run.rng.bit_generator.state = tree["rng"]
    if same_world and tree["env"] and isinstance(run.env, checkpoint.Restorable):
        run.env.restore(tree["env"])
        run.tracker.restore(tree["tracker"])
        run.counts, run.obs = tree["counts"], tree["obs"]
