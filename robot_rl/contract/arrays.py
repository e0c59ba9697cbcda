"""One line of mathematics for NumPy and torch: find the namespace that an array belongs to.

Knows: that numpy and torch name the common functions alike (``where, clip, concat, exp, square``).
Does not know: torch itself; it is only found where somebody else has imported it.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A ``numpy.ndarray`` or a ``torch.Tensor``; batch dimensions lead and are written ``...``."""


def namespace(x: Array) -> ModuleType:
    """Return ``numpy`` for a NumPy array and ``torch`` for a tensor, without importing torch."""
    if isinstance(x, np.ndarray | np.generic | float | int):
        return np
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch
    raise TypeError(f"expected a numpy array or a torch tensor, got {type(x).__name__}")


def like(values: Any, x: Array) -> Array:
    """Return ``values`` as an array of the namespace, floating type and device of ``x``."""
    if namespace(x) is np:
        return _constant(values, x.dtype) if type(values) is tuple else np.asarray(values, dtype=x.dtype)
    torch = sys.modules["torch"]
    return torch.as_tensor(values, dtype=x.dtype, device=x.device)


@lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], dtype: np.dtype[Any]) -> Array:
    """Return a tuple as a shared, read-only array; a control tick asks for the same few again and again."""
    array = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def as_float(flag: Array, x: Array) -> Array:
    """Return booleans as 0.0 and 1.0 in the floating type of ``x``."""
    return flag.astype(x.dtype) if namespace(flag) is np else flag.to(x.dtype)


def rotate_inverse(quat_xyzw: Array, v: Array) -> Array:
    """Rotate a world vector into the body frame.

    Args:
        quat_xyzw: Orientation of the body in the world, unit, shape (..., 4).
        v: World-frame vectors, shape (..., 3).

    Returns:
        The vectors in the body frame, shape (..., 3).
    """
    x, y, z, w = (quat_xyzw[..., i] for i in range(4))
    a, b, c = (v[..., i] for i in range(3))
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return stack_last((a - w * tx + (y * tz - z * ty), b - w * ty + (z * tx - x * tz), c - w * tz + (x * ty - y * tx)))


def cross(a: Array, b: Array) -> Array:
    """Cross product over the last axis, shape (..., 3); far faster than ``numpy.cross``."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return stack_last((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))


def stack_last(columns: tuple[Array, ...]) -> Array:
    """Return arrays of one shape, (...), as the columns of one, (..., k); far faster than ``numpy.stack``."""
    if namespace(columns[0]) is not np:
        return namespace(columns[0]).stack(columns, -1)
    out = np.empty((*np.shape(columns[0]), len(columns)), dtype=columns[0].dtype)
    for i, column in enumerate(columns):
        out[..., i] = column
    return out
