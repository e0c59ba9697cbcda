"""How much a policy bears: the same episodes over a grid of frictions, payloads, pushes and delays.

Every cell of the grid has the same commands; initial states and pushes are drawn anew. Sensor noise is off. The worst
cell is the one with the most falls, then with the largest velocity error, then with the smallest return.

Knows: worlds, episodes. Does not know: terminals, pages.

Shapes: E episodes per cell.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.policy import Policy
from robot_rl.sim.backends import check_physics
from robot_rl.sim.evaluation import (
    Episodes,
    Progress,
    command_grid,
    join,
    load_pair,
    make_world,
    run_world,
    slice_of,
    undisturbed,
)
from robot_rl.sim.task import Push, Task
from robot_rl.sim.world import World

PUSH_EVERY_S = (2.0, 4.0)
"""Time between pushes, drawn for each copy [s]."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The levels of each disturbance; every combination is a cell."""

    friction: tuple[float, ...] = (0.2, 0.4, 0.8, 1.2)
    """Sliding friction of ground and feet."""
    payload_kg: tuple[float, ...] = (-1.0, 0.0, 2.0, 4.0)
    """Mass added to the base."""
    push: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Largest horizontal change of velocity in a push, now and then [m/s]."""
    delay_s: tuple[float, ...] = (0.0, 0.01, 0.02)
    """Delay between observation and action: none, half a control period or a whole one [s]."""

    def __post_init__(self) -> None:
        """Refuse empty axes and numbers that make no sense."""
        for axis in dataclasses.fields(self):
            levels = getattr(self, axis.name)
            if not levels:
                raise ValueError(f"the grid has no levels of {axis.name}; give at least one")
            low = -np.inf if axis.name == "payload_kg" else 0.0
            wrong = [x for x in levels if not (np.isfinite(x) and x >= low)]
            if wrong:
                raise ValueError(f"{axis.name} {wrong} in the grid; every level must be finite and at least {low}")


AXES = tuple(f.name for f in dataclasses.fields(Grid))


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination and what came of it."""

    friction: float
    payload_kg: float
    push: float
    delay_s: float
    result: dict[str, float | int | None]
    """Summary of the cell's episodes."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """All cells."""

    cells: tuple[Cell, ...]
    whole: dict[str, float | int | None]
    """Summary over the episodes of all cells: the mean."""

    @property
    def worst(self) -> Cell:
        """The worst cell."""
        return max(self.cells, key=_badness)

    def along(self, axis: str) -> list[tuple[float, float, Cell]]:
        """Return for each level of ``axis`` the level, the mean share of falls and the worst cell."""
        levels = sorted({getattr(cell, axis) for cell in self.cells})
        rows: list[tuple[float, float, Cell]] = []
        for level in levels:
            cells = [cell for cell in self.cells if getattr(cell, axis) == level]
            rows.append((level, float(np.mean([_falls(cell) for cell in cells])), max(cells, key=_badness)))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "mean": self.whole,
            "worst": dataclasses.asdict(self.worst),
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
        }


def run_grid(
    policy: Path | str,
    *,
    grid: Grid = Grid(),
    episodes: int = 9,
    task: str = "",
    robot: str = "",
    seed: int = 0,
    physics: str = "mujoco_cpu",
    threads: int = 0,
    progress: Progress | None = None,
) -> Robustness:
    """Run ``episodes`` episodes of the policy in every cell.

    Args:
        policy: An exported ``.onnx``, or the name of a released one.
        grid: What is varied.
        episodes: Per cell, spread evenly over the grid of commands.
        task: A file of ``sim/tasks``; the contract's own by default.
        robot: A folder of ``hardware``; the contract's own by default.
        seed: Of initial states and pushes.
        physics: A backend of ``backends.PHYSICS``.
        threads: Physics threads, 0 is one per CPU.
        progress: Told the control steps done and the steps in all.

    Raises:
        ValueError: The policy is refused, the robot has a fixed base, or a name or number is wrong.
        FileNotFoundError: There is no such policy file.
        ImportError: The backend's engine is not installed; the cure is named.
    """
    check_physics(physics)
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; at least 1")
    loaded, made = load_pair(policy, task=task, robot=robot)
    calm, body = undisturbed(made), load_robot(made.robot)
    if not body.floating_base:
        raise ValueError(f"robot {body.name!r} has a fixed base: friction, payload and pushes mean nothing to it")
    outer = list(itertools.product(grid.push, grid.delay_s))
    inner = list(itertools.product(grid.friction, grid.payload_kg))
    limit = round(calm.episode_s * calm.rate_hz)
    cells: list[Cell] = []
    parts: list[Episodes] = []
    for k, (push, delay_s) in enumerate(outer):
        varied = _varied(calm, push, delay_s)
        world = make_world(loaded, varied, len(inner) * episodes, seed=(seed, k), physics=physics, threads=threads)
        try:
            parts.append(_run_cells(world, loaded, inner, limit, slice_of(progress, k, len(outer), limit)))
        finally:
            world.close()
        for i, (friction, payload_kg) in enumerate(inner):
            mine = np.arange(len(inner) * episodes) // episodes == i
            cells.append(Cell(friction, payload_kg, push, delay_s, parts[-1].where(mine).summary()))
    return Robustness(tuple(cells), join(parts).summary())


def _run_cells(
    world: World, policy: Policy, inner: Sequence[tuple[float, float]], limit: int, progress: Progress
) -> Episodes:
    """Give each cell its share of the copies, with its friction and payload, and run one episode of every copy."""
    each = world.num_envs // len(inner)
    for name, levels in zip(("friction", "payload_kg"), zip(*inner, strict=True), strict=True):
        world.physics.randomize(np.arange(world.num_envs), name, np.repeat(levels, each)[:, None])
    spread = command_grid(policy.contract.command)
    commands = spread[np.arange(each) * len(spread) // each]  # (E, K)
    return run_world(world, policy, np.tile(commands, (len(inner), 1)), limit, progress)


def _varied(task: Task, push: float, delay_s: float) -> Task:
    """Return the undisturbed task with pushes and a delay."""
    late, half = delay_s * task.sim_rate_hz, task.decimation / 2
    if not any(abs(late - halves * half) < 1e-6 for halves in range(3)):
        period = 1.0 / task.rate_hz
        raise ValueError(
            f"delay_s {delay_s} in the grid; the choices are 0, {period / 2} and {period}, halves of a period"
        )
    late = round(late)
    pushes = Push(every_s=PUSH_EVERY_S, lin_vel=push, ang_vel=0.0) if push else None
    return dataclasses.replace(task, push=pushes, delay_substeps=(late, late))


def _falls(cell: Cell) -> float:
    return float(cell.result["fall_rate"] or 0.0)


def _badness(cell: Cell) -> tuple[float, float, float]:
    """What makes a cell worse than another, most important first."""
    error, value = cell.result["lin_vel_error"], cell.result["return_mean"]
    return _falls(cell), float("inf") if error is None else error, -float(value or 0.0)
