"""Golden pictures: what a policy that sees is shown in its golden steps, made from names and numbers and never stored.

A picture is SHAKE-256 (FIPS 202) of ``robot_rl/<camera>/<step>``, as bytes from the upper left, row by row, red, green,
blue: noise, in which every weight of a network counts, the same on every machine and in every language.

Knows: cameras of a contract. Does not know: networks, cameras of a robot.

Shapes: H height · W width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract.spec import ImageTerm


def golden_pictures(images: Sequence[ImageTerm], step: int) -> dict[str, NDArray[np.uint8]]:
    """Return the picture of each camera in golden step ``step`` by the name of its input, uint8 (1, H, W, 3)."""
    return {term.group: _noise(f"robot_rl/{term.name}/{step}", term.shape) for term in images}


def shown(images: Sequence[ImageTerm], step: int) -> dict[str, Any]:
    """Return what the network is given beside the observation in a golden step: nothing where it sees nothing."""
    return {"pictures": golden_pictures(images, step)} if images else {}


def pictures_of(images: Sequence[ImageTerm], obs: Mapping[str, NDArray[Any]], row: int) -> dict[str, NDArray[Any]]:
    """Return what the cameras show in one row of observations by group, each (1, H, W, 3)."""
    return {term.group: obs[term.group][row : row + 1] for term in images}


def _noise(name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    data = hashlib.shake_256(name.encode()).digest(math.prod(shape))
    return np.frombuffer(data, np.uint8).reshape(1, *shape)
