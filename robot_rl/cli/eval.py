"""Measure a policy in simulation: falls, velocity errors and returns over a grid of commands.

Knows: how the numbers are shown. Does not know: how they come about (``sim.evaluation``).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from robot_rl.sim.evaluation import Episodes, evaluate, run_episodes

__all__ = ["Args", "evaluate", "run"]


@dataclass(frozen=True)
class Args:
    """Run the exported network itself, in onnxruntime, in many episodes, and print what came of it."""

    policy: Annotated[Path, tyro.conf.Positional]
    """The .onnx file, or the name of a released policy."""
    episodes: int = 200
    """How many, spread evenly over the grid of commands."""
    task: str = ""
    """A task of sim/tasks; the policy's own by default."""
    robot: str = ""
    """A robot of hardware/; the policy's own by default."""
    seed: int = 0
    """Of initial states and disturbances."""
    disturbed: bool = False
    """Keep the task's sensor noise, delays, pushes and randomised physics; off by default."""
    change: tuple[str, ...] = ()
    """Physical parameters of the robot, name=value or name:joint=value, e.g. --change payload_kg=3
    motor_strength:FR_thigh_joint=0.5"""
    threads: int = 0
    """Physics threads, 0 is one per CPU."""
    json: bool = False
    """Print one JSON object and nothing else."""


def run(args: Args) -> int:
    """Print the numbers; the exit code is 0 whatever they are."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        job = bar.add_task(f"{args.episodes} episodes", total=None)
        episodes = run_episodes(
            args.policy,
            episodes=args.episodes,
            task=args.task,
            robot=args.robot,
            seed=args.seed,
            disturbed=args.disturbed,
            changes=parse_changes(args.change),
            threads=args.threads,
            progress=lambda done, total: bar.update(job, completed=done, total=total),
        )
    if args.json:
        print(json.dumps(episodes.summary(), allow_nan=False))
    else:
        Console(soft_wrap=True).print(_table(args.policy, episodes))
    return 0


def parse_changes(words: tuple[str, ...]) -> dict[str, float | dict[str, float]]:
    """Read ``name=value`` and ``name:joint=value``.

    Raises:
        ValueError: A word has no '=', or its value is no number.
    """
    changes: dict[str, float | dict[str, float]] = {}
    for word in words:
        left, equals, right = word.partition("=")
        name, colon, joint = left.partition(":")
        try:
            value = float(right)
        except ValueError:
            value = None
        if not equals or value is None:
            raise ValueError(f"change {word!r} is neither name=number nor name:joint=number")
        if not colon:
            changes[name] = value
            continue
        joints = changes.setdefault(name, {})
        if not isinstance(joints, dict):
            raise ValueError(f"change {word!r} follows a value for every joint of {name!r}; say one or the other")
        joints[joint] = value
    return changes


def _table(policy: Path, episodes: Episodes) -> Table:
    table = Table(title=str(policy), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("command", "episodes", "falls", "v error m/s", "yaw error rad/s", "return"):
        table.add_column(column, justify="left" if column == "command" else "right")
    if episodes.command.shape[1]:
        for level in np.unique(episodes.command[:, 0]):
            _row(table, f"first = {level:+.2f}", episodes.where(episodes.command[:, 0] == level))
    _row(table, "all", episodes, style="bold")
    return table


def _row(table: Table, name: str, episodes: Episodes, style: str = "") -> None:
    s = episodes.summary()
    numbers = [s["lin_vel_error"], s["yaw_rate_error"]]
    cells = ["–" if x is None else f"{x:.3f}" for x in numbers]
    spread = "" if s["return_ci95"] is None else f" ± {s['return_ci95']:.2f}"
    table.add_row(
        name, str(s["episodes"]), f"{s['fall_rate']:.1%}", *cells, f"{s['return_mean']:.2f}{spread}", style=style
    )
