"""What a policy sees: the newest picture of each camera of its contract, and whether one is lost.

A camera is lost where its newest picture is older than ``timeout_s``, or has another shape than the contract's, or
where it cannot be read at all. The last good picture stays meanwhile.

Knows: cameras, the times of their pictures. Does not know: policies, what follows from a lost camera.

Shapes: H height · W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.contract.spec import ImageTerm
from robot_rl.hardware.camera import Camera


class Eyes:
    """The cameras of one loop. Control thread only."""

    def __init__(self, terms: Sequence[ImageTerm], cameras: Sequence[Camera], *, timeout_s: float) -> None:
        """Find the camera of each term; others stay closed.

        Args:
            terms: What the policy's contract names.
            cameras: What the robot has.
            timeout_s: Age beyond which a camera's newest picture means that it is lost [s].

        Raises:
            ValueError: The robot lacks a camera, or it gives pictures of another size.
        """
        there = {camera.name: camera for camera in cameras}
        for term in terms:
            if term.name not in there:
                raise ValueError(f"the policy sees through camera {term.name!r}; the robot has {sorted(there)}")
            found = there[term.name]
            if (found.height, found.width) != (term.height, term.width):
                raise ValueError(
                    f"camera {term.name!r} gives pictures of {found.width} x {found.height}; the policy sees "
                    f"{term.width} x {term.height}"
                )
        self.lost = False
        """Whether some camera was lost when they were last looked through."""
        self.pictures: dict[str, np.ndarray] = {term.group: np.zeros((1, *term.shape), np.uint8) for term in terms}
        """By ``ImageTerm.group``, uint8 (1, H, W, 3); black before the first picture, not written again."""
        self._cameras = {term.group: there[term.name] for term in terms}
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Open the cameras; raise ConnectionError where one gives no picture."""
        for camera in self._cameras.values():
            camera.connect()

    def look(self, now_s: float) -> None:
        """Take the newest pictures; ``now_s`` is on the clock of their stamps."""
        lost = False
        for group, camera in self._cameras.items():
            try:
                frame = camera.read()
            except ConnectionError:
                lost = True
                continue
            if now_s - frame.stamp_s > self._timeout_s or frame.image.shape != self.pictures[group].shape[1:]:
                lost = True
                continue
            self.pictures[group] = frame.image[None]
        self.lost = lost

    def close(self) -> None:
        """Close the cameras."""
        for camera in self._cameras.values():
            camera.close()
