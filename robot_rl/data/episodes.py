"""The episode store's writer: every tick of a runtime process, appended to checksummed segments on the robot's disk.

A row that ``append`` has returned for survives the death of the process; one that ``committed`` counts, of the
machine. One thread appends (the recorder, not the control thread); a second one syncs in groups, seals and renames.

Knows: rows, events, when to sync and to begin a new segment.
Does not know: what rows mean, who reads them (``EpisodeReader``), compaction (``blocks``).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from robot_rl.contract.spec import Contract
from robot_rl.data.atomic import sync_folder
from robot_rl.data.follow import EpisodeReader, Event, Rows, read_episodes
from robot_rl.data.record_log import Header, Kind, frame, json_frame
from robot_rl.data.store import create_segment, new_writer, recover, seal, write_all
from robot_rl.data.transition import row_dtype
from robot_rl.hardware.robot import Robot

_sync_file = os.fdatasync if hasattr(os, "fdatasync") else os.fsync  # macOS has the second only
_log = logging.getLogger(__name__)
__all__ = ["EpisodeReader", "EpisodeWriter", "Event", "Rows", "read_episodes"]


@dataclass(slots=True)
class _Live:
    """A segment being written."""

    fd: int
    path: Path
    size: int
    born_s: float
    records: int = 0
    rows: int = 0
    events: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {"records": self.records, "rows": self.rows, "events": self.events}


class EpisodeWriter:
    """Appends the rows and events of one runtime process to a store.

    Several writers may share a folder; none ever touches another's files, except that a new one seals what dead
    ones left open. Methods may be called from several threads. A process forked off meanwhile keeps the lock alive:
    spawn instead.

    Args:
        folder: The store, made where it is missing.
        contract: Contract of the policy that runs.
        robot: The robot it runs on; with the contract it fixes the layout of a row.
        policies: SHA-256 of the policy files loaded at the start.
        sync_s: Longest time between an append and its fdatasync [s].
        segment_bytes: Size at which a new segment begins.
        segment_s: Age at which a new segment begins [s].

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        contract: Contract,
        robot: Robot,
        *,
        policies: Iterable[str] = (),
        sync_s: float = 0.1,
        segment_bytes: int = 16 << 20,
        segment_s: float = 600.0,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        recover(self.folder)
        self.writer = new_writer()
        """Identity of this writer in the store."""
        self.dtype = row_dtype(contract, robot)
        """Layout of a row."""
        self.rows = 0
        """Rows appended so far."""
        self.committed = 0
        """Rows that are on the disk whatever happens; follows ``rows`` within about ``sync_s``."""
        self.episodes = 0
        """Episodes started so far."""
        self._origin = (robot.name, contract.to_json(), contract.fingerprint)
        self._policies = tuple(policies)
        self._limits = (segment_bytes, segment_s)
        self._lock = threading.Lock()  # held for one write at most
        self._sync_lock = threading.Lock()  # held while the disk works
        self._written = self._synced = 0  # records of all segments
        self._listed: Path | None = None  # newest segment whose name is durable
        self._full: list[_Live] = []
        self._index = 0
        self._in_episode = False
        self._error: OSError | None = None
        self._closed = False
        self._live = self._begin()
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(
            target=self._sync_until_closed, args=(sync_s,), name="episode-sync", daemon=True
        )
        self._thread.start()

    def append(self, rows: np.ndarray | np.void) -> int:
        """Append one row, or several, shape () or (n,); return the number of rows so far.

        Raises:
            ValueError: The layout is another one, or the writer is closed.
            OSError: The disk is full or failed; what is on it stays whole, and a later call may succeed.
        """
        if rows.dtype is not self.dtype and rows.dtype != self.dtype:
            raise ValueError(f"row has the layout {rows.dtype}; this writer's is {self.dtype}")
        if rows.size == 0:
            return self.rows
        payload = rows.tobytes()
        with self._lock:
            live = self._writable()
            self._write(live, frame(Kind.ROWS, live.records, payload))
            live.rows += rows.size
            self.rows += rows.size
            return self.rows

    def event(self, event: Mapping[str, Any]) -> None:
        """Append an event behind the rows so far. Its key ``event`` says what happened; ``wall_s`` is added.

        An event ``swap`` with the new policy's SHA-256 as ``policy`` is remembered for later segments' headers.

        Raises:
            ValueError: There is no text under ``event``, or a value is not JSON.
            OSError: As for ``append``.
        """
        if not isinstance(event.get("event"), str):
            raise ValueError(f"an event needs the key 'event' with a text; got {dict(event)}")
        content = {"wall_s": time.time(), **event}
        with self._lock:
            live = self._writable()
            self._write(live, json_frame(Kind.EVENT, live.records, content))
            live.events += 1
            if event["event"] == "swap" and isinstance(event.get("policy"), str):
                self._policies = tuple(dict.fromkeys((*self._policies, event["policy"])))

    def start_episode(self, detail: Mapping[str, Any] | None = None) -> int:
        """Begin an episode, ending one that still runs; return its number, counted from 0 per writer."""
        if self._in_episode:
            self.end_episode("superseded")
        self.event({**(detail or {}), "event": "episode_start", "episode": self.episodes})
        self.episodes += 1
        self._in_episode = True
        return self.episodes - 1

    def end_episode(self, reason: str, *, label: int = 0, detail: Mapping[str, Any] | None = None) -> None:
        """End the episode that runs, if one does.

        Whether it terminated or was truncated stands in its last row.

        Args:
            reason: Why, e.g. ``fall``, ``time``, ``operator``.
            label: 1 success, -1 failure, 0 none.
            detail: More keys for the event.
        """
        if self._in_episode:
            content = {"event": "episode_end", "episode": self.episodes - 1, "reason": reason, "label": label}
            self._in_episode = False
            self.event({**(detail or {}), **content})

    def label(self, label: int, *, episode: int | None = None) -> None:
        """Label an episode, by default the newest, during it or afterwards: 1 success, -1 failure, 0 none."""
        number = self.episodes - 1 if episode is None else episode
        if not 0 <= number < self.episodes:
            raise ValueError(f"no episode {number} to label; this writer started {self.episodes}")
        self.event({"event": "label", "episode": number, "label": label})

    def flush(self) -> None:
        """Return once everything appended so far is on the disk."""
        self._sync()
        self._raise_error()

    def close(self) -> None:
        """End the episode, seal everything and stop the thread. Closing twice is fine.

        Raises:
            OSError: The disk failed; ``recover`` seals later what could not be sealed now.
        """
        if self._closed:
            return
        try:
            self.end_episode("closed")
        finally:
            self._stop = True
            self._wake.set()
            self._thread.join()
            with self._lock:
                self._closed = True
                self._full.append(self._live)
            self._sync()
        self._raise_error()
        if self._full:
            raise OSError(errno.ENOSPC, f"episode store {self.folder}: no room to seal {self._full[0].path.name}")

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> _Live:
        robot, contract, fingerprint = self._origin
        header = Header(
            writer=self.writer,
            index=self._index,
            robot=robot,
            contract=contract,
            contract_sha256=fingerprint,
            dtype=self.dtype,
            policies=self._policies,
            wall_s=time.time(),
            stamp_s=time.monotonic(),
        )
        fd, path = create_segment(self.folder, header)
        self._index += 1
        return _Live(fd, path, os.fstat(fd).st_size, header.stamp_s)

    def _writable(self) -> _Live:
        """Return the segment to append to, a new one where the old one is full; the lock is held."""
        if self._closed:
            raise ValueError("the episode writer is closed")
        self._raise_error()
        live, (most_bytes, most_s) = self._live, self._limits
        if live.records and (live.size >= most_bytes or time.monotonic() - live.born_s >= most_s):
            self._live = self._begin()
            self._full.append(live)
            self._wake.set()
        return self._live

    def _write(self, live: _Live, record: bytes) -> None:
        """Write a record in one call; take back what a full disk let through of it."""
        try:
            written = os.write(live.fd, record)
            if written != len(record):
                write_all(live.fd, record[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(live.fd, live.size)
            raise
        live.size += len(record)
        live.records += 1
        self._written += 1

    def _sync_until_closed(self, sync_s: float) -> None:
        while not self._stop:
            self._wake.wait(sync_s)
            self._wake.clear()
            self._sync()

    def _sync(self) -> None:
        """Make everything appended so far durable, and seal the segments that are full."""
        with self._sync_lock:
            with self._lock:
                full, self._full = self._full, []
                live, rows, written = self._live, self.rows, self._written
            try:
                while full:
                    _finish(full[0])
                    del full[0]
                if written != self._synced and not self._closed:
                    _sync_file(live.fd)
                if live.path != self._listed:  # a new segment is safe once its name is
                    sync_folder(self.folder)
                    self._listed = live.path
                self._synced, self.committed = written, rows
            except OSError as error:
                with self._lock:
                    self._full = full + self._full
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # after another failure no sync can be believed
                    self._error = error
                _log.warning("episode store %s cannot sync: %s", self.folder, error)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise OSError(f"episode store {self.folder} failed: {self._error}") from self._error


def _finish(segment: _Live) -> None:
    if segment.records:
        seal(segment.fd, segment.path, segment.counts)
    else:
        segment.path.unlink()
    os.close(segment.fd)
