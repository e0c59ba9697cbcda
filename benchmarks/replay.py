"""Batches per second of ``data/replay`` beside bare packed NumPy indexing, interleaved in one run on the same matrix.

The floor draws its indices alike and gathers with ``rows[index]``; ours also hands out the named columns. The setup
names two more figures: the ratio to the indexing alone, with indices drawn beforehand, and what one
``EpisodeWriter.append`` of a go2 row costs the recorder while the store syncs beside it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.contract.spec import ActionLaw, Command, Contract, JointLimits, ObsTerm
from robot_rl.data.episodes import EpisodeWriter
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.hardware.robot import Robot, load_robot

OBS, ACTIONS = 45, 12
TURN = 50  # batches in a row before the other side's turn: short enough that both meet the same machine


def run(*, seconds: float = 5.0, batch: int = 256, rows: int = 200_000) -> dict[str, Any]:
    """Measure both sides in turns.

    Args:
        seconds: Duration of the sampling; the appends take a fifth of it on top.
        batch: Transitions per batch.
        rows: Transitions in the replay; the default exceeds the caches.
    """
    replay = _fill(rows)
    matrix, rng = replay.rows, np.random.default_rng(1)
    drawn = cycle(rng.integers(0, rows, (2000, batch)))
    sides: list[Callable[[], object]] = [
        lambda: replay.sample(batch, rng),
        lambda: matrix[rng.integers(0, rows, batch)],
        lambda: matrix[next(drawn)],
    ]
    times: list[list[np.ndarray]] = [[], [], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 4:
        for side, taken in zip(sides, times, strict=True):
            taken.append(_times(side))
    ours, floor, bare = (np.concatenate(taken[1:]) for taken in times)  # (n,) seconds each, the first turn warms up
    append_us = _append_us(seconds / 5)
    value, reference = 1.0 / float(np.median(ours)), 1.0 / float(np.median(floor))
    return {
        "bench": "replay",
        "value": round(value, 1),
        "unit": "batches/s",
        "floor": round(reference, 1),
        "ratio": round(value / reference, 3),
        "p50_us": round(float(np.percentile(ours, 50)) * 1e6, 1),
        "p99_us": round(float(np.percentile(ours, 99)) * 1e6, 1),
        "setup": f"floor: rows[rng.integers({rows}, {batch})]; batch {batch} of {matrix.shape[1]} float32, obs {OBS}, "
        f"act {ACTIONS}, {rows} rows, {ours.size} batches in turns; ratio to indexing alone, indices drawn beforehand "
        f"{float(np.median(bare) / np.median(ours)):.3f}; EpisodeWriter.append of one go2 row p50 "
        f"{np.percentile(append_us, 50):.1f} us, p99 {np.percentile(append_us, 99):.1f} us over {append_us.size}, "
        f"fdatasync every 100 ms beside it; load {os.getloadavg()[0]:.1f}",
    }


def _times(side: Callable[[], object]) -> np.ndarray:
    stamps = np.empty(TURN + 1)
    for i in range(TURN):
        stamps[i] = time.perf_counter()
        side()
    stamps[TURN] = time.perf_counter()
    return np.diff(stamps)


def _fill(rows: int) -> Replay:
    replay, rng = Replay(rows, transition_columns(OBS, ACTIONS)), np.random.default_rng(0)
    replay.extend(
        {name: rng.random((rows, width) if width else rows, np.float32) for name, width in replay.columns.items()}
    )
    return replay


def _append_us(seconds: float) -> np.ndarray:
    """Time single appends, paced as a control loop paces them (1 kHz, so that there are enough)."""
    robot = load_robot("go2")
    taken: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        EpisodeWriter(Path(folder), _contract(robot), robot) as writer,
    ):
        row = np.zeros(1, writer.dtype)[0]
        deadline = time.perf_counter()
        end = deadline + seconds
        while deadline < end or len(taken) < 100:
            row["tick"] = len(taken)
            began = time.perf_counter()
            writer.append(row)
            taken.append(time.perf_counter() - began)
            deadline += 1e-3
            time.sleep(max(0.0, deadline - time.perf_counter()))
    return np.array(taken) * 1e6


def _contract(robot: Robot) -> Contract:
    """The smallest contract with the sizes of a walking go2."""
    limits = JointLimits(robot.pos_low, robot.pos_high, robot.vel, robot.effort)
    scale = (0.25,) * len(robot.joints)
    obs = (ObsTerm("projected_gravity", 3, (1.0,) * 3, history=OBS // 3),)
    action = ActionLaw("joint_position", scale, robot.default_pos)
    return Contract(
        robot.name, "bench", robot.joints, obs, Command(), action, robot.stiffness, robot.damping, 50.0, 200.0, limits
    )
