"""Where threads meet without locks: a single slot that the newest value takes, and a short queue that keeps all.

Both rest on ``collections.deque``, whose ``append`` and ``popleft`` are atomic.

Does not know: what is in them.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """One slot: ``put`` replaces what was there, ``take`` empties it. Neither blocks."""

    __slots__ = ("_slot",)

    def __init__(self) -> None:
        self._slot: deque[T] = deque(maxlen=1)

    def put(self, value: T) -> None:
        """Leave ``value``; an older one that nobody took is lost, by design."""
        self._slot.append(value)

    def take(self) -> T | None:
        """Return the newest value and empty the slot; None where it is empty."""
        if not self._slot:
            return None
        return self._slot.popleft()


class Inbox(Generic[T]):
    """A short queue: nothing is replaced; a full one refuses. One reader, any number of writers."""

    __slots__ = ("_queue", "capacity")

    def __init__(self, capacity: int = 64) -> None:
        self._queue: deque[T] = deque()
        self.capacity = capacity

    def put(self, value: T) -> bool:
        """Append ``value``; return False, and leave it, where the reader is ``capacity`` behind."""
        if len(self._queue) >= self.capacity:
            return False
        self._queue.append(value)
        return True

    def take(self) -> T | None:
        """Return the oldest value, or None where there is none."""
        if not self._queue:
            return None
        return self._queue.popleft()
