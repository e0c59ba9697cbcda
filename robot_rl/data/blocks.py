"""Compaction: sealed log segments become sealed zarr 3 blocks, small on the disk and open to any tool.

A block is one file, a zipped zarr group with one array per field of a row, chunked along the rows, zstd and CRC-32C;
header, events and the SHA-256 of the packed rows are its attributes. It is written under a temporary name, read back,
compared with the log byte by byte, fsynced and renamed; only then is the log removed. A kill loses nothing.

Knows: zarr, imported here only and only when used (zarr 3 needs Python 3.11; without it logs simply stay logs).
Does not know: who writes or follows the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from robot_rl.data.atomic import sync_folder
from robot_rl.data.record_log import Header, Piece
from robot_rl.data.store import BLOCK, SEALED, check_sealed, list_fault, set_aside

CHUNK_ROWS = 16384
"""Rows per chunk; one log segment of a quadruped fills about one."""
_SCHEMA = 1
_COMMENT = b"robot_rl sha256 "  # of all bytes before the 64 digits
_HIDDEN = ".compact-"
_log = logging.getLogger(__name__)


def has_zarr() -> bool:
    """Return whether zarr 3 is installed here."""
    if importlib.util.find_spec("zarr") is None:
        return False
    from importlib.metadata import version

    return int(version("zarr").split(".")[0]) >= 3


def compact(folder: Path) -> list[Path]:
    """Turn every sealed log segment of the store into a block; return the blocks made.

    Damaged segments are set aside with the reason, and what is whole in them is compacted. Returns at once where
    another process compacts the same store.

    Raises:
        ImportError: zarr 3 is not installed.
    """
    _need_zarr()
    blocks: list[Path] = []
    with open(folder / ".compact.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return blocks
        for stale in folder.glob(f"{_HIDDEN}*"):
            stale.unlink()
        for path in sorted(folder.glob(f"*{SEALED}")):
            block = _compact_one(path)
            if block is not None:
                blocks.append(block)
    return blocks


def read_block(path: Path) -> tuple[Header, list[Piece]]:
    """Read a block; return its header, and its rows and events in the order they were written.

    Raises:
        ImportError: zarr 3 is not installed.
        FileNotFoundError: There is no such block.
        ValueError: The block is damaged; the reason is given.
    """
    _need_zarr()
    import zarr
    from zarr.storage import ZipStore

    try:
        _check_whole(path)
        with contextlib.closing(ZipStore(path, mode="r")) as store:
            group = zarr.open_group(store, mode="r", zarr_format=3)
            about: dict[str, Any] = json.loads(str(group.attrs["robot_rl"]))
            if about["schema"] != _SCHEMA:
                raise ValueError(f"block schema is {about['schema']!r}; this version reads {_SCHEMA}")
            header = Header.from_json(about["header"])
            rows = np.zeros(about["rows"], header.dtype)
            for name in _stored_fields(rows):
                array = group[name]
                if not isinstance(array, zarr.Array):
                    raise ValueError(f"{name!r} is no array")
                rows[name] = array[...]
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        if not path.exists():
            raise FileNotFoundError(path) from error
        raise ValueError(f"block is damaged: {type(error).__name__}: {error}") from error
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    if digest != about["rows_sha256"]:
        raise ValueError(f"block is damaged: its rows have SHA-256 {digest}; expected {about['rows_sha256']}")
    rows.flags.writeable = False
    return header, _interleave(rows, [(int(at), event) for at, event in about["events"]])


class Compactor:
    """Compacts a store in the background, in a process of its own at low priority, for the life of this one.

    Without zarr 3 it says so once and does nothing.

    Args:
        folder: The store.
        period_s: Time between two looks at it [s].
        niceness: Added to that of this process; the control loop comes first.
    """

    def __init__(self, folder: Path, *, period_s: float = 30.0, niceness: int = 10) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if not has_zarr():
            _log.warning("episode store %s stays a log: %s", folder, _CURE)
            return
        command = [sys.executable, "-m", "robot_rl.data.blocks", str(folder), str(period_s), str(niceness)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def close(self) -> None:
        """Stop; a segment half compacted stays a log."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def __enter__(self) -> Compactor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_CURE = 'compaction needs zarr 3 and Python 3.11 or newer: pip install "zarr>=3"'


def _need_zarr() -> None:
    if not has_zarr():
        raise ImportError(_CURE)


def _compact_one(path: Path) -> Path | None:
    block = path.with_name(path.name.removesuffix(SEALED) + BLOCK)
    try:
        header, records = check_sealed(path)
    except ValueError as error:
        set_aside(path, str(error))
        if not path.exists():
            return None
        header, records = check_sealed(path)
    if block.exists():  # killed between the rename and the removal of the log, or damaged since
        try:
            if not _same(read_block(block), (header, records.pieces)):
                raise ValueError("block differs from its log")
        except ValueError as error:
            set_aside(block, str(error))
    if not block.exists():
        hidden = path.with_name(f"{_HIDDEN}{block.name}")
        _write_block(hidden, header, records.pieces)
        if not _same(read_block(hidden), (header, records.pieces)):
            hidden.unlink()
            list_fault(path.parent, path.name, "its block does not read back as written; left as a log")
            return None
        with hidden.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(hidden, block)
        sync_folder(path.parent)
    path.unlink()
    sync_folder(path.parent)
    return block


def _write_block(path: Path, header: Header, pieces: list[Piece]) -> None:
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.storage import ZipStore

    rows, events = _separate(pieces, header.dtype)
    about = {
        "schema": _SCHEMA,
        "header": header.to_json(),
        "rows": rows.size,
        "rows_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
        "events": events,
    }
    attributes = {"robot_rl": json.dumps(about, allow_nan=False)}
    with contextlib.closing(ZipStore(path, mode="w")) as store:
        group = zarr.create_group(store, zarr_format=3, attributes=attributes)
        for name in _stored_fields(rows):
            column = np.ascontiguousarray(rows[name])
            array = group.create_array(
                name,
                shape=column.shape,
                dtype=column.dtype,
                chunks=(min(CHUNK_ROWS, rows.size), *column.shape[1:]),
                compressors=(ZstdCodec(level=3), Crc32cCodec()),
                config={"write_empty_chunks": True},
            )
            array[...] = column
    _seal_whole(path)


def _seal_whole(path: Path) -> None:
    """Write the SHA-256 of the file into its last bytes, which a zip archive keeps as its comment."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _COMMENT + bytes(64)
    with path.open("r+b") as file:
        digest = hashlib.sha256(file.read()[:-64]).hexdigest()
        file.seek(-64, os.SEEK_END)
        file.write(digest.encode())


def _check_whole(path: Path) -> None:
    data = path.read_bytes()
    digest = hashlib.sha256(memoryview(data)[:-64]).hexdigest()
    if not data[:-64].endswith(_COMMENT) or data[-64:] != digest.encode():
        raise ValueError(f"the {len(data)} bytes of the file fail their checksum")


def _stored_fields(rows: np.ndarray) -> list[str]:
    """Names of the fields that hold anything; a robot without feet has a field of width 0."""
    return [name for name in rows.dtype.names or () if rows[name].size]


def _separate(pieces: list[Piece], dtype: np.dtype) -> tuple[np.ndarray, list[tuple[int, dict[str, Any]]]]:
    """Return all rows as one packed array, and the events with the number of rows in front of each."""
    parts: list[np.ndarray] = [np.zeros(0, dtype)]
    events: list[tuple[int, dict[str, Any]]] = []
    count = 0
    for piece in pieces:
        if isinstance(piece, dict):
            events.append((count, piece))
        else:
            parts.append(piece)
            count += piece.size
    return np.concatenate(parts), events


def _interleave(rows: np.ndarray, events: list[tuple[int, dict[str, Any]]]) -> list[Piece]:
    pieces: list[Piece] = []
    start = 0
    for at, event in events:
        if at > start:
            pieces.append(rows[start:at])
            start = at
        pieces.append(event)
    if rows.size > start:
        pieces.append(rows[start:])
    return pieces


def _same(block: tuple[Header, list[Piece]], log: tuple[Header, list[Piece]]) -> bool:
    (header, pieces), (expected, originals) = block, log
    rows, events = _separate(pieces, header.dtype)
    original_rows, original_events = _separate(originals, expected.dtype)
    return header == expected and events == original_events and rows.tobytes() == original_rows.tobytes()


def _compact_while_parent_lives(folder: Path, period_s: float, niceness: int) -> None:
    parent = os.getppid()
    os.nice(niceness)
    next_s = time.monotonic()
    while os.getppid() == parent:
        if time.monotonic() >= next_s:
            with contextlib.suppress(FileNotFoundError):  # the store is not there yet
                compact(folder)
            next_s = time.monotonic() + period_s
        time.sleep(min(0.2, period_s))


if __name__ == "__main__":  # started by Compactor
    _compact_while_parent_lives(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
