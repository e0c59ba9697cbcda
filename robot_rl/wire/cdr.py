"""Messages as the bytes of ROS 2 (little-endian CDR with its 4-byte header), through ``rosbags``.

Messages declared in ``layout.MESSAGES`` are read into their own dataclasses; every other type that rosbags knows
(or that ``register`` taught it) is read into the class that rosbags makes.

Knows: CDR, type definitions, RIHS01 type hashes.
Does not know: networks.
"""

from __future__ import annotations

import struct
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robot_rl.wire import messages as _declarations
from robot_rl.wire.layout import MESSAGES, Field, as_msg_text

__all__ = ["class_of", "decode", "encode", "fields", "register", "type_hash"]

_HASHES = {
    "rmw_dds_common/msg/ParticipantEntitiesInfo": (
        "RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e"
    ),
}
"""Types with ``char`` fields, whose hash rosbags 0.11 gets wrong; the values are those of ROS 2 Jazzy."""


def _make_store() -> Typestore:
    """Return ROS 2's types, ours added, and every declared message read into its own dataclass."""
    assert _declarations.TOPICS  # importing the declarations is what fills MESSAGES
    store = get_typestore(Stores.ROS2_JAZZY)
    for ros_type, cls in MESSAGES.items():
        if ros_type not in store.fielddefs:
            store.register(get_types_from_msg(as_msg_text(cls), ros_type))
        store.types[ros_type] = cls
    return store


_STORE = _make_store()


def register(ros_type: str, msg_text: str) -> None:
    """Teach the codec a message from the text of its ``.msg`` file."""
    _STORE.register(get_types_from_msg(msg_text, ros_type))


def encode(message: Any) -> bytes:
    """Return a message as CDR, padded to four bytes as DDS wants it.

    Raises:
        ValueError: A field holds a value that its type cannot.
    """
    try:
        raw = _STORE.serialize_cdr(message, message.__msgtype__, little_endian=True)
    except (struct.error, SerdeError, AttributeError, TypeError) as error:
        raise ValueError(f"{type(message).__name__} cannot be encoded: {error}") from error
    return bytes(raw) + bytes(-len(raw) % 4)


def decode(raw: bytes | memoryview, ros_type: str) -> Any:
    """Return the message in ``raw``. Its arrays are read-only views of ``raw``.

    Raises:
        ValueError: The bytes are no such message.
    """
    try:
        return _STORE.deserialize_cdr(raw, ros_type)
    except (SerdeError, IndexError) as error:
        raise ValueError(f"{len(raw)} bytes are no {ros_type}: {error}") from error


def type_hash(ros_type: str) -> str:
    """Return the RIHS01 hash by which ROS 2 identifies a type."""
    return _HASHES.get(ros_type) or _STORE.hash_rihs01(ros_type)


def class_of(ros_type: str) -> type[Any]:
    """Return the class that ``decode`` makes messages of: ours, else the one of rosbags."""
    return _STORE.types[ros_type]


def fields(ros_type: str) -> list[Field]:
    """Return the fields of any known type in order.

    Raises:
        ValueError: The type is not known.
    """
    if ros_type not in _STORE.fielddefs:
        raise ValueError(f"no message type {ros_type!r}; ours are {sorted(MESSAGES)}")
    return [Field(name, *_shape(description)) for name, description in _STORE.fielddefs[ros_type][1]]


def _shape(description: Any) -> tuple[str, int | None]:
    kind, value = description
    if kind == Nodetype.BASE:
        return value[0], None
    if kind == Nodetype.NAME:
        return value, None
    inner, length = value
    return _shape(inner)[0], (length if kind == Nodetype.ARRAY else 0)
