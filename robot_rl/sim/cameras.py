"""What a robot's cameras see, rendered without a display: uint8 RGB of every copy, from cameras that its MJCF names.

The MJCF of a robot holds its cameras, on its hand or beside it (``hardware/panda``: ``front``, ``side``, ``wrist``), so
that a picture in simulation and one of the real robot are told apart by the engine and not by where the camera is.

Knows: MuJoCo's offscreen renderer, copies of a CPU backend, what a contract calls a picture.
Does not know: tasks, encoders, videos.

Shapes: N copies · H height · W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from robot_rl.contract.spec import ImageTerm
from robot_rl.sim.display import CURE


class Cameras:
    """A renderer for some cameras of a model; one per thread, for a GL context belongs to the thread that made it."""

    def __init__(self, physics: Any, names: Sequence[str], *, height: int = 128, width: int = 128) -> None:
        """Open an offscreen context.

        Args:
            physics: A ``MujocoCpu``.
            names: Of cameras in the robot's MJCF.
            height: H.
            width: W.

        Raises:
            ValueError: There is no such camera, or the size is beyond what the scene allows; the choices are said.
            RuntimeError: No GL can be opened; the cure is named.
        """
        model = physics.model
        known = [model.camera(i).name for i in range(model.ncam)]
        unknown = sorted(set(names) - set(known))
        if unknown or not names:
            raise ValueError(f"no cameras {unknown} on robot {physics.robot.name!r}; it has {known}")
        most = (int(model.vis.global_.offheight), int(model.vis.global_.offwidth))
        if not (0 < height <= most[0] and 0 < width <= most[1]):
            raise ValueError(f"pictures of {width} x {height} do not fit; the scene allows {most[1]} x {most[0]}")
        self.names = tuple(names)
        self.height, self.width = height, width
        self._physics, self._data = physics, mujoco.MjData(model)
        self._renderer = _open(model, height, width)

    def look(self, ids: Sequence[int] | np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return what each camera sees in copies ``ids``, all by default: uint8 (n, H, W, 3) by name, fresh arrays."""
        copies = range(self._physics.num_envs) if ids is None else [int(i) for i in ids]
        seen = {name: np.empty((len(copies), self.height, self.width, 3), np.uint8) for name in self.names}
        for row, copy in enumerate(copies):
            self._place(copy)
            for name, pictures in seen.items():
                self._renderer.update_scene(self._data, name)
                self._renderer.render(out=pictures[row])
        return seen

    def close(self) -> None:
        """Free the context."""
        self._renderer.close()

    def _place(self, copy: int) -> None:
        """Bring bodies, cameras and lights where they are in a copy; contacts and forces are of no matter."""
        model, data = self._physics.model, self._data
        self._physics.batch.get_data(copy, data)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)


class CameraViews:
    """The pictures that a contract asks for, by group, of cameras that may differ in size."""

    def __init__(self, physics: Any, terms: Sequence[ImageTerm]) -> None:
        """Open a context for each size; arguments and errors as of ``Cameras``."""
        sizes = dict.fromkeys((term.height, term.width) for term in terms)
        self._cameras = [
            Cameras(physics, [t.name for t in terms if (t.height, t.width) == (h, w)], height=h, width=w)
            for h, w in sizes
        ]
        self._groups = {term.group: term.name for term in terms}

    def look(self, ids: Sequence[int] | np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the pictures of copies ``ids``, all by default, by group in the terms' order: fresh (n, H, W, 3)."""
        seen = {name: pictures for cameras in self._cameras for name, pictures in cameras.look(ids).items()}
        return {group: seen[name] for group, name in self._groups.items()}

    def close(self) -> None:
        """Free the contexts."""
        for cameras in self._cameras:
            cameras.close()


def _open(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # each GL library has errors of its own
        raise RuntimeError(
            f"no GL context for pictures can be opened ({error}); set MUJOCO_GL=osmesa or MUJOCO_GL=egl before Python "
            f"starts; {CURE}"
        ) from error
