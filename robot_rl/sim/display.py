"""Show a simulation: choose a GL that this machine has, write videos, open a viewer.

Call ``choose_gl`` before anything imports MuJoCo: it reads ``MUJOCO_GL`` once, when it is imported.

Knows: OSMesa, EGL, displays, mp4. Does not know: what is simulated.
"""

from __future__ import annotations

import ctypes.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.atomic import replacing

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
    """Write ``frames``, uint8 RGB (H, W, 3) with even H and W, to the .mp4 ``path`` in one piece; return how many.

    Raises:
        ValueError: ``path`` is no .mp4, there are no frames, or the encoder refuses them.
    """
    if path.suffix != ".mp4":
        raise ValueError(f"{path} is no .mp4")
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("no frames to write")
    with replacing(path, suffix=".mp4") as hidden:
        return _encode(hidden, first, pictures, fps)


def _encode(path: Path, first: np.ndarray, others: Iterable[np.ndarray], fps: float) -> int:
    """Feed the pictures to ffmpeg and return how many there were."""
    from imageio_ffmpeg import get_ffmpeg_exe

    height, width = first.shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}", "-i", "-"]
    h264 = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *h264, str(path)]
    count = 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as ffmpeg:
        assert ffmpeg.stdin is not None, "stdin is a pipe"
        try:
            for frame in itertools.chain((first,), others):
                ffmpeg.stdin.write(np.ascontiguousarray(frame, dtype=np.uint8).tobytes())
                count += 1
            ffmpeg.stdin.close()
        except BrokenPipeError:
            pass  # it has said why
        except BaseException:
            ffmpeg.kill()
            raise
        if ffmpeg.wait() != 0:
            said.seek(0)
            raise ValueError(
                f"ffmpeg refuses {width}x{height} pictures: {said.read().decode(errors='replace').strip()}"
            )
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
