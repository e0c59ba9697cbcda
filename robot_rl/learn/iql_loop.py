"""IQL on a fixed set of transitions: draw, learn, write down, until the updates are done.

Knows: a filled ``Replay``, when to log and to save. Does not know: losses (``iql``), where the data came from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robot_rl.data.replay import Replay
from robot_rl.learn import checkpoint
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.iql import Config, Student, make_student, pack, update
from robot_rl.learn.metrics import RunLog
from robot_rl.learn.rlpd import Batch


def train(
    cfg: Config, data: Replay, out: Path, *, policy_obs_size: int = 0, resume: bool = False, progress: bool = True
) -> Student:
    """Learn for ``cfg.updates`` and return what was learnt.

    Writes ``out/checkpoints/*.npz`` and ``out/metrics.jsonl``. A resumed run equals an uninterrupted one exactly.

    Args:
        cfg: Settings.
        data: Transitions with the columns of ``transition_columns``: demonstrations, earlier experiments, a store that
            a ``Feeder`` read.
        out: Folder of the run.
        policy_obs_size: How many of the first columns of ``obs`` the policy sees; 0 is all.
        resume: Go on from the newest checkpoint.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: ``data`` is empty, ``resume`` without a checkpoint or with other settings, or a fresh run in a
            folder that has one.
    """
    if not len(data):
        raise ValueError("there is nothing to learn from: the replay is empty")
    obs = torch.from_numpy(data.split(data.rows[: len(data)])["obs"])
    student = make_student(cfg, obs, num_actions=data.columns["action"], policy_obs_size=policy_obs_size)
    rng, folder = np.random.default_rng(cfg.seed), out / "checkpoints"
    newest = checkpoint.latest(folder)
    if resume:
        if newest is None:
            raise ValueError(f"nothing to resume: no checkpoint in {folder}")
        tree = checkpoint.load(newest)
        checkpoint.check_settings(tree, cfg, newest, free=("log_every", "save_every"))
        student.restore(tree["student"])
        rng.bit_generator.state = tree["rng"]
    elif newest is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    first = student.updates // cfg.log_every
    with RunLog(out, cfg.updates, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        while student.updates < cfg.updates:
            columns = data.sample_many(cfg.block, cfg.batch, rng, steps=cfg.n_step, discount=cfg.discount)
            batch = Batch(*(torch.from_numpy(columns[name]).flatten(0, 1) for name in Batch._fields))
            metrics = update(student, batch, cfg)
            if student.updates % cfg.log_every == 0:
                row = {f"loss/{name}": value for name, value in metrics.items()}
                log.write(student.updates // cfg.log_every, student.updates, row)
            if student.updates % cfg.save_every == 0 or student.updates >= cfg.updates or stop.asked:
                tree = pack(student, cfg) | {"rng": rng.bit_generator.state}
                checkpoint.save(checkpoint.numbered(folder, student.updates), tree)
                checkpoint.prune(folder, keep=2, every=0)
                stop.leave()
    return student
