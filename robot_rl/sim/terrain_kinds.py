"""Tiles of rough ground by kind: heights over one square with a level platform in its middle and a rim at height 0.

Every kind maps (tile, difficulty in [0, 1], generator) to heights [m]. The set is that of legged_gym (Rudin et al.
2022, arXiv:2109.11978, section 3): slopes, stairs, blocks, stepping stones, gaps. ``up`` and ``down`` say which way it
goes from the platform, where robots start.

Knows: one tile. Does not know: maps, levels, simulators.

Shapes: S samples along a side, S - 1 cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Sizes:
    """What difficulty 0 and 1 mean, for a robot as large as a Unitree Go2 (hip height 0.3 m)."""

    slope: tuple[float, float] = (0.05, 0.4)
    """Rise per run; legged_gym's hardest."""
    step_m: tuple[float, float] = (0.03, 0.16)
    """Height of a stair; 0.16 m is a usual one indoors."""
    tread_m: float = 0.3
    """Depth of a stair."""
    noise_m: tuple[float, float] = (0.01, 0.06)
    """Largest height of random roughness; Isaac Lab's range for the Go2."""
    block_m: tuple[float, float] = (0.03, 0.16)
    """Largest height of blocks and depth of pits."""
    stone_m: tuple[float, float] = (0.8, 0.3)
    """Side of a stepping stone."""
    stone_gap_m: tuple[float, float] = (0.1, 0.25)
    """Gap between stepping stones, rim to rim."""
    gap_m: tuple[float, float] = (0.1, 0.4)
    """Width of a trench, rim to rim."""
    pit_m: float = 0.5
    """Depth between stones and in trenches."""


@dataclass(frozen=True, slots=True)
class Tile:
    """The square that a kind fills."""

    cells: int
    """Along a side, even."""
    cell_m: float
    platform: int
    """Half the side of the platform [cells]."""
    sizes: Sizes

    @property
    def half(self) -> int:
        """Cells from the middle to the rim."""
        return self.cells // 2

    def ring(self) -> np.ndarray:
        """Return the distance from the middle along the farther axis [cells], int (S, S)."""
        line = np.abs(np.arange(self.cells + 1) - self.half)
        return np.maximum(line[:, None], line[None, :])

    def count(self, length_m: float, least: int = 1) -> int:
        """Return a length in whole cells."""
        return max(least, round(length_m / self.cell_m))


Kind = Callable[[Tile, float, np.random.Generator], np.ndarray]


def at(span: tuple[float, float], difficulty: float) -> float:
    """Return the value of a range at a difficulty."""
    return span[0] + difficulty * (span[1] - span[0])


def _flat(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((tile.cells + 1, tile.cells + 1))


def _slope(sign: float, noisy: bool = False) -> Kind:
    def slope(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
        run = (tile.half - np.maximum(tile.ring(), tile.platform)) * tile.cell_m
        height = sign * at(tile.sizes.slope, difficulty) * run
        return height + _noise(tile, at(tile.sizes.noise_m, difficulty), rng) if noisy else height

    return slope


def _stairs(sign: float) -> Kind:
    def stairs(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
        tread = tile.count(tile.sizes.tread_m)
        risers = max(1, (tile.half - tile.platform) // tread)
        crossed = np.clip(-((tile.platform - tile.ring()) // tread), 0, risers)  # 0 on the platform, risers at the rim
        return sign * at(tile.sizes.step_m, difficulty) * (risers - crossed)

    return stairs


def _rough(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    return _noise(tile, at(tile.sizes.noise_m, difficulty), rng)


def _blocks(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Forty rectangles of 0.3 to 1 m at four heights; later ones lie on earlier ones."""
    side, height = tile.cells + 1, at(tile.sizes.block_m, difficulty)
    ground = np.zeros((side, side))
    for _ in range(40):
        long, wide = rng.integers(tile.count(0.3), tile.count(1.0) + 1, size=2)
        row, column = rng.integers(0, max(1, side - long)), rng.integers(0, max(1, side - wide))
        ground[row : row + long, column : column + wide] = rng.choice((-1.0, -0.5, 0.5, 1.0)) * height
    ground[tile.ring() <= tile.platform] = 0.0
    return _with_rim(ground)


def _stones(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Squares on a grid that begins at random, with pits between."""
    gap = tile.count(at(tile.sizes.stone_gap_m, difficulty), least=2)
    pitch = tile.count(at(tile.sizes.stone_m, difficulty)) + gap
    rows, columns = (((np.arange(tile.cells + 1) + start) % pitch) < gap - 1 for start in rng.integers(0, pitch, 2))
    pit = (rows[:, None] | columns[None, :]) & (tile.ring() > tile.platform)
    return _with_rim(np.where(pit, -tile.sizes.pit_m, 0.0))


def _gaps(tile: Tile, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Square trenches around the platform, 0.9 m from one to the next or more where they are wide."""
    width = tile.count(at(tile.sizes.gap_m, difficulty), least=2)
    pitch = max(tile.count(0.9), width + tile.count(0.4))
    first = tile.platform + tile.count(0.3)
    ring, pit = tile.ring(), np.zeros((tile.cells + 1, tile.cells + 1), dtype=bool)
    for inner in range(first, tile.half - width, pitch):
        pit |= (ring > inner) & (ring < inner + width)
    return np.where(pit, -tile.sizes.pit_m, 0.0)


KINDS: dict[str, Kind] = {
    "flat": _flat,
    "rough": _rough,
    "slope_up": _slope(-1.0),
    "slope_down": _slope(1.0),
    "rough_slope_up": _slope(-1.0, noisy=True),
    "rough_slope_down": _slope(1.0, noisy=True),
    "stairs_up": _stairs(-1.0),
    "stairs_down": _stairs(1.0),
    "blocks": _blocks,
    "stones": _stones,
    "gaps": _gaps,
}
"""What a tile may be."""


def _noise(tile: Tile, height: float, rng: np.random.Generator) -> np.ndarray:
    """Heights in +-``height`` drawn every 0.2 m and joined by straight lines; none on the platform and at the rim."""
    coarse = -(-tile.cells // tile.count(0.2)) + 1
    drawn = rng.uniform(-height, height, (coarse, coarse))
    where, knots = np.arange(tile.cells + 1), np.arange(coarse) * tile.count(0.2)
    lines = np.stack([np.interp(where, knots, row) for row in drawn])  # (coarse, S)
    ground = np.stack([np.interp(where, knots, column) for column in lines.T], axis=1)
    ground[tile.ring() <= tile.platform] = 0.0
    return _with_rim(ground)


def _with_rim(ground: np.ndarray) -> np.ndarray:
    ground[[0, -1], :] = ground[:, [0, -1]] = 0.0
    return ground
