"""Reading an episode store while it grows: every committed row and event once, in order, from where one left off.

A reader sees whole records only. It follows segments as they are sealed and compacted, sets damaged ones aside with
the reason, and resumes from a cursor of plain JSON.

Knows: the order of segments, which rows can be used.
Does not know: rewards, pairs (``feeder``), how blocks are stored (``blocks``).
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from robot_rl.contract.box import of_one_learner
from robot_rl.contract.spec import Contract
from robot_rl.data.blocks import read_block
from robot_rl.data.record_log import MAX_PAYLOAD, Header, Piece, read_header, scan
from robot_rl.data.store import BLOCK, OPEN, list_fault, list_segments, locate, set_aside, stem
from robot_rl.data.transition import Mode

_READ_BYTES = 1 << 23  # read at once from a log segment


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one writer."""

    source: Header
    rows: np.ndarray
    """Structured array (n,) in the layout ``source.dtype``; read-only, where possible a view of the bytes read."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened between two rows of one writer."""

    source: Header
    content: dict[str, Any]
    """At least ``event`` (what) and ``wall_s`` (Unix time)."""


Item: TypeAlias = "Rows | Event"


@dataclass(slots=True)
class _Place:
    """How far one writer has been read."""

    segment: int = 0
    rows: int = 0
    events: int = 0


@dataclass(slots=True)
class _Source:
    """The segment of one writer that is being read."""

    header: Header
    path: Path
    fd: int | None = None  # None: a block, read as a whole
    at: int = 0
    number: int = 0
    finished: bool = False
    pieces: deque[Piece] = field(default_factory=deque)
    skip: _Place = field(default_factory=_Place)  # what the cursor says was yielded before


class EpisodeReader:
    """Follows one store. Made by ``follow``; used from one thread; closes its files when it is collected."""

    def __init__(self, folder: Path, contract: Contract | None, cursor: dict[str, Any] | None) -> None:
        self._sources: dict[str, _Source] = {}
        self.folder = Path(folder)
        self._contract = contract
        self._places = _as_places(cursor)
        self._unclean = ""

    @classmethod
    def follow(
        cls, folder: Path, *, contract: Contract | None = None, cursor: dict[str, Any] | None = None
    ) -> EpisodeReader:
        """Return a reader of the store in ``folder``, which need not exist yet.

        Args:
            folder: The store.
            contract: Yield only what was recorded under this contract, whatever its action box, and list the rest as
                set aside; None yields all.
            cursor: Where an earlier reader stopped, its ``cursor``; None starts at the beginning.

        Raises:
            ValueError: The cursor is not one.
        """
        return cls(folder, contract, cursor)

    @property
    def cursor(self) -> dict[str, Any]:
        """How far ``poll`` has come, as JSON values; segments may be sealed and compacted before it is used."""
        places = {w: [p.segment, p.rows, p.events] for w, p in sorted(self._places.items())}
        return {"schema": 1, "writers": places}

    def poll(self, max_rows: int | None = None) -> list[Item]:
        """Return what is new, oldest first; writers one after the other, each one's rows and events in order.

        Args:
            max_rows: Stop once this many rows are gathered; None for all there are.

        Raises:
            ImportError: A block is compacted and zarr is not installed.
        """
        items: list[Item] = []
        left = max_rows if max_rows is not None else 1 << 62
        for writer, indices in list_segments(self.folder).items():
            place = self._places.setdefault(writer, _Place())
            while left > 0 and self._fill(writer, place, indices):
                left -= self._yield(writer, place, items, left)
        return items

    def close(self) -> None:
        """Close the files held open."""
        for source in self._sources.values():
            _close(source)
        self._sources.clear()

    def __del__(self) -> None:
        self.close()

    def _fill(self, writer: str, place: _Place, indices: list[int]) -> bool:
        """Return whether the writer has pieces to yield, reading on and opening the next segment where needed."""
        while True:
            source = self._sources.get(writer)
            if source is None:
                source = self._open(writer, place, indices)
                if source is None:
                    return False
                self._sources[writer] = source
            if not source.pieces and not source.finished:
                self._read(source)
            if source.pieces:
                return True
            if not source.finished:
                return False
            _close(self._sources.pop(writer))
            place.segment, place.rows, place.events = place.segment + 1, 0, 0

    def _open(self, writer: str, place: _Place, indices: list[int]) -> _Source | None:
        """Open the segment at ``place``, or the first behind it that exists and can be used."""
        for index in [place.segment, *(i for i in indices if i > place.segment)]:
            path = locate(self.folder, writer, index)
            if path is None:  # not written yet, or set aside as a whole
                continue
            if index != place.segment:
                place.segment, place.rows, place.events = index, 0, 0
            try:
                source = _open_block(path) if path.name.endswith(BLOCK) else _open_log(path)
            except FileNotFoundError:  # it moved on to its next stage just now
                return self._open(writer, place, indices)
            except ValueError as error:
                if path.suffix == OPEN:
                    return None  # a writer died here; whoever starts next recovers it
                with _if_writable():
                    set_aside(path, str(error))
                continue
            found, wanted = source.header.contract_sha256, self._contract
            if wanted and found != wanted.fingerprint and not of_one_learner(wanted, source.header.contract):
                with _if_writable():  # listed, and left where it is: another reader may want it
                    list_fault(
                        self.folder, stem(writer, index), f"recorded under contract {found}, not {wanted.fingerprint}"
                    )
                _close(source)
                place.segment, place.rows, place.events = index + 1, 0, 0
                continue
            source.skip = _Place(index, place.rows, place.events)
            return source
        return None

    def _read(self, source: _Source) -> None:
        """Gather the next whole records of a log segment, and find out whether there will be more."""
        assert source.fd is not None, "a block is read as a whole"
        writer, index = source.header.writer, source.header.index
        path = locate(self.folder, writer, index)  # both before reading: what they tell has been written by then
        full = locate(self.folder, writer, index + 1) is not None
        size = _READ_BYTES
        while True:
            data = os.pread(source.fd, size, source.at)
            found = scan(data, source.header.dtype, source.number)
            if found.end or found.footer is not None or len(data) < size or size > MAX_PAYLOAD:
                break
            size *= 4  # one record larger than the window
        source.pieces.extend(found.pieces)
        source.at += found.end
        source.number = found.number
        complete = full and found.fault is None and len(data) < size  # though perhaps not sealed yet
        if found.footer is not None or path is None or (complete and path.suffix == OPEN):
            source.finished = True
        elif not found.pieces and path.suffix != OPEN:  # sealed, yet nothing whole and no footer: damaged
            with _if_writable():
                set_aside(path, found.fault or f"the footer is missing behind record {found.number - 1}")
            source.finished = True

    def _yield(self, writer: str, place: _Place, items: list[Item], left: int) -> int:
        """Move one piece into ``items``; return its number of rows."""
        source = self._sources[writer]
        piece = source.pieces.popleft()
        if isinstance(piece, dict):
            if source.skip.events:
                source.skip.events -= 1
            else:
                place.events += 1
                items.append(Event(source.header, piece))
            return 0
        known = min(piece.size, source.skip.rows)
        source.skip.rows -= known
        if piece.size - known > left:
            source.pieces.appendleft(piece[known + left :])
        piece = piece[known : known + left]
        if piece.size:
            place.rows += piece.size
            usable = self._usable(source, piece)
            if usable.size:
                items.append(Rows(source.header, usable))
        return piece.size

    def _usable(self, source: _Source, rows: np.ndarray) -> np.ndarray:
        """Leave out the rows whose observation or sent action is not finite while a policy or a person commanded."""
        finite = np.isfinite(rows["obs"]).all(-1) & np.isfinite(rows["sent_action"]).all(-1)
        bad = ~finite & ((rows["mode"] == Mode.POLICY) | (rows["mode"] == Mode.TAKEOVER))
        if not bad.any():
            return rows
        name = stem(source.header.writer, source.header.index)
        if name != self._unclean:  # once per segment
            tick = int(rows["tick"][bad][0])
            reason = f"rows with NaN or infinity in obs or sent_action are left out; the first is tick {tick}"
            with _if_writable():
                list_fault(self.folder, name, reason)
            self._unclean = name
        return rows[~bad]


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode as it was recorded."""

    source: Header
    number: int
    """Counted per writer."""
    rows: np.ndarray
    """Structured array (n,), its own copy, with the operator's label filled in."""
    reason: str | None
    """Why it ended; None where the recording stops inside it."""
    label: int
    """1 success, -1 failure, 0 none."""
    events: tuple[dict[str, Any], ...]
    """Everything that happened in it, start and end included."""


def read_episodes(folder: Path, *, contract: Contract | None = None) -> list[Episode]:
    """Return every episode of a store, in order of writers and start; rows outside of episodes are left out.

    Raises:
        ImportError: A block is compacted and zarr is not installed.
    """
    reader = EpisodeReader.follow(folder, contract=contract)
    drafts: dict[tuple[str, int | None], tuple[Header, list[np.ndarray], list[dict[str, Any]]]] = {}
    running: dict[str, int | None] = {}
    for item in reader.poll():
        writer = item.source.writer
        if isinstance(item, Event):
            number = item.content.get("episode", running.get(writer))
            if item.content["event"] == "episode_start" and number is not None:
                running[writer] = number
                drafts[writer, number] = (item.source, [np.zeros(0, item.source.dtype)], [])
            if (writer, number) in drafts:
                drafts[writer, number][2].append(item.content)
            if item.content["event"] == "episode_end":
                running[writer] = None
        elif (writer, running.get(writer)) in drafts:
            drafts[writer, running[writer]][1].append(item.rows)
    reader.close()
    return [_as_episode(number, *draft) for (_, number), draft in drafts.items()]


def _as_episode(number: int | None, source: Header, parts: list[np.ndarray], events: list[dict[str, Any]]) -> Episode:
    reason: str | None = None
    label = 0
    for event in events:
        if event["event"] == "episode_end":
            reason = event.get("reason")
            label = int(event.get("label") or label)
        if event["event"] == "label":
            label = int(event["label"])
    rows = np.concatenate(parts)
    if label:
        rows["label"] = label
    assert number is not None, "only an episode_start with a number makes a draft"
    return Episode(source, number, rows, reason, label, tuple(events))


def _open_log(path: Path) -> _Source:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header, start = read_header(fd)
    except ValueError:
        os.close(fd)
        raise
    return _Source(header, path, fd, start)


def _open_block(path: Path) -> _Source:
    header, pieces = read_block(path)
    return _Source(header, path, finished=True, pieces=deque(pieces))


def _close(source: _Source) -> None:
    if source.fd is not None:
        os.close(source.fd)
        source.fd = None


@contextmanager
def _if_writable() -> Generator[None, None, None]:
    """Let a reader that may not write into the store go on; what it left out was logged and is not listed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def _as_places(cursor: dict[str, Any] | None) -> dict[str, _Place]:
    if cursor is None:
        return {}
    try:
        if cursor["schema"] != 1:
            raise ValueError(f"cursor schema is {cursor['schema']!r}; this version reads 1")
        return {writer: _Place(*(int(n) for n in place)) for writer, place in cursor["writers"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a cursor of an episode store: {cursor!r}") from error
