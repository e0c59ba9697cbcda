"""Who stands on which tile of rough ground, and who moves on to a harder one: the terrain curriculum of legged_gym.

Every copy keeps its kind of ground and moves between levels when an episode ends (Rudin et al. 2022, arXiv:2109.11978,
section 3): up where it left its tile, down where it got less than half as far as its commands asked, or fell on its
tile. Beyond the last level it goes on at a level drawn from all, so that it forgets none.

Deviations: distances are the furthest of the episode, not those at its end, and what was asked is how far a robot that
follows the commanded velocities exactly would have come, turns included. legged_gym multiplies the last command's speed
by the time of a whole episode, which no robot that is told to turn can reach.

Knows: maps, levels, commands of velocity. Does not know: physics, rewards.

Shapes: N environments · n those named by ``ids``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.contract.state import RobotState
from robot_rl.sim.terrain import Relief, Terrain, make_relief

VELOCITY = ("lin_vel_x", "lin_vel_y", "ang_vel_z")
"""Commands that ask a robot to go somewhere."""


@dataclass(frozen=True, slots=True)
class Walks:
    """Episodes that have just ended."""

    walked_m: np.ndarray
    """Furthest from the middle of the tile, (n,)."""
    asked_m: np.ndarray
    """Furthest that the commands would have led, (n,)."""
    fell: np.ndarray
    """Whether the task ended it, and not the clock, (n,) bool."""
    leave_m: float
    """From the middle of a tile to its rim."""


def by_distance(walks: Walks) -> np.ndarray:
    """Return 1, 0 or -1 levels, int (n,): the rule in the module's docstring."""
    up = walks.walked_m > walks.leave_m
    down = ~up & (walks.fell | (walks.walked_m < 0.5 * walks.asked_m))
    return up.astype(int) - down


@dataclass(frozen=True, slots=True)
class Curriculum:
    """How copies are spread over the tiles, and how they move."""

    start: tuple[int, int] = (0, 0)
    """Levels of the first episodes, both included; drawn for each copy."""
    rule: Callable[[Walks], np.ndarray] | None = by_distance
    """Says by how many levels each copy moves; None keeps all where they are."""
    kinds: tuple[str, ...] = ()
    """Only columns of these kinds; all by default."""
    spread_m: float = 0.3
    """Starts lie within +- this around the middle of the tile, along both axes."""

    def __post_init__(self) -> None:
        if not 0 <= self.start[0] <= self.start[1]:
            raise ValueError(f"curriculum starts at levels {self.start}; the first must be 0 or more, the last no less")
        if self.spread_m < 0.0:
            raise ValueError(f"curriculum: spread_m is {self.spread_m}; it must not be negative")


def held(terrain: Terrain, *, level: int | None = None, kinds: tuple[str, ...] = ()) -> Curriculum:
    """Return a curriculum that moves nobody: for evaluation, on one level or on all alike."""
    return Curriculum(start=(0, terrain.levels - 1) if level is None else (level, level), rule=None, kinds=kinds)


class Course:
    """The tiles of N copies, and how far each has come in its episode."""

    def __init__(
        self, terrain: Terrain, curriculum: Curriculum | None, num_envs: int, dt_s: float, rng: np.random.Generator
    ) -> None:
        """Give every copy its tile; kinds have equal shares. Without a curriculum nobody moves.

        Raises:
            ValueError: The map lacks a level or a kind that the curriculum names.
        """
        self.terrain, self.curriculum = terrain, curriculum or held(terrain)
        self.relief: Relief = make_relief(terrain)
        columns = _columns(terrain, self.curriculum)
        low, high = self.curriculum.start
        self._rng, self._dt_s = rng, dt_s
        self.column = columns[rng.permutation(num_envs) % len(columns)]
        """Of each copy, (N,)."""
        self.level = rng.integers(low, high + 1, size=num_envs)
        """Of each copy, (N,)."""
        self._walked, self._asked = np.zeros(num_envs), np.zeros(num_envs)
        self._led = np.zeros((num_envs, 3))
        """Where the commands have led since the start: x, y [m], heading [rad]; (N, 3)."""

    @property
    def kinds(self) -> np.ndarray:
        """Kind of ground under each copy, (N,) str."""
        return np.array(self.terrain.kinds)[self.column]

    @property
    def log(self) -> dict[str, float]:
        """Mean levels, of all copies and of those on each kind."""
        kinds = self.kinds
        means = {f"curriculum/{kind}": float(self.level[kinds == kind].mean()) for kind in np.unique(kinds)}
        return {"curriculum/level": float(self.level.mean()), **means}

    def place(self, ids: np.ndarray, state: dict[str, np.ndarray], height_m: float) -> None:
        """Put the initial states of ``ids`` on their tiles, above the ground by their own height or ``height_m``."""
        middle = self.relief.centre(self.level[ids], self.column[ids])  # (n, 3)
        spread = self.curriculum.spread_m
        xy = middle[:, :2] + self._rng.uniform(-spread, spread, size=(len(ids), 2))
        above = state["base_pos_w"][:, 2] if "base_pos_w" in state else height_m
        state["base_pos_w"] = np.concatenate((xy, (self.relief.height(xy) + above)[:, None]), axis=1)
        self._walked[ids] = self._asked[ids] = 0.0
        self._led[ids] = 0.0

    def follow(self, state: RobotState, names: tuple[str, ...]) -> None:
        """Let one control step pass that ended in ``state``, its command the one in force, its commands called so."""
        middle = self.relief.centre(self.level, self.column)
        away = np.hypot(*(state.base_pos_w - middle)[:, :2].T)  # simulation only
        np.fmax(self._walked, away, out=self._walked)
        if set(VELOCITY) <= set(names):
            vx, vy, wz = (state.command[:, names.index(name)] * self._dt_s for name in VELOCITY)
            cos, sin = np.cos(self._led[:, 2]), np.sin(self._led[:, 2])
            self._led += np.stack((cos * vx - sin * vy, sin * vx + cos * vy, wz), axis=-1)
            np.maximum(self._asked, np.hypot(self._led[:, 0], self._led[:, 1]), out=self._asked)

    def move_on(self, ids: np.ndarray, fell: np.ndarray) -> None:
        """Move ``ids``, whose episodes have ended, by the rule; ``fell`` is (n,) bool."""
        if self.curriculum.rule is None:
            return
        leave_m = 0.5 * self.terrain.tile_m
        level = self.level[ids] + self.curriculum.rule(Walks(self._walked[ids], self._asked[ids], fell, leave_m))
        beyond = level >= self.terrain.levels
        level[beyond] = self._rng.integers(0, self.terrain.levels, size=int(beyond.sum()))
        self.level[ids] = np.maximum(level, 0)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        names = ("column", "level", "_walked", "_asked", "_led")
        return {name.lstrip("_"): getattr(self, name).copy() for name in names}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        self.column, self.level = np.array(snapshot["column"]), np.array(snapshot["level"])
        self._walked, self._asked = np.array(snapshot["walked"]), np.array(snapshot["asked"])
        self._led = np.array(snapshot["led"])


def _columns(terrain: Terrain, curriculum: Curriculum) -> np.ndarray:
    """Return the columns of the map that the curriculum uses."""
    if curriculum.start[1] >= terrain.levels:
        raise ValueError(f"curriculum starts at levels {curriculum.start}; the terrain has 0 to {terrain.levels - 1}")
    unknown = [kind for kind in curriculum.kinds if kind not in terrain.kinds]
    if unknown:
        raise ValueError(f"no tile of kind {unknown[0]!r} here; the choices are {sorted(set(terrain.kinds))}")
    wanted = curriculum.kinds or terrain.kinds
    return np.array([column for column, kind in enumerate(terrain.kinds) if kind in wanted])
