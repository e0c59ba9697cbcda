"""Pictures of states that were recorded without a camera: the robot and its objects are put there, and rendered.

Knows: a MuJoCo backend with a task's objects, its cameras. Does not know: stores, who asks.

Shapes: n states · N copies · H height · W width.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from robot_rl.contract.spec import ImageTerm
from robot_rl.contract.state import RobotState
from robot_rl.sim.backends import make_physics
from robot_rl.sim.task import Task
from robot_rl.sim.world import state_rows


class Redraw:
    """A scene in which recorded states are looked at again."""

    def __init__(self, task: Task, camera: str, *, size: int = 64) -> None:
        """Open it.

        Args:
            task: Whose robot, scene and objects are drawn.
            camera: Of the robot's MJCF.
            size: H and W of the pictures [pixels].

        Raises:
            ValueError: The robot has no such camera; the error lists those it has.
            RuntimeError: No GL can be opened; the cure is named.
        """
        seen = dataclasses.replace(task, cameras=(ImageTerm(camera, size, size),))
        self._physics = make_physics(seen, num_envs=1, threads=1)  # chooses a GL before MuJoCo is imported
        from robot_rl.sim.cameras import Cameras

        self._cameras, self._name = Cameras(self._physics, (camera,), height=size, width=size), camera

    def __call__(self, states: RobotState) -> np.ndarray:
        """Return the pictures of states whose fields are (n, ...), joints in the robot's order: uint8 (n, H, W, 3).

        Raises:
            ValueError: A state is not finite, or the base floats and nobody measured where it was.
        """
        return np.concatenate([self._draw(state_rows(states, slice(i, i + 1))) for i in range(len(states.joint_pos))])

    def close(self) -> None:
        """Free the scene."""
        self._cameras.close()
        self._physics.close()

    def _draw(self, state: RobotState) -> np.ndarray:
        place = {"joint_pos": state.joint_pos}
        if self._physics.robot.floating_base:
            if state.base_pos_w is None:
                raise ValueError("a robot whose base nobody measured cannot be drawn: base_pos_w is missing")
            place |= {"base_pos_w": state.base_pos_w, "quat_xyzw": state.quat_xyzw}
        if state.object_pos_b is not None and state.object_quat_xyzw is not None:
            place |= {"object_pos": state.object_pos_b, "object_quat_xyzw": state.object_quat_xyzw}
        numbers = {name: np.asarray(value, np.float64) for name, value in place.items()}
        unknown = [name for name, value in numbers.items() if not np.isfinite(value).all()]
        if unknown:
            raise ValueError(f"a state cannot be drawn: {unknown} is not finite")
        self._physics.reset(np.zeros(1, int), numbers)
        return self._cameras.look()[self._name]
