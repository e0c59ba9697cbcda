"""A two-joint robot, its contract, and rows that anybody can recompute from their tick: what the data tests record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.contract.spec import ActionLaw, Command, Contract, JointLimits, ObsTerm
from robot_rl.data.episodes import EpisodeReader, EpisodeWriter, Event, Rows
from robot_rl.data.transition import Mode, Who, row_dtype
from robot_rl.hardware.robot import Robot, Safety

JOINTS = ("hip", "knee")


def make_robot(feet: tuple[str, ...] = ()) -> Robot:
    safety = Safety(1.0, 0.01, (5.0, 5.0), 1.0, 1.0, 0.1, 0.2, 2.0, 1.0)
    two = (1.0, 1.0)
    return Robot("biped", "Two joints", JOINTS, (-2.0, -2.0), (2.0, 2.0), two, two, (0.0, 0.0), two, two, safety,
                 Path("biped.xml"), feet=feet)  # fmt: skip


def make_contract(task: str = "walk") -> Contract:
    two = (1.0, 1.0)
    obs = (ObsTerm("joint_pos", 2, two), ObsTerm("base_ang_vel", 3, (1.0,) * 3))
    limits = JointLimits((-2.0, -2.0), (2.0, 2.0), two, two)
    action = ActionLaw("joint_position", (0.25, 0.25), (0.0, 0.0))
    return Contract("biped", task, JOINTS, obs, Command(), action, two, two, 50.0, 200.0, limits)


ROBOT, CONTRACT = make_robot(), make_contract()
DTYPE = row_dtype(CONTRACT, ROBOT)


def make_rows(first: int, count: int) -> np.ndarray:
    """Rows of ticks ``first`` to ``first + count``; every field follows from the tick."""
    rows = np.zeros(count, DTYPE)
    tick = np.arange(first, first + count)
    rows["tick"] = tick
    rows["stamp_s"] = tick * 0.02
    rows["mode"], rows["who"] = Mode.POLICY, Who.POLICY
    for name in ("obs", "action", "sent_action", "joint_pos"):
        width = rows[name].shape[1]
        rows[name] = (tick[:, None] * 7 + np.arange(width) + len(name)) % 1000 / 8.0  # exact
    rows["joint_effort"] = np.nan  # not measured
    return rows


def make_writer(folder: Path, **options: Any) -> EpisodeWriter:
    return EpisodeWriter(folder, CONTRACT, ROBOT, **options)


def read_all(folder: Path, contract: Contract | None = None) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Read a store from the beginning: all rows, all events."""
    reader = EpisodeReader.follow(folder, contract=contract)
    items = reader.poll()
    reader.close()
    return join(items), [item.content for item in items if isinstance(item, Event)]


def join(items: list[Rows | Event]) -> np.ndarray:
    return np.concatenate([np.zeros(0, DTYPE), *(item.rows for item in items if isinstance(item, Rows))])


def ticks(folder: Path) -> list[int]:
    return read_all(folder)[0]["tick"].tolist()


def assert_rows(rows: np.ndarray, first: int, count: int) -> None:
    """The rows are those of the ticks, bit for bit."""
    assert rows.tobytes() == make_rows(first, count).tobytes()
