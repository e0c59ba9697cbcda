"""Pictures of one copy of a simulated robot, from a camera that follows it.

Knows: MuJoCo's renderer. Does not know: backends, videos.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np


class Picture:
    """A renderer made when it is first asked for, and made anew where the size changes."""

    def __init__(self, model: mujoco.MjModel, *, floating_base: bool) -> None:
        """Remember what is drawn; a floating base is followed."""
        self._model, self._floating = model, floating_base
        self._renderer: Any = None

    def draw(self, data: mujoco.MjData, width: int, height: int) -> np.ndarray:
        """Return ``data``, everything derived in it, as uint8 RGB (height, width, 3)."""
        if self._renderer is None or (self._renderer.width, self._renderer.height) != (width, height):
            self.close()
            self._renderer = mujoco.Renderer(self._model, height, width)
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = data.xpos[1] if self._floating else self._model.body_pos[1]
        camera.distance, camera.azimuth, camera.elevation = (
            (1.6, 130.0, -18.0) if self._floating else (4.0, 90.0, -10.0)
        )
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the render context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
