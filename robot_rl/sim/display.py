"""Show a simulation: choose a GL that this machine has, write videos, open a viewer.

Call ``choose_gl`` before anything imports MuJoCo: it reads ``MUJOCO_GL`` once, when it is imported.

Knows: OSMesa, EGL, displays, mp4. Does not know: what is simulated.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

CURE = "on Debian and Ubuntu: apt-get install libosmesa6, or libegl1 and a driver; or set MUJOCO_GL"


def has_display() -> bool:
    """Return whether a window can be opened."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def choose_gl() -> str:
    """Set ``MUJOCO_GL`` where it is not set and return it, "" for the platform's own.

    Without a display OSMesa is taken, which is faster than EGL in software, then EGL.

    Raises:
        ValueError: There is neither; the cure is named.
    """
    chosen = os.environ.get("MUJOCO_GL", "")
    if chosen or has_display():
        return chosen
    for gl, library in (("osmesa", "OSMesa"), ("egl", "EGL")):
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = gl
            return gl
    raise ValueError(f"this machine has no display and neither OSMesa nor EGL to render without one; {CURE}")


def write_video(path: Path, frames: Iterable[np.ndarray], *, fps: float) -> int:
    """Write ``frames``, uint8 RGB (H, W, 3), to the .mp4 ``path`` in one piece, and return how many.

    Raises:
        ValueError: ``path`` is no .mp4, or there are no frames.
    """
    import imageio.v2 as imageio

    if path.suffix != ".mp4":
        raise ValueError(f"{path} is no .mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    count = 0
    try:
        with imageio.get_writer(temp, fps=fps, codec="libx264", macro_block_size=16) as writer:
            for frame in frames:
                count += 1
                writer.append_data(frame)  # pyright: ignore[reportAttributeAccessIssue]  # imageio's own type is a base
        if not count:
            raise ValueError("no frames to write")
        with temp.open("rb") as file:
            os.fsync(file.fileno())
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    return count


class Viewer:
    """MuJoCo's window on copy 0 of a CPU backend."""

    def __init__(self, physics: Any) -> None:
        """Open it; needs a display."""
        import mujoco.viewer

        self._physics = physics
        self._data = physics.copy(0)
        self._window = mujoco.viewer.launch_passive(physics.model, self._data)

    def show(self) -> bool:
        """Show the present state; False once the window is closed."""
        self._physics.copy(0, self._data)
        self._window.sync()
        return bool(self._window.is_running())

    def close(self) -> None:
        """Close the window."""
        self._window.close()
