"""What the runtime needs of a camera: the newest image, never a wait for the next one.

A robot offers its cameras by ``make_cameras(robot, terms, *, now)`` in its ``driver.py``: one for each ``ImageTerm`` of
the policy's contract, of that name and size, stamped with ``now``, the loop's clock.

Knows: one image, its time. Does not know: lenses, codecs, policies.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class Frame(NamedTuple):
    """One image."""

    stamp_s: float
    """The loop's clock, on a robot ``time.monotonic()``, in the middle of the exposure, or the best estimate of it."""
    image: np.ndarray
    """RGB, uint8, shape (height, width, 3); not written again."""


class Camera(Protocol):
    """One camera, read from the control thread; it grabs in a thread or process of its own."""

    name: str
    """As in ``contract.images``."""
    height: int
    width: int

    def connect(self) -> None:
        """Open the camera and wait for its first image; raise ConnectionError where none comes."""
        ...

    def read(self) -> Frame:
        """Return the newest image at once; an old stamp is the sign of a lost camera."""
        ...

    def close(self) -> None:
        """Stop grabbing and free the device."""
        ...
