"""The bytes of one log segment: a header, then checksummed records, then a footer once sealed.

Layout: magic · u32 length · u32 CRC-32 · header JSON, then records of 16 bytes (u32 CRC-32 of all that follows, u32
payload length, u32 kind, u32 number from 0) and a payload: packed rows, the JSON of one event, or the JSON footer.
Whatever is cut, flipped or zero-filled fails the CRC or the count, so a reader never takes half a record for one.

Knows: bytes. Does not know: folders and file names (``store``), threads (``episodes``), zarr (``blocks``).
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

SCHEMA = 1
"""Version of the layout; a reader refuses any other."""
MAGIC = b"RRLLOG1\n"
HEAD = struct.Struct("<IIII")
_LENGTH = struct.Struct("<II")
MAX_PAYLOAD = 1 << 26
"""Largest payload of one record [bytes]; a larger length is a damaged one."""
MAX_HEADER = 1 << 24

Piece: TypeAlias = "np.ndarray | dict[str, Any]"
"""Rows, a structured array (n,), or one event."""


class Kind(IntEnum):
    """What the payload of a record is."""

    ROWS = 1
    EVENT = 2
    FOOTER = 3


@dataclass(frozen=True, slots=True)
class Header:
    """Where a segment's rows come from."""

    writer: str
    """Identity of the writing process, unique in a store; sorts by start time."""
    index: int
    """Number of the segment among its writer's, from 0."""
    robot: str
    contract: str
    """Canonical JSON of the contract."""
    contract_sha256: str
    dtype: np.dtype
    """Layout of a row."""
    policies: tuple[str, ...]
    """SHA-256 of the policy files known when the segment began; ``swap`` events name later ones."""
    wall_s: float
    """Unix time at which the segment began."""
    stamp_s: float
    """Monotonic time of the same instant."""

    def to_json(self) -> str:
        """Return the header as JSON, floats exact."""
        raw: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        raw |= {"schema": SCHEMA, "dtype": [list(field) for field in self.dtype.descr], "policies": list(self.policies)}
        return json.dumps(raw, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: No JSON, another schema, a missing field or an impossible row layout.
        """
        try:
            raw = json.loads(text)
            schema = raw.pop("schema")
            if schema != SCHEMA:
                raise ValueError(f"segment schema is {schema!r}; this version reads {SCHEMA}")
            raw["dtype"] = _as_dtype(raw["dtype"])
            raw["policies"] = tuple(raw["policies"])
            return cls(**raw)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"segment header is damaged: {error!r}") from error

    def to_bytes(self) -> bytes:
        """Return the first bytes of a segment."""
        body = self.to_json().encode()
        return MAGIC + _LENGTH.pack(len(body), zlib.crc32(body)) + body


@dataclass(frozen=True, slots=True)
class Scan:
    """What a stretch of records holds."""

    pieces: list[Piece]
    """Rows and events in the order they were written; the rows are views of the bytes."""
    end: int
    """Offset behind the last whole record of rows or an event; a footer begins there."""
    number: int
    """Number of the next record; the footer's, where there is one."""
    footer: dict[str, Any] | None
    """The footer, where the stretch reached it."""
    fault: str | None
    """Why the scan stopped before the end of the bytes; None where every byte was a whole record."""

    @property
    def counts(self) -> dict[str, int]:
        """What a footer counts: ``records`` in front of it, ``rows`` and ``events`` in them."""
        rows = sum(piece.size for piece in self.pieces if isinstance(piece, np.ndarray))
        events = sum(isinstance(piece, dict) for piece in self.pieces)
        return {"records": self.number, "rows": rows, "events": events}


def frame(kind: Kind, number: int, payload: bytes) -> bytes:
    """Return one record."""
    tail = HEAD.pack(0, len(payload), kind, number & 0xFFFFFFFF)[4:]
    return zlib.crc32(payload, zlib.crc32(tail)).to_bytes(4, "little") + tail + payload


def json_frame(kind: Kind, number: int, content: dict[str, Any]) -> bytes:
    """Return one record of an event or a footer; raise ValueError for NaN or what JSON cannot hold."""
    try:
        return frame(kind, number, json.dumps(content, allow_nan=False, separators=(",", ":")).encode())
    except TypeError as error:
        raise ValueError(f"an event holds JSON values only: {error}") from error


def read_header(fd: int) -> tuple[Header, int]:
    """Read the header of an open segment and return it with the offset of the first record.

    Raises:
        ValueError: The magic, the length, the checksum or the content is wrong.
    """
    start = os.pread(fd, len(MAGIC) + _LENGTH.size, 0)
    if len(start) < len(MAGIC) + _LENGTH.size or not start.startswith(MAGIC):
        raise ValueError(f"segment starts with {start[:8]!r}; expected {MAGIC!r}")
    length, crc = _LENGTH.unpack_from(start, len(MAGIC))
    if length > MAX_HEADER:
        raise ValueError(f"segment header claims {length} bytes; at most {MAX_HEADER} are possible")
    body = os.pread(fd, length, len(start))
    if len(body) != length or zlib.crc32(body) != crc:
        raise ValueError(f"segment header fails its checksum ({len(body)} of {length} bytes)")
    return Header.from_json(body.decode()), len(start) + length


def scan(buffer: bytes, dtype: np.dtype, number: int) -> Scan:
    """Read records from the start of ``buffer``; the first of them must have the given number.

    Never raises for damaged bytes: it stops in front of them and says why in ``fault``.
    """
    view, size, row = memoryview(buffer), len(buffer), dtype.itemsize
    pieces: list[Piece] = []
    at = run = 0  # ``run`` counts single-row records directly in front of ``at``
    footer: dict[str, Any] | None = None
    fault: str | None = None
    while at < size:
        stop, fault = _check(view, at, number)
        if fault is not None:
            break
        length, kind = stop - at - HEAD.size, HEAD.unpack_from(buffer, at)[2]
        if kind == Kind.ROWS and length == row:
            run += 1
        elif kind == Kind.ROWS and (length == 0 or length % row):
            fault = f"record {number} at byte {at} holds {length} bytes of rows; a row has {row}"
            break
        else:
            _end_run(pieces, buffer, dtype, at, run)
            run = 0
            if kind == Kind.ROWS:
                pieces.append(np.frombuffer(buffer, dtype, length // row, at + HEAD.size))
            elif kind == Kind.EVENT:
                pieces.append(json.loads(view[at + HEAD.size : stop].tobytes()))
            else:
                footer = json.loads(view[at + HEAD.size : stop].tobytes())
                fault = f"{size - stop} bytes follow the footer" if stop < size else None
                break
        at, number = stop, number + 1
    _end_run(pieces, buffer, dtype, at, run)
    return Scan(pieces, at, number, footer, fault)


def records_follow(buffer: bytes, at: int, number: int) -> bool:
    """Return whether a whole record numbered above ``number`` begins behind byte ``at``.

    If so, what stands at ``at`` is damage in the middle; if not, it is a torn tail.
    """
    raw = np.frombuffer(buffer, np.uint8)[at:]
    n = raw.size - HEAD.size
    if n <= 0:
        return False
    kind = raw[8 : 8 + n]
    plausible = (kind >= 1) & (kind <= 3) & (raw[9 : 9 + n] == 0) & (raw[10 : 10 + n] == 0) & (raw[11 : 11 + n] == 0)
    view = memoryview(buffer)
    for offset in np.flatnonzero(plausible):
        start = at + int(offset)
        found = HEAD.unpack_from(buffer, start)[3]
        if number < found <= number + raw.size and _check(view, start, found)[1] is None:
            return True
    return False


def _check(view: memoryview, at: int, number: int) -> tuple[int, str | None]:
    """Return the end of the record at ``at`` and what is wrong with it, or None."""
    if len(view) - at < HEAD.size:
        return at, f"record {number} at byte {at} is cut short: {len(view) - at} bytes of its head"
    crc, length, kind, found = HEAD.unpack_from(view, at)
    stop = at + HEAD.size + length
    if length > MAX_PAYLOAD or not Kind.ROWS <= kind <= Kind.FOOTER:
        return at, f"record {number} at byte {at} has kind {kind} and length {length}; damaged"
    if stop > len(view):
        return at, f"record {number} at byte {at} is cut short: {len(view) - at} of {HEAD.size + length} bytes"
    if zlib.crc32(view[at + 4 : stop]) != crc:
        return at, f"record {number} at byte {at} fails its checksum"
    if found != number & 0xFFFFFFFF:
        return at, f"record at byte {at} has number {found}; expected {number}"
    return stop, None


def _end_run(pieces: list[Piece], buffer: bytes, dtype: np.dtype, end: int, count: int) -> None:
    """View ``count`` single-row records that end at ``end`` as one strided array, without a copy."""
    if count:
        record = np.dtype([("head", "V16"), ("row", dtype)])
        pieces.append(np.frombuffer(buffer, record, count, end - count * record.itemsize)["row"])


def _as_dtype(fields: list[list[Any]]) -> np.dtype:
    """Build a row layout from JSON: little-endian numbers only, never objects."""
    built: list[tuple[str, str, tuple[int, ...]]] = []
    for name, code, *shape in fields:
        if not (isinstance(name, str) and isinstance(code, str) and code[:1] in "<|" and code[1:2] in "iufb"):
            raise ValueError(f"segment header has the row field {name!r} of type {code!r}; expected numbers")
        built.append((name, code, tuple(int(size) for size in shape[0]) if shape else ()))
    return np.dtype(built)
