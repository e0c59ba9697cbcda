"""Ticks to disk without the control thread ever waiting: a preallocated ring, and a thread that empties it.

The control thread fills one row and moves a counter; where the ring is full it counts a drop and moves on. The newest
row is held back until its successor is there, because the end of an episode is sometimes known one tick later.

Knows: rows, events, where an episode begins and ends.
Does not know: files (``data.episodes``), rewards, why an episode ended.

Shapes: of the row's fields, see ``data.transition.row_dtype``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from robot_rl.contract.spec import Contract
from robot_rl.data.transition import row_dtype
from robot_rl.hardware.robot import Robot
from robot_rl.runtime.mailbox import Inbox

_log = logging.getLogger(__name__)

REMEMBERED = "memory"
"""An event that belongs to the row of its ``tick``, and stands before it in the same episode: policy ``policy``, 16 hex
digits of what the row has, remembered ``state``, (W,), when it was asked."""


class Store(Protocol):
    """Where rows and events go; ``data.episodes.EpisodeWriter`` is one."""

    def append(self, rows: np.ndarray | np.void) -> int:
        """Append rows, shape (n,), and return the number so far."""
        ...

    def event(self, event: dict[str, Any]) -> None:
        """Append an event; its key ``event`` says what happened."""
        ...

    def start_episode(self, detail: dict[str, Any] | None = None) -> int:
        """Begin an episode and return its number."""
        ...

    def end_episode(self, reason: str, *, label: int = 0, detail: dict[str, Any] | None = None) -> None:
        """End the episode that runs."""
        ...

    def label(self, label: int) -> None:
        """Label the newest episode."""
        ...

    def close(self) -> None:
        """Make everything durable."""
        ...


class Recorder:
    """Hands rows from the control thread to a store. ``claim``, ``commit``, ``cut``, ``event`` never block."""

    def __init__(
        self, store: Store, contract: Contract, robot: Robot, *, capacity: int = 1024, poll_s: float = 0.02
    ) -> None:
        """Prepare a ring of ``capacity`` rows; ``start`` the thread before the loop runs."""
        self.store = store
        self.ring = np.zeros(capacity, row_dtype(contract, robot))
        names = self.ring.dtype.names
        assert names is not None, "a row has fields"
        self.fields: dict[str, np.ndarray] = {name: self.ring[name] for name in names}
        """Views of the ring's fields; the control thread writes ``fields[name][i]`` for the ``i`` it claimed."""
        self.drops = 0
        """Rows lost because the store could not follow."""
        self.about: dict[str, Any] = {}
        """What the beginning of every episode shall say; set before the thread starts."""
        self.failures = 0
        """Writes that the store refused; their rows are lost, the loop goes on."""
        self._events: Inbox[tuple[int, dict[str, Any]]] = Inbox(1024)
        self._capacity, self._poll_s = capacity, poll_s
        self._head = 0  # rows committed; written by the control thread only
        self._tail = 0  # rows stored; written by the recorder thread only
        self._waiting: tuple[int, dict[str, Any]] | None = None  # an event behind rows not stored yet
        self._open = self._started = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    # -- control thread -----------------------------------------------------------------------------------------------

    def claim(self) -> int:
        """Return the index of a free row, or -1, counted as a drop, where the ring is full.

        A drop also ends the episode at the row before it: an episode has no gaps.
        """
        if self._head - self._tail >= self._capacity:
            self.drops += 1
            self.cut()
            return -1
        return self._head % self._capacity

    def commit(self) -> None:
        """Hand over the row last claimed."""
        self._head += 1

    def cut(self) -> None:
        """Mark the newest row as the truncated end of its episode, unless it ended already."""
        if self._head > 0:
            i = (self._head - 1) % self._capacity
            if not self.fields["terminated"][i]:
                self.fields["truncated"][i] = 1

    def event(self, event: dict[str, Any]) -> None:
        """Record an event behind the rows committed so far; JSON values, the key ``event`` says what happened."""
        self._events.put((self._head, event))

    # -- recorder thread ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End a running episode, store everything, stop the thread and close the store."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.cut()
        self._drain(whole=True)
        self.store.close()

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s):
            self._drain()

    def _drain(self, *, whole: bool = False) -> None:
        """Store what the ring holds, rows and events in the order they happened."""
        head = self._head
        if not whole and head > self._tail and not self._ends((head - 1) % self._capacity):
            head -= 1
        while True:
            self._waiting = self._waiting or self._events.take()
            if self._waiting is None or self._waiting[0] > head:
                break
            position, event = self._waiting
            self._store_rows(position)
            self._store_event(event)
            self._waiting = None
        self._store_rows(head)

    def _store_rows(self, head: int) -> None:
        """Store rows up to ``head``, in runs that neither wrap around nor cross an episode's end."""
        while self._tail < head:
            first = self._tail % self._capacity
            last = min(first + head - self._tail, self._capacity)
            ended = self.fields["truncated"][first:last] | self.fields["terminated"][first:last]
            ends = np.flatnonzero(ended)
            if ends.size:
                last = first + int(ends[0]) + 1
            self._store_run(self.ring[first:last], ended=bool(ends.size))
            self._tail += last - first

    def _store_run(self, rows: np.ndarray, *, ended: bool) -> None:
        self._begin(int(rows["tick"][0]))
        self._try(partial(self.store.append, rows))
        if ended:
            last = rows[-1]
            reason = "terminated" if last["terminated"] else "truncated"
            detail = {"tick": int(last["tick"]), "reasons": int(last["reasons"])}
            self._try(partial(self.store.end_episode, reason, label=int(last["label"]), detail=detail))
            self._open = False

    def _begin(self, tick: int) -> None:
        """Begin an episode at ``tick`` unless one runs."""
        if not self._open:
            self._try(partial(self.store.start_episode, {**self.about, "tick": tick}))
            self._open = self._started = True

    def _store_event(self, event: dict[str, Any]) -> None:
        if event["event"] == REMEMBERED:  # it belongs to the row that follows
            self._begin(event["tick"])
        if event["event"] != "label":
            self._try(partial(self.store.event, event))
        elif self._started:
            self._try(partial(self.store.label, event["label"]))

    def _try(self, call: Callable[[], object]) -> None:
        """Call the store; a full or failing disk costs rows, never the loop."""
        try:
            call()
        except OSError as error:
            self._count(error)

    def _count(self, error: OSError) -> None:
        self.failures += 1
        if self.failures == 1 or self.failures % 1000 == 0:
            _log.warning("the episode store refused a write (%d so far): %s", self.failures, error)

    def _ends(self, i: int) -> bool:
        return bool(self.fields["terminated"][i] or self.fields["truncated"][i])
