"""The results of ``robot-rl eval`` as tables on a terminal.

Knows: episodes, comparisons, grids. Does not know: how they came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from robot_rl.sim.evaluation import Episodes
from robot_rl.sim.gate import Comparison, Gap
from robot_rl.sim.robustness import AXES, Cell, Robustness

UNITS = {"friction": "friction", "payload_kg": "payload kg", "push": "push m/s", "delay_s": "delay s"}
"""Titles of the axes of a grid."""


def of_episodes(policy: Path, episodes: Episodes) -> Iterator[RenderableType]:
    """Give the table of one evaluation, a row per level of the first command."""
    table = _table(str(policy), "command", "episodes", "falls", "v error m/s", "yaw error rad/s", "return")
    if episodes.command.shape[1]:
        for level in np.unique(episodes.command[:, 0]):
            part = episodes.where(episodes.command[:, 0] == level)
            table.add_row(f"first = {level:+.2f}", *_cells(part.summary()))
    summary = episodes.summary()
    table.add_row("all", *_cells(summary), style="bold")
    yield table
    gains = _table("rewards", "term", "per second")
    for name, value in summary["rewards"].items():
        gains.add_row(name, f"{value:.3f}")
    yield gains
    if "success_rate" in summary:
        yield f"success {summary['success_rate']:.1%}: what the task calls solved, at the end of the episode"
    if "ground" in summary:
        falls = _table("falls by ground", "ground", "falls")
        for name, rate in summary["ground"].items():
            falls.add_row(name, f"{rate:.1%}")
        yield falls
    if "violations" in summary:
        broken = _table("violations", "constraint", "steps beyond the limit")
        for name, rate in summary["violations"].items():
            broken.add_row(name, f"{rate:.2%}")
        yield broken


def of_comparison(policy: Path, found: Comparison) -> Iterator[RenderableType]:
    """Give the table of the sim-to-sim gate and its verdict."""
    table = _table(str(policy), "physics", "episodes", "falls", "v error m/s", "yaw error rad/s", "return")
    for name, episodes in found.episodes.items():
        table.add_row(name, *_cells(episodes.summary()))
        if name in found.gaps:
            table.add_row("  gap", "", *_gap_cells(found.gaps[name]), style="dim")
    yield table
    limits = found.limits
    yield (
        f"allowed: falls {limits.falls:.1%}, v error {limits.lin_vel:g} m/s, yaw error {limits.yaw_rate:g} rad/s, "
        f"return {limits.returns:.1%}"
    )
    if found.passed:
        yield "[bold green]passed[/]: every gap is within the limits"
    for name, gap in found.gaps.items():
        if gap.broken:
            yield f"[bold red]not passed[/]: {name} breaks {', '.join(gap.broken)}"


def of_robustness(policy: Path, found: Robustness) -> Iterator[RenderableType]:
    """Give for each axis the falls at each level, mean over the other axes and worst, and the worst cell."""
    table = _table(str(policy), "level", "falls, mean", "falls, worst", "v error m/s, worst", "return, worst")
    for axis in AXES:
        for level, falls, worst in found.along(axis):
            table.add_row(f"{UNITS[axis]} {level:g}", f"{falls:.1%}", *_worst_cells(worst))
    table.add_row("all", f"{found.whole['fall_rate']:.1%}", *_worst_cells(found.worst), style="bold")
    yield table
    worst = found.worst
    where = ", ".join(f"{UNITS[axis]} {getattr(worst, axis):g}" for axis in AXES)
    yield f"worst of {len(found.cells)} cells: {where}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _cells(s: dict[str, Any]) -> tuple[str, ...]:
    errors = (_number(s[name]) for name in ("lin_vel_error", "yaw_rate_error"))
    spread = "" if s["return_ci95"] is None else f" ± {s['return_ci95']:.2f}"
    return str(s["episodes"]), f"{s['fall_rate']:.1%}", *errors, f"{s['return_mean']:.2f}{spread}"


def _gap_cells(gap: Gap) -> tuple[str, ...]:
    errors = ("–" if x is None else f"{x:+.3f}" for x in (gap.lin_vel, gap.yaw_rate))
    spread = "" if gap.returns_ci95 is None else f" ± {gap.returns_ci95:.1%}"
    return f"{gap.falls:+.1%}", *errors, f"{gap.returns:+.1%}{spread}"


def _worst_cells(cell: Cell) -> tuple[str, ...]:
    return f"{cell.result['fall_rate']:.1%}", _number(cell.result["lin_vel_error"]), _number(cell.result["return_mean"])


def _number(x: Any) -> str:
    return "–" if x is None else f"{x:.3f}"
