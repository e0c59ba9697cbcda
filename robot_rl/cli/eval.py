"""Measure a policy in simulation: falls, velocity errors and returns over a grid of commands.

With several backends in ``--physics`` it is the sim-to-sim gate, each backend in an environment of its own if need be;
with ``--robust`` a grid of disturbances.

Knows: how the numbers are shown. Does not know: how they come about (``sim.evaluation``, ``gate``, ``robustness``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robot_rl import zoo
from robot_rl.cli.measured import pages, tables
from robot_rl.cli.measured.elsewhere import find_pythons, run_with
from robot_rl.contract.golden import read_bundle
from robot_rl.sim.backends import check_installed
from robot_rl.sim.display import choose_gl
from robot_rl.sim.episode_file import write_episodes
from robot_rl.sim.evaluation import evaluate
from robot_rl.sim.gate import Limits, compare
from robot_rl.sim.robustness import Grid, run_grid

__all__ = ["Args", "evaluate", "run"]

GATE_CLOSED = 1


@dataclass(frozen=True)
class Args:
    """Run the exported network itself, in onnxruntime, in many episodes, and print what came of it.

    For example: robot-rl eval go2_walk_ppo --robust --html bears.html. Constraints of the task are counted, not
    enforced; on rough ground robots stand on all levels alike.
    """

    policy: Annotated[Path, tyro.conf.Positional]
    """The .onnx file, or the name of a released policy."""
    episodes: int | None = None
    """How many, spread evenly over the grid of commands; 200, or 9 per cell of --robust."""
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
    physics: str = "mujoco_cpu"
    """Physics backend: mujoco_cpu, mujoco_gpu, isaac or isaac_physx. With several, e.g. mujoco_cpu,mujoco_gpu, the same
    episodes run in each, and the exit code is 1 where one is further from the first than --gap allows."""
    python: tuple[str, ...] = ()
    """Backends that run in another environment, backend=python, e.g. --python isaac=.venv-isaac/bin/python; Isaac Lab
    is found there by itself."""
    gap: Limits = field(default_factory=Limits)
    """Largest gaps between backends that pass."""
    robust: bool = False
    """Run over a grid of frictions, payloads, pushes and delays."""
    grid: Grid = field(default_factory=Grid)
    """The levels of --robust."""
    html: Path | None = None
    """Write the heat maps of --robust as one self-contained page."""
    save: Path | None = None
    """Write the single episodes of one backend to this .npz file."""
    threads: int = 0
    """Physics threads, 0 is one per CPU."""
    json: bool = False
    """Print one JSON object and nothing else."""


def run(args: Args) -> int:
    """Print the numbers; the exit code is 0 whatever they are, but 1 where the sim-to-sim gate is closed."""
    if args.seed < 0:
        raise ValueError(f"seed is {args.seed}; it must be at least 0")
    backends = tuple(name.strip() for name in args.physics.split(","))
    if args.save is not None and (args.robust or len(backends) > 1):
        raise ValueError("--save is for the episodes of one backend; leave --robust and further backends away")
    if args.html is not None and not args.robust:
        raise ValueError("--html is the page of --robust; add --robust")
    path = zoo.find_policy(args.policy)
    if path.is_file() and read_bundle(path).contract.images:
        choose_gl()  # before MuJoCo is imported, whether or not the task is one with cameras
    if args.robust:
        return _robust(args, backends)
    return _one(args, backends[0]) if len(backends) == 1 else _gate(args, backends)


def _one(args: Args, physics: str) -> int:
    episodes = 200 if args.episodes is None else args.episodes
    run_it = run_with(find_pythons(args.python, (physics,)))
    with _bar(f"{episodes} episodes") as (bar, job):
        done = run_it(
            args.policy,
            physics=physics,
            progress=lambda done, total: bar.update(job, completed=done, total=total),
            **_options(args, episodes),
        )
    if args.save is not None:
        write_episodes(args.save, done)
    _show(args, done.summary(), lambda: tables.of_episodes(args.policy, done))
    return 0


def _gate(args: Args, backends: tuple[str, ...]) -> int:
    episodes = 200 if args.episodes is None else args.episodes
    pythons = find_pythons(args.python, backends)
    for name in backends:
        if name not in pythons:
            check_installed(name)  # rather now than after the episodes of the first
    run_it = run_with(pythons)
    with _bar("") as (bar, job):
        found = compare(
            args.policy,
            backends,
            limits=args.gap,
            run=run_it,
            progress=lambda name, done, total: bar.update(
                job, description=f"{name}, {episodes} episodes", completed=done, total=total
            ),
            **_options(args, episodes),
        )
    _show(args, {"policy": str(args.policy), **found.as_dict()}, lambda: tables.of_comparison(args.policy, found))
    return 0 if found.passed else GATE_CLOSED


def _robust(args: Args, backends: tuple[str, ...]) -> int:
    physics, *others = backends
    if others:
        raise ValueError(f"--robust runs in one backend, not in {list(backends)}")
    if args.python:
        raise ValueError("--robust runs in this Python: leave --python away, or call the other one's robot-rl")
    if args.change or args.disturbed:
        raise ValueError("--robust sets the disturbances itself: leave --change and --disturbed away")
    with _bar("grid of disturbances") as (bar, job):
        found = run_grid(
            args.policy,
            grid=args.grid,
            episodes=9 if args.episodes is None else args.episodes,
            task=args.task,
            robot=args.robot,
            seed=args.seed,
            physics=physics,
            threads=args.threads,
            progress=lambda done, total: bar.update(job, completed=done, total=total),
        )
    if args.html is not None:
        pages.write_robustness(args.html, str(args.policy), found)
    _show(args, {"policy": str(args.policy), **found.as_dict()}, lambda: tables.of_robustness(args.policy, found))
    return 0


def _options(args: Args, episodes: int) -> dict[str, Any]:
    return {
        "episodes": episodes,
        "task": args.task,
        "robot": args.robot,
        "seed": args.seed,
        "disturbed": args.disturbed,
        "changes": parse_changes(args.change),
        "threads": args.threads,
    }


@contextmanager
def _bar(title: str) -> Generator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar, bar.add_task(title, total=None)


def _show(args: Args, numbers: dict[str, Any], made: Any) -> None:
    if args.json:
        print(json.dumps(numbers, allow_nan=False))
        return
    for part in made():
        Console(soft_wrap=True).print(part)


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
