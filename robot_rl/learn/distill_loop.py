"""Distillation in a world: collect with the student, ask the teacher, update, write, again.

Knows: a ``VecEnv``, budgets, checkpoints, the numbers of a run.
Does not know: errors and gradients (``distill``), tasks.

Shapes: N environments · D observation.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robot_rl.learn import checkpoint
from robot_rl.learn.distill import Config, Student, make_student, pack, unpack, update
from robot_rl.learn.env import VecEnv
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.rollout import Rollout, Staggered, collect, require_finite, start_rollout
from robot_rl.learn.teacher import Teacher

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """A world, a teacher and a student on their way."""

    student: Student
    teacher: Teacher
    env: VecEnv
    tracker: EpisodeTracker
    obs: dict[str, Tensor]
    """Where the world stands, (N, D) per group."""
    rollout: Rollout


def train(
    cfg: Config, env: VecEnv, out: Path, teacher: Teacher, *, resume: bool = False, progress: bool = True
) -> Student:
    """Learn from ``teacher`` until ``total_steps`` or ``max_minutes`` and return the student.

    Writes ``out/checkpoints/*.npz``, ``out/metrics.jsonl`` and TensorBoard events beside it.

    Args:
        cfg: Settings.
        env: The world; its group ``policy`` is what the student sees.
        out: Folder of the run; made if missing.
        teacher: Whom to imitate; it must see a group of ``env``.
        resume: Go on from the newest checkpoint in ``out``; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar on the terminal.

    Raises:
        ValueError: ``resume`` without a checkpoint or under another teacher, or a fresh run in a folder that has one.
        FloatingPointError: Something is not finite; ``out/checkpoints/last_good.npz`` holds the last good weights.
    """
    if cfg.threads > 0:
        torch.set_num_threads(cfg.threads)
    folder = out / "checkpoints"
    run = _resume(cfg, env, teacher, folder) if resume else _begin(cfg, env, teacher, folder)
    student = run.student
    first = student.iteration
    with RunLog(out, cfg.total_steps, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        while not (stop.asked or _finished(cfg, student)):
            try:
                row = iterate(run, cfg)
            except FloatingPointError as error:
                _save(cfg, run, folder / "last_good.npz")
                raise FloatingPointError(f"{error}; last good weights: {folder / 'last_good.npz'}") from error
            if not row:
                continue
            log.write(student.iteration, student.steps, row | run.tracker.means())
            if student.iteration % cfg.save_every == 0:
                _save(cfg, run, checkpoint.numbered(folder, student.iteration))
                checkpoint.prune(folder, keep=2, every=cfg.keep_every)
        _save(cfg, run, checkpoint.numbered(folder, student.iteration))
    return student


def iterate(run: Run, cfg: Config) -> dict[str, float]:
    """Collect a rollout, learn from it, and return what was measured; nothing where it only fed the normaliser."""
    student, env, rollout = run.student, run.env, run.rollout
    steps, began = cfg.num_steps * env.num_envs, time.perf_counter()
    run.obs, row = collect(student.actor, env, run.obs, rollout, run.tracker, student.generator)
    collected = time.perf_counter()
    student.steps += steps
    seen, norm = rollout.obs["policy"].flatten(0, 1), student.actor.norm
    if float(norm.count) == 0.0:
        norm.update(seen)
        return {}
    taught = run.teacher.label(rollout.obs)
    require_finite({"teacher's action": taught})
    row |= update(student, rollout, taught, cfg)
    norm.update(seen)
    ended = time.perf_counter()
    student.iteration += 1
    student.train_s += ended - began
    return row | {
        "time/fps": steps / (ended - began), "time/collect_s": collected - began,
        "time/update_s": ended - collected, "time/train_s": student.train_s,
    }  # fmt: skip


def _finished(cfg: Config, student: Student) -> bool:
    return student.steps >= cfg.total_steps or 0.0 < cfg.max_minutes <= student.train_s / 60.0


def _begin(cfg: Config, env: VecEnv, teacher: Teacher, folder: Path) -> Run:
    if checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    obs = env.reset()
    if isinstance(env, Staggered):
        env.stagger()
    student = make_student(cfg, {**env.obs_sizes, "action": env.num_actions}, obs["policy"].device)
    rollout = start_rollout(obs, cfg.num_steps, env.num_actions)
    return Run(student, teacher, env, EpisodeTracker(env.num_envs), obs, rollout)


def _resume(cfg: Config, env: VecEnv, teacher: Teacher, folder: Path) -> Run:
    path = checkpoint.latest(folder)
    if path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    tree, sizes = checkpoint.load(path), {**env.obs_sizes, "action": env.num_actions}
    stored = {name: tree["config"][name] for name in ("actor_hidden", "activation")}
    stored |= {"sizes": tree["sizes"], "teacher": tree["teacher"]}
    wanted = {"actor_hidden": list(cfg.actor_hidden), "activation": cfg.activation}
    wanted |= {"sizes": sizes, "teacher": teacher.fingerprint}
    for name, value in stored.items():
        if value != wanted[name]:
            raise ValueError(f"{path} was trained with {name} {value}; this run has {wanted[name]}")
    tracker, obs = EpisodeTracker(env.num_envs), env.reset()
    student, _ = unpack(tree, cfg, obs["policy"].device)
    if tree["env"] and isinstance(env, checkpoint.Restorable):
        env.restore(tree["env"])
        obs = {name: x.to(obs[name].device) for name, x in tree["obs"].items()}
        tracker.restore(tree["tracker"])
    _log.info("resumed %s at iteration %d", path, student.iteration)
    return Run(student, teacher, env, tracker, obs, start_rollout(obs, cfg.num_steps, env.num_actions))


def _save(cfg: Config, run: Run, path: Path) -> None:
    env = run.env.snapshot() if isinstance(run.env, checkpoint.Restorable) else None
    checkpoint.save(
        path,
        pack(run.student, cfg)
        | {"teacher": run.teacher.fingerprint, "tracker": run.tracker.snapshot(), "obs": run.obs, "env": env},
    )
