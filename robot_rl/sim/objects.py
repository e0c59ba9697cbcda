"""Things that a task puts in front of its robot, as data: rigid bodies of primitive shapes, free or fixed.

Where a policy gets their poses from: ``RobotState.object_pos_b`` and ``object_quat_xyzw``, fields of perception in the
order of ``Task.objects``, whose names travel in the contract's ``extra["objects"]``. In simulation the physics fills
them, exactly; on a robot a tracker (marker, pose estimator) does, in the base frame, beside the driver's measurements.
They are no command: a command is what a person or planner wants (``panda_reach``'s goal), is held until it changes, and
may be drawn over a grid; an object's pose is measured, old, noisy, and changes because the robot acts. A policy that
shall do without a tracker looks through a camera instead.

The base of the robot stands at the world's origin and is fixed: the base frame is the world's.

Knows: shapes, where things start. Does not know: engines (``object_model``), tasks.

Shapes: n copies · O objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, prod

import numpy as np

Vector = tuple[float, float, float]
SIZES = {"box": 3, "cylinder": 2, "sphere": 1}
"""Numbers that the size of each kind of shape has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One primitive of an object."""

    kind: str
    """A key of ``SIZES``."""
    size: tuple[float, ...]
    """Half lengths of a box; radius and half length along z of a cylinder; radius of a sphere [m]."""
    pos: Vector = (0.0, 0.0, 0.0)
    """Of its centre in the object's frame [m]."""
    rgb: Vector = (0.8, 0.25, 0.15)

    def __post_init__(self) -> None:
        if self.kind not in SIZES:
            raise ValueError(f"no shape {self.kind!r}; the choices are {sorted(SIZES)}")
        if len(self.size) != SIZES[self.kind] or min(self.size) <= 0.0:
            raise ValueError(f"a {self.kind} has {SIZES[self.kind]} positive numbers of size; got {self.size}")

    @property
    def volume(self) -> float:
        """[m^3]."""
        if self.kind == "box":
            return 8.0 * prod(self.size)
        if self.kind == "cylinder":
            return 2.0 * pi * self.size[0] ** 2 * self.size[1]
        return 4.0 / 3.0 * pi * self.size[0] ** 3


@dataclass(frozen=True, slots=True)
class Object:
    """One rigid body; where it starts is ``pos`` and ``yaw`` plus what is drawn from ``spread``, uniform and even."""

    shapes: tuple[Shape, ...]
    mass_kg: float
    """Spread over the shapes by volume; 0 fixes the object where an episode puts it."""
    pos: Vector
    """Of its origin in the base frame [m]."""
    yaw: float = 0.0
    """About the vertical [rad]."""
    spread: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Half widths of what is added to x, y, z [m] and yaw [rad] at a reset."""
    friction: float = 0.8
    """Sliding friction; a contact has the larger one of its two sides."""

    def __post_init__(self) -> None:
        if not self.shapes:
            raise ValueError("an object needs at least one shape")
        if self.mass_kg < 0.0 or min(self.spread) < 0.0:
            raise ValueError(f"an object has mass {self.mass_kg} kg and spread {self.spread}; both are at least 0")


def draw_poses(objects: Mapping[str, Object], rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw where the objects of ``n`` copies start: positions (n, O, 3) [m] and orientations xyzw (n, O, 4)."""
    start = np.array([(*thing.pos, thing.yaw) for thing in objects.values()])  # (O, 4)
    width = np.array([thing.spread for thing in objects.values()])
    poses = start + width * rng.uniform(-1.0, 1.0, size=(n, *start.shape))  # (n, O, 4)
    return poses[..., :3], yaw_quat(poses[..., 3])


def yaw_quat(yaw: np.ndarray) -> np.ndarray:
    """Return the orientations xyzw, (..., 4), of a turn by ``yaw`` (...) about the vertical [rad]."""
    zero = np.zeros_like(yaw)
    return np.stack((zero, zero, np.sin(0.5 * yaw), np.cos(0.5 * yaw)), -1)
