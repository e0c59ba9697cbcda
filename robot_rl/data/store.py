"""The folder of an episode store: names, life of a segment, recovery of dead writers, quarantine.

A segment goes ``.open`` (a writer holds its file lock) -> ``.seg`` (footer written, fsynced) -> ``.zarr.zip``
(compacted), never back, and keeps its stem ``<writer>.<index>``: looking for the three in that order cannot miss one.

Knows: one folder on one machine. Does not know: what rows mean, when to write them (``episodes``).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robot_rl.data.atomic import sync_folder, write_whole
from robot_rl.data.record_log import Header, Kind, Scan, json_frame, read_header, records_follow, scan

OPEN, SEALED, BLOCK = ".open", ".seg", ".zarr.zip"
STAGES = (OPEN, SEALED, BLOCK)
QUARANTINE = "quarantine"
LISTING = "quarantine.jsonl"
_NAME = re.compile(r"(?P<writer>[^.]+)\.(?P<index>\d+)(\.open|\.seg|\.zarr\.zip)")
_STALE_S = 60.0  # age beyond which an unlocked temporary file is a dead writer's
_log = logging.getLogger(__name__)


def new_writer() -> str:
    """Return an identity for a writing process that no other has; identities sort by start time."""
    now = time.time_ns() // 1000
    date = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 1_000_000))
    return f"{date}{now % 1_000_000:06d}-{secrets.token_hex(4)}"


def stem(writer: str, index: int) -> str:
    """Return the file name of a segment without its stage."""
    return f"{writer}.{index:06d}"


def locate(folder: Path, writer: str, index: int) -> Path | None:
    """Return the path of a segment in whatever stage it is now, None where there is none."""
    base = os.path.join(folder, stem(writer, index))  # strings: this is asked at every poll
    for stage in STAGES:
        if os.path.exists(base + stage):
            return Path(base + stage)
    return None


def list_segments(folder: Path) -> dict[str, list[int]]:
    """Return, per writer in order of start, the indices of its segments in order."""
    found: dict[str, set[int]] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match:
                found.setdefault(match["writer"], set()).add(int(match["index"]))
    return {writer: sorted(found[writer]) for writer in sorted(found)}


def create_segment(folder: Path, header: Header) -> tuple[int, Path]:
    """Create a locked ``.open`` segment that holds its whole header; return its descriptor and path.

    Not fsynced: the caller's next group sync makes it durable.
    """
    path = folder / (stem(header.writer, header.index) + OPEN)
    hidden = folder / f".{path.name}.tmp"
    fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_all(fd, header.to_bytes())
        os.rename(hidden, path)
    except BaseException:
        os.close(fd)
        hidden.unlink(missing_ok=True)
        raise
    return fd, path


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def seal(fd: int, path: Path, counts: dict[str, int], note: str = "") -> Path:
    """Close an ``.open`` segment for good: footer, fsync, rename to ``.seg``, fsync of the folder.

    Holds no GIL worth speaking of: a control loop may run in the same process. The descriptor stays open and keeps
    the lock until the caller closes it.

    Args:
        fd: Descriptor for reading and appending, at the end of the last whole record.
        path: The segment.
        counts: Of its records, as in ``Scan.counts``.
        note: Free text for the footer.
    """
    digest = hashlib.sha256()
    size = 0
    while block := os.pread(fd, 1 << 20, size):
        digest.update(block)
        size += len(block)
    try:
        write_all(fd, _footer(counts, size, digest.hexdigest(), note))
    except OSError:  # a full disk: leave no half a footer for the next try to follow
        os.ftruncate(fd, size)
        raise
    return _sync_and_rename(fd, path)


def read_segment(fd: int) -> tuple[Header, Scan, bytes, int]:
    """Read a whole log segment; return header, records, all bytes, and the offset of the first record.

    Raises:
        ValueError: The header is damaged.
    """
    header, start = read_header(fd)
    data = _read_whole(fd)
    return header, scan(data[start:], header.dtype, 0), data, start


def check_sealed(path: Path) -> tuple[Header, Scan]:
    """Read a ``.seg`` file and prove every checksum in it.

    Raises:
        ValueError: The exact reason why the segment cannot be trusted.
    """
    with _opened(path, os.O_RDONLY) as fd:
        header, records, data, start = read_segment(fd)
    if records.fault is not None:
        raise ValueError(records.fault)
    if records.footer is None:
        raise ValueError(f"the footer is missing; the file ends behind record {records.number - 1}")
    digest = hashlib.sha256(memoryview(data)[: start + records.end]).hexdigest()
    if digest != records.footer["sha256"]:
        raise ValueError(f"the footer promises SHA-256 {records.footer['sha256']}; the records have {digest}")
    return header, records


def recover(folder: Path) -> list[Path]:
    """Seal what dead writers left open: keep every whole record, cut the torn tail. Return the sealed paths.

    A living writer's segment is locked and is left alone. Damage in front of whole records is no torn tail: the
    file is copied to the quarantine before it is cut.
    """
    sealed: list[Path] = []
    for path in sorted(folder.glob(f"*{OPEN}")):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), _opened(path, os.O_RDWR | os.O_APPEND) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                sealed += _recover_one(folder, path, fd)
    for hidden in folder.glob(f".*{OPEN}.tmp"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), _opened(hidden, os.O_RDONLY) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(fd).st_mtime > _STALE_S:
                hidden.unlink()
    return sealed


def set_aside(path: Path, reason: str) -> None:
    """Quarantine what is damaged: list the reason, keep the file, and reseal a log's whole records in its place.

    A block is moved as a whole. Does nothing to a healthy log. Two processes may do this at once.
    """
    folder = path.parent
    if path.name.endswith(BLOCK):
        list_fault(folder, path.name, reason)
        (folder / QUARANTINE).mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, folder / QUARANTINE / path.name)
        return
    with contextlib.suppress(FileNotFoundError, ValueError):
        check_sealed(path)
        return
    with contextlib.suppress(FileNotFoundError), _opened(path, os.O_RDONLY) as fd:
        list_fault(folder, path.name, reason)
        (folder / QUARANTINE).mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.link(path, folder / QUARANTINE / path.name)
        try:
            _, records, data, start = read_segment(fd)
        except ValueError:  # the header is gone, and with it the meaning of the rows
            path.unlink()
            return
        whole = data[: start + records.end]
        digest = hashlib.sha256(whole).hexdigest()
        write_whole(path, whole + _footer(records.counts, len(whole), digest, f"cut: {reason}"))


def list_fault(folder: Path, name: str, reason: str) -> None:
    """Append a reason to ``quarantine.jsonl``, once per file and reason, and log it once."""
    say_once(f"quarantine: {name}: {reason}")
    if any(entry["file"] == name and entry["reason"] == reason for entry in faults(folder)):
        return
    line = json.dumps({"file": name, "reason": reason, "wall_s": time.time()}) + "\n"
    with _opened(folder / LISTING, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
        write_all(fd, line.encode())
        os.fsync(fd)


@functools.cache
def say_once(text: str) -> None:
    """Log a warning, once per process however many readers of a store come across the same."""
    _log.warning("%s", text)


def faults(folder: Path) -> list[dict[str, Any]]:
    """Return what is quarantined: dicts of ``file``, ``reason``, ``wall_s``, oldest first."""
    entries: list[dict[str, Any]] = []
    try:
        lines = (folder / LISTING).read_text().splitlines()
    except FileNotFoundError:
        return entries
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # the last line of a killed process may be cut
            entries.append(json.loads(line))
    return entries


def _recover_one(folder: Path, path: Path, fd: int) -> list[Path]:
    try:
        _, records, data, start = read_segment(fd)
    except ValueError as error:
        list_fault(folder, path.name, str(error))
        (folder / QUARANTINE).mkdir(exist_ok=True)
        os.replace(path, folder / QUARANTINE / path.name)
        return []
    if records.footer is not None and records.fault is None:  # killed between the footer and the rename
        return [_sync_and_rename(fd, path)]
    note = "recovered"
    if records.fault is not None:
        end = start + records.end
        note = f"recovered; {len(data) - end} torn bytes cut"
        if records_follow(data, end, records.number):
            note = f"recovered; cut: {records.fault}"
            list_fault(folder, path.name, f"{records.fault}, and whole records follow it")
            (folder / QUARANTINE).mkdir(exist_ok=True)
            write_whole(folder / QUARANTINE / path.name, data)
        os.ftruncate(fd, end)
    if not records.pieces:
        path.unlink()
        return []
    return [seal(fd, path, records.counts, note)]


def _footer(counts: dict[str, int], size: int, digest: str, note: str) -> bytes:
    content: dict[str, Any] = {**counts, "bytes": size, "sha256": digest}
    return json_frame(Kind.FOOTER, counts["records"], content | ({"note": note} if note else {}))


def _sync_and_rename(fd: int, path: Path) -> Path:
    os.fsync(fd)
    sealed = path.with_name(path.name.removesuffix(OPEN) + SEALED)
    os.rename(path, sealed)
    sync_folder(path.parent)
    return sealed


def _read_whole(fd: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(fd, 1 << 22, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


@contextmanager
def _opened(path: Path, flags: int) -> Generator[int, None, None]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)
