"""Rough ground as one map of square tiles: a column per kind, along y, and a row per level of difficulty, along x.

All copies of a robot share the map; each starts on a tile of its own choice. The map is centred on the world's origin,
the rims of the tiles and all ground beyond it lie at height 0. The surface is the one that MuJoCo collides with: two
triangles per cell, parted by the diagonal that rises in x and y.

Knows: tiles, heights at a point, NumPy and torch alike. Does not know: simulators, robots, who stands where.

Shapes: H x W samples of the map, rows along y · P points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from robot_rl.contract.arrays import Array, like, namespace
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.hardware.symmetry import Reflection
from robot_rl.sim.terrain_kinds import KINDS, Sizes, Tile

MOST_SAMPLES = 4_000_000
"""Bound of a map; 16 MB in each of its two layers and in the simulator."""
BODY_M = 0.5
"""Holes narrower than this are no ground for a body to sink into, and steps are averaged over it [m]."""


@dataclass(frozen=True, slots=True)
class Terrain:
    """A map as a few numbers; equal ones make equal maps."""

    kinds: tuple[str, ...]
    """Of each column, of ``KINDS``; a kind that is named twice has two columns, drawn differently."""
    levels: int = 10
    tile_m: float = 5.0
    """Side of a tile."""
    platform_m: float = 1.6
    """Side of the level square in the middle of a tile."""
    cell_m: float = 0.05
    """Distance of samples; steps are this steep."""
    difficulty: tuple[float, float] = (0.0, 1.0)
    """Of the first and the last level."""
    sizes: Sizes = field(default_factory=Sizes)
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ValueError(f"terrain kinds {list(self.kinds)}: {unknown or 'none'}; the choices are {list(KINDS)}")
        if self.levels < 1:
            raise ValueError(f"terrain has {self.levels} levels; it must have at least 1")
        if self.cell_m <= 0.0 or abs(self.tile_m / self.cell_m / 2 - round(self.tile_m / self.cell_m / 2)) > 1e-6:
            raise ValueError(f"tile_m {self.tile_m} must be an even number of cells of cell_m {self.cell_m}")
        if not 0.0 < self.platform_m < self.tile_m:
            raise ValueError(f"platform_m is {self.platform_m}; it must lie between 0 and tile_m {self.tile_m}")
        if not all(0.0 <= d <= 1.0 for d in self.difficulty):
            raise ValueError(f"difficulty is {self.difficulty}; both must lie in [0, 1]")
        if np.prod(self.shape) > MOST_SAMPLES:
            raise ValueError(f"the map has {self.shape} samples, more than {MOST_SAMPLES}; take larger cells")

    @property
    def cells(self) -> int:
        """Along a side of a tile."""
        return round(self.tile_m / self.cell_m)

    @property
    def shape(self) -> tuple[int, int]:
        """Samples along y and x, (H, W)."""
        return len(self.kinds) * self.cells + 1, self.levels * self.cells + 1

    def difficulty_of(self, level: int) -> float:
        """Return the difficulty of a level."""
        first, last = self.difficulty
        return first + (last - first) * level / max(1, self.levels - 1)


@dataclass(frozen=True, eq=False, slots=True)
class Relief:
    """The heights of a map; ``make_relief`` builds it."""

    terrain: Terrain
    heights: np.ndarray
    """At every sample [m], float32 (H, W)."""
    floor: np.ndarray
    """What carries a body there [m], float32 (H, W): narrow holes closed, then averaged, both over ``BODY_M``."""
    _on_device: dict[tuple[str, str], Array] = field(default_factory=dict)

    def height(self, xy: Array) -> Array:
        """Return the height of the surface at points (..., 2) [m], shape (...); 0 beyond the map."""
        return self._look_up("heights", xy)

    def ground(self, xy: Array) -> Array:
        """Return the height of what a body over points (..., 2) stands on [m], shape (...)."""
        return self._look_up("floor", xy)

    def centre(self, level: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the middle of tiles, (..., 3) [m]."""
        size = self.terrain.tile_m
        x = (np.asarray(level) + 0.5 - 0.5 * self.terrain.levels) * size
        y = (np.asarray(column) + 0.5 - 0.5 * len(self.terrain.kinds)) * size
        xy = np.stack((x, y), axis=-1)
        return np.concatenate((xy, self.height(xy)[..., None]), axis=-1)

    def _look_up(self, layer: str, xy: Array) -> Array:
        xp, cell, (rows, columns) = namespace(xy), self.terrain.cell_m, self.terrain.shape
        half_x, half_y = 0.5 * cell * (columns - 1), 0.5 * cell * (rows - 1)
        xy = xp.nan_to_num(xy)  # copies that exploded
        u = (xp.clip(xy[..., 0], -half_x, half_x) + half_x) / cell
        v = (xp.clip(xy[..., 1], -half_y, half_y) + half_y) / cell
        column, row = xp.clip(xp.floor(u), 0, columns - 2), xp.clip(xp.floor(v), 0, rows - 2)
        along, across = u - column, v - row
        index = row * columns + column
        index = index.astype(np.intp) if xp is np else index.long()
        values = self._values(layer, xy)
        near, far = values[index], values[index + columns + 1]
        # The corner on the point's own side of the diagonal joins the two that lie on it.
        lower = along > across
        corner = values[xp.where(lower, index + 1, index + columns)]
        least, most = xp.minimum(along, across), xp.maximum(along, across)
        return near * (1.0 - most) + corner * (most - least) + far * least

    def _values(self, layer: str, xy: Array) -> Array:
        """Return a layer as a flat array of the caller's kind, on its device."""
        if namespace(xy) is np:
            return getattr(self, layer).reshape(-1)
        key = layer, str(xy.device)
        if key not in self._on_device:
            self._on_device[key] = like(getattr(self, layer).reshape(-1).copy(), xy.new_zeros(()).float())
        return self._on_device[key]


@lru_cache(maxsize=4)
def make_relief(terrain: Terrain) -> Relief:
    """Build the map; each tile is drawn from the map's seed, its column and its level alone."""
    n = terrain.cells
    half = max(1, round(0.5 * terrain.platform_m / terrain.cell_m))
    tile = Tile(cells=n, cell_m=terrain.cell_m, platform=min(half, n // 2 - 1), sizes=terrain.sizes)
    heights = np.zeros(terrain.shape, dtype=np.float32)
    for column, kind in enumerate(terrain.kinds):
        for level in range(terrain.levels):
            rng = np.random.default_rng((terrain.seed, column, level))
            ground = KINDS[kind](tile, terrain.difficulty_of(level), rng)
            heights[column * n : (column + 1) * n + 1, level * n : (level + 1) * n + 1] = ground
    window = 2 * (round(0.5 * BODY_M / terrain.cell_m)) + 1
    floor = _mean(_slide(_slide(heights, window, np.maximum), window, np.minimum), window)
    for layer in (heights, floor):
        layer.flags.writeable = False
    return Relief(terrain, heights, floor)


def _slide(layer: np.ndarray, window: int, pick: Callable[..., np.ndarray]) -> np.ndarray:
    """Return the larger or smaller of all values in a square window around every sample, zeros beyond the map."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = window // 2, window // 2
        padded, n = np.moveaxis(np.pad(layer, pad), axis, 0), layer.shape[axis]
        layer = padded[:n].copy()
        for k in range(1, window):
            pick(layer, padded[k : k + n], out=layer)
        layer = np.moveaxis(layer, 0, axis)
    return layer


def _mean(layer: np.ndarray, window: int) -> np.ndarray:
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = window // 2 + 1, window // 2
        total = np.cumsum(np.pad(layer, pad), axis=axis, dtype=np.float64)
        low, high = (np.take(total, np.arange(layer.shape[axis]) + k, axis=axis) for k in (0, window))
        layer = (high - low) / window
    return layer.astype(np.float32)


# -- what a robot with a map of its surroundings would see --


def height_scan(
    relief: Relief,
    *,
    length_m: float = 1.6,
    width_m: float = 1.0,
    points: tuple[int, int] = (11, 7),
    above_m: float = 0.5,
) -> Callable[[RobotState, Contract], Array]:
    """Return a privileged term: how far below the base the ground is, on a grid that turns with the robot's yaw.

    legged_gym and Isaac Lab look at 17 x 11 points every 0.1 m over the same area; 11 x 7 are a good third of the work.

    Args:
        relief: The map.
        length_m: Forward and back together.
        width_m: Left and right together.
        points: Along length and width.
        above_m: Base height that reads as 0 [m]; readings are clipped to +-1 m.

    Returns:
        A term that gives (N, P), from the rear right, rightmost to leftmost and then forward.

    Raises:
        ValueError: There is no point, or the area is negative.
    """
    if min(points) < 1 or length_m < 0.0 or width_m < 0.0:
        raise ValueError(f"height scan of {points} points over {length_m} x {width_m} m; it needs at least one point")
    x, y = np.meshgrid(*(_spread(*side) for side in zip((length_m, width_m), points, strict=True)), indexing="ij")
    grid_x, grid_y = tuple(map(float, x.ravel())), tuple(map(float, y.ravel()))

    def height_scan(state: RobotState, contract: Contract) -> Array:
        base, quat = state.base_pos_w, state.quat_xyzw
        qx, qy, qz, qw = (quat[..., i] for i in range(4))
        xp = namespace(quat)
        ahead, aside = 1.0 - 2.0 * (qy * qy + qz * qz), 2.0 * (qx * qy + qw * qz)  # the x axis of the body, from above
        norm = xp.sqrt(ahead * ahead + aside * aside + 1e-12)
        cos, sin = (ahead / norm)[..., None], (aside / norm)[..., None]
        gx, gy = like(grid_x, quat), like(grid_y, quat)
        px = base[..., 0:1] + cos * gx - sin * gy  # type: ignore[index]  # simulation only
        py = base[..., 1:2] + sin * gx + cos * gy  # type: ignore[index]
        under = relief.height(xp.stack((px, py), -1))
        return xp.clip(base[..., 2:3] - under - above_m, -1.0, 1.0)  # type: ignore[index]

    return height_scan


def scan_reflection(points: tuple[int, int] = (11, 7)) -> Reflection:
    """Return what a height scan of so many points, along length and width, is in a mirror: left and right exchanged."""
    index = np.arange(points[0] * points[1]).reshape(points)[:, ::-1].ravel()
    return Reflection(tuple(index.tolist()), (1.0,) * len(index))


def _spread(size_m: float, count: int) -> np.ndarray:
    return np.linspace(-0.5 * size_m, 0.5 * size_m, count) if count > 1 else np.zeros(1)
