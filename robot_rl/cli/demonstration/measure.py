"""What the robot's own recording says about each stretch of the demo.

Knows: the episode store, windows of ticks. Does not know: how the recording came to be.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.cli.demonstration.course import Window
from robot_rl.data.episodes import EpisodeReader, Rows
from robot_rl.data.transition import Mode

SETTLE_TICKS = 25
"""Ticks after a change of the command that velocity errors leave out: half a second at 50 Hz."""
CURVE_TICKS = 1500
"""Ticks per point of the learning curve: half a minute of robot time."""


def read_rows(store: Path) -> np.ndarray:
    """Return every committed row of a store in the order of its ticks, shape (n,)."""
    reader = EpisodeReader.follow(store)
    parts: list[np.ndarray] = []
    while items := reader.poll():
        parts += [np.array(item.rows) for item in items if isinstance(item, Rows)]
    reader.close()
    if not parts:
        raise ValueError(f"{store} holds no rows")
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["tick"], kind="stable")]


def measure(rows: np.ndarray) -> dict[str, float]:
    """Return tracking errors, falls and latencies of consecutive rows (n,).

    ``lin_vel_error`` is the mean of |v_xy - v_xy*| [m/s] and ``yaw_rate_error`` of |w_z - w_z*| [rad/s], over ticks
    in which the policy drove and whose command was at least half a second old; ``tracking_error`` is their sum,
    with a metre per second counting as much as a radian per second.
    """
    driven = rows[rows["mode"] == Mode.POLICY]
    changed = np.any(np.diff(driven["command"], axis=0) != 0.0, axis=1)
    restarted = np.diff(driven["tick"].astype(np.int64)) != 1
    since = np.arange(len(driven))
    starts = np.concatenate(([0], np.flatnonzero(changed | restarted) + 1))
    age = since - starts[np.searchsorted(starts, since, side="right") - 1]
    settled = driven[age >= SETTLE_TICKS]
    if not len(settled):
        raise ValueError("the policy never drove long enough to be measured")
    lin = np.linalg.norm(settled["lin_vel_b"][:, :2] - settled["command"][:, :2], axis=1).mean()
    yaw = np.abs(settled["ang_vel_b"][:, 2] - settled["command"][:, 2]).mean()
    return {
        "lin_vel_error": float(lin),
        "yaw_rate_error": float(yaw),
        "tracking_error": float(lin + yaw),
        "falls": int(rows["terminated"].sum()),
        "seconds": len(driven) / 50.0,
        "tick_p50_us": float(np.percentile(rows["tick_s"], 50) * 1e6),
        "tick_p99_us": float(np.percentile(rows["tick_s"], 99) * 1e6),
        "late_p99_us": float(np.percentile(rows["late_s"], 99) * 1e6),
    }


def curve(rows: np.ndarray) -> list[dict[str, float]]:
    """Return the measurements of every half minute of rows (n,), with the tick at its end."""
    points = []
    for begin in range(0, len(rows) - CURVE_TICKS // 2, CURVE_TICKS):
        part = rows[begin : begin + CURVE_TICKS]
        if (part["mode"] == Mode.POLICY).sum() > 4 * SETTLE_TICKS:
            points.append({"tick": float(part["tick"][-1]), **measure(part)})
    return points


def summarise(
    store: Path, windows: Sequence[Window], events: Sequence[dict[str, Any]], *, about: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that the table and the page show.

    Args:
        store: The robot's recording.
        windows: Released as trained, released changed, fine-tuning, fine-tuned changed; in this order.
        events: What the runtime said: swaps, refusals, roll-backs.
        about: What was run.
    """
    rows = read_rows(store)
    ticks = rows["tick"]
    table = {w.name: measure(rows[(ticks >= w.first_tick) & (ticks < w.last_tick)]) for w in windows}
    before, after = table[windows[1].name], table[windows[3].name]
    gain = 1.0 - after["tracking_error"] / before["tracking_error"]
    kinds = [event["kind"] for event in events]
    summary = {
        "improvement": gain,
        "tracking_error_before": before["tracking_error"],
        "tracking_error_after": after["tracking_error"],
        "falls_before": before["falls"],
        "falls_after": after["falls"],
        "falls_while_learning": table[windows[2].name]["falls"],
        "swaps": kinds.count("swap"),
        "refusals": kinds.count("swap_refused"),
        "rollbacks": kinds.count("swap_rolled_back"),
        "transitions": len(rows),
        "tick_p99_us": float(np.percentile(rows["tick_s"], 99) * 1e6),
    }
    swaps = [event["tick"] for event in events if event["kind"] == "swap"]
    return {"about": about, "summary": summary, "windows": table, "curve": curve(rows), "swaps": swaps,
            "spans": [[w.name, w.first_tick, w.last_tick] for w in windows]}  # fmt: skip
