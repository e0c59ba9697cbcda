"""An ``.onnx`` file read as protobuf records: metadata, hashes, input and output shapes, with nothing but Python.

A robot can so refuse a torn or altered file with the exact reason before any inference library opens it.

Knows: the field numbers of ``ModelProto`` that matter here (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
Does not know: what the metadata means (``golden``), what the network computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GRAPH, _METADATA = 7, 14  # ModelProto
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12  # GraphProto
_DATA_LOCATION, _EXTERNAL = 14, 1  # TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What an ``.onnx`` file says about itself."""

    path: Path
    metadata: dict[str, str]
    inputs: dict[str, tuple[int, ...]]
    """Shape of every graph input by name; 0 stands for a dynamic dimension."""
    outputs: dict[str, tuple[int, ...]]
    file_sha256: str
    """SHA-256 of the whole file."""
    graph_sha256: str
    """SHA-256 of everything but the metadata: the network and its weights."""


def read_model_file(path: Path) -> ModelFile:
    """Read ``path`` and check that it is a whole ONNX model with its weights inside.

    Raises:
        ValueError: The file is empty, torn, no ONNX model, or keeps weights in another file; the byte is named.
        FileNotFoundError: There is no such file.
    """
    return parse_model(path.read_bytes(), path)


def parse_model(data: bytes, path: Path) -> ModelFile:
    """Read a model from memory; ``path`` is only named in errors. See ``read_model_file``."""
    where = str(path)
    if not data:
        raise ValueError(f"{where} is empty (0 bytes)")
    graph_hash = hashlib.sha256()
    metadata: dict[str, str] = {}
    graph: tuple[int, int] | None = None
    for record in _records(data, 0, len(data), where):
        if record.field == _METADATA and record.wire == _BYTES:
            key, value = _entry(data, record, where)
            if key in metadata:
                raise ValueError(f"{where} carries metadata {key!r} twice")
            metadata[key] = value
            continue
        graph_hash.update(data[record.begin : record.end])
        if record.field == _GRAPH and record.wire == _BYTES:
            graph = (record.body, record.end)
    if graph is None:
        raise ValueError(f"{where} holds no graph; it is truncated or no ONNX model")
    inputs, outputs = _graph_shapes(data, *graph, where)
    return ModelFile(
        path=path,
        metadata=metadata,
        inputs=inputs,
        outputs=outputs,
        file_sha256=hashlib.sha256(data).hexdigest(),
        graph_sha256=graph_hash.hexdigest(),
    )


def with_metadata(data: bytes, metadata: dict[str, str]) -> bytes:
    """Return the model ``data`` with exactly this metadata, written last and in this order; the graph keeps its bytes.

    Raises:
        ValueError: ``data`` is no whole model.
    """
    kept = [data[r.begin : r.end] for r in _records(data, 0, len(data), "model") if r.field != _METADATA]
    entries = (_field(1, key.encode()) + _field(2, value.encode()) for key, value in metadata.items())
    return b"".join([*kept, *(_field(_METADATA, entry) for entry in entries)])


@dataclass(frozen=True, slots=True)
class _Record:
    """One protobuf field: bytes [begin, end), its payload from ``body`` on (varints: the value in ``number``)."""

    field: int
    wire: int
    begin: int
    body: int
    end: int
    number: int = 0


def _records(data: bytes, at: int, end: int, where: str) -> Iterator[_Record]:
    """Walk the fields of one message in ``data[at:end]``."""
    while at < end:
        begin = at
        tag, at = _varint(data, at, end, where)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError(f"{where} is no ONNX model: byte {begin} starts no protobuf field")
        if wire == _VARINT:
            value, at = _varint(data, at, end, where)
            yield _Record(number, wire, begin, at, at, value)
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, end, where)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"{where} is no ONNX model: byte {begin} has the unknown wire type {wire}")
        if at + size > end:
            raise ValueError(
                f"{where} is truncated: field {number} at byte {begin} needs {size} bytes, {end - at} are left"
            )
        yield _Record(number, wire, begin, at, at + size)
        at += size


def _varint(data: bytes, at: int, end: int, where: str) -> tuple[int, int]:
    """Return (value, next position) of the varint at ``at``."""
    value = shift = 0
    begin = at
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    reason = "is truncated" if shift < 70 else "is no ONNX model"
    raise ValueError(f"{where} {reason}: the number at byte {begin} does not end")


def _entry(data: bytes, record: _Record, where: str) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for part in _records(data, record.body, record.end, where):
        if part.field in texts and part.wire == _BYTES:
            texts[part.field] = _text(data, part, where)
    return texts[1], texts[2]


def _text(data: bytes, record: _Record, where: str) -> str:
    try:
        return data[record.body : record.end].decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: the text at byte {record.body} is not UTF-8: {error.reason}") from error


_Shapes = dict[str, tuple[int, ...]]


def _graph_shapes(data: bytes, begin: int, end: int, where: str) -> tuple[_Shapes, _Shapes]:
    inputs: _Shapes = {}
    outputs: _Shapes = {}
    for record in _records(data, begin, end, where):
        if record.wire != _BYTES:
            continue
        if record.field == _INITIALIZER:
            _refuse_external(data, record, where)
        elif record.field in (_INPUT, _OUTPUT):
            name, shape = _value_info(data, record, where)
            (inputs if record.field == _INPUT else outputs)[name] = shape
    return inputs, outputs


def _refuse_external(data: bytes, record: _Record, where: str) -> None:
    for part in _records(data, record.body, record.end, where):
        if part.field == _DATA_LOCATION and part.number == _EXTERNAL:
            raise ValueError(f"{where} keeps weights in another file; export it with the weights inside")


def _value_info(data: bytes, record: _Record, where: str) -> tuple[str, tuple[int, ...]]:
    """Return name and shape of a ValueInfoProto: name = 1, type = 2, tensor_type = 1, shape = 2, dim = 1, value = 1."""
    name = ""
    shape: list[int] = []
    for part in _records(data, record.body, record.end, where):
        if part.field == 1:
            name = _text(data, part, where)
        elif part.field == 2:
            for dim in _descend(data, part, (1, 2, 1), where):
                sizes = [d.number for d in _records(data, dim.body, dim.end, where) if d.field == 1]
                shape.append(sizes[0] if sizes else 0)
    return name, tuple(shape)


def _descend(data: bytes, record: _Record, fields: tuple[int, ...], where: str) -> Iterator[_Record]:
    if not fields:
        yield record
        return
    for part in _records(data, record.body, record.end, where):
        if part.field == fields[0] and part.wire == _BYTES:
            yield from _descend(data, part, fields[1:], where)


def _field(number: int, payload: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(payload)) + payload


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
