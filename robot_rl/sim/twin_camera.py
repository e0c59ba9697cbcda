"""The cameras of a twin: what the robot's own would see, drawn when they are read.

A GL context belongs to the thread that made it, so a twin's camera is opened, read and closed in the control thread,
which waits for the picture; a real camera grabs in a thread of its own.

Knows: a twin, its views. Does not know: policies, timeouts.
"""

from __future__ import annotations

from robot_rl.contract.spec import ImageTerm
from robot_rl.hardware.camera import Frame
from robot_rl.sim.physics import Views
from robot_rl.sim.twin import Twin


class TwinCamera:
    """One camera; satisfies ``robot_rl.hardware.camera.Camera``."""

    def __init__(self, twin: Twin, term: ImageTerm) -> None:
        """Remember whose eye it is; nothing is opened."""
        self.name, self.height, self.width = term.name, term.height, term.width
        self._twin, self._term = twin, term
        self._views: Views | None = None
        self._last: Frame | None = None

    def connect(self) -> None:
        """Open it and draw the first picture; raise ConnectionError where nothing can be drawn."""
        try:
            self._views = self._twin.views(self._term)
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(f"camera {self.name!r} of the twin: {error}") from error
        self._last = self._draw(self._views)

    def read(self) -> Frame:
        """Return what it sees now; the last picture where the twin is blind, see ``Failure.BLIND``."""
        if self._views is None or self._last is None:
            raise ConnectionError(f"camera {self.name!r} of the twin is not connected")
        if not self._twin.blind:
            self._last = self._draw(self._views)
        return self._last

    def close(self) -> None:
        """Free what draws."""
        if self._views is not None:
            self._views.close()
            self._views = None

    def _draw(self, views: Views) -> Frame:
        return Frame(self._twin.time_s, views.look()[self._term.group][0])
