"""How a message is declared: one frozen dataclass whose annotations name the ROS type of every field.

``UInt32`` is ``uint32``, ``Float64Seq`` is ``float64[]``, ``Float64x9`` is ``float64[9]``, ``str`` is ``string``,
``tuple[str, ...]`` is ``string[]``, ``Header`` is the message of that name and ``tuple[KeyValue, ...]`` a sequence
of one. Everything else follows from the declaration: the text of the ``.msg`` file, the field table, equality.

Knows: dataclasses, field types.
Does not know: which messages exist (``standard``, ``messages``), bytes (``cdr``), middleware.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[Any], Any]:
        """Stand in for ``typing.dataclass_transform``, which Python 3.10 lacks."""
        return lambda make: make


Int8: TypeAlias = int
Int32: TypeAlias = int
UInt8: TypeAlias = int
UInt32: TypeAlias = int
UInt64: TypeAlias = int
Byte: TypeAlias = int  # 0 to 127: rosbags takes ROS's byte for signed
Float32: TypeAlias = float
Float64: TypeAlias = float
UInt8Seq: TypeAlias = np.ndarray
Int32Seq: TypeAlias = np.ndarray
Float32Seq: TypeAlias = np.ndarray
Float64Seq: TypeAlias = np.ndarray
Float64x9: TypeAlias = np.ndarray
Float64x36: TypeAlias = np.ndarray

_SCALARS = {
    "str": "string",
    "bool": "bool",
    "Byte": "byte",
    "Int8": "int8",
    "Int32": "int32",
    "UInt8": "uint8",
    "UInt32": "uint32",
    "UInt64": "uint64",
    "Float32": "float32",
    "Float64": "float64",
}
_ARRAYS = {
    "UInt8Seq": ("uint8", 0),
    "Int32Seq": ("int32", 0),
    "Float32Seq": ("float32", 0),
    "Float64Seq": ("float64", 0),
    "Float64x9": ("float64", 9),
    "Float64x36": ("float64", 36),
}

MESSAGES: dict[str, type[Any]] = {}
"""Every declared message by its ROS name, e.g. ``sensor_msgs/msg/JointState``."""


class Field(NamedTuple):
    """One field of a message as ROS sees it."""

    name: str
    base: str
    """A primitive (``float64``, ``string``) or the ROS name of a message."""
    length: int | None
    """None for one value, 0 for a sequence, n for an array of n."""

    @property
    def is_array(self) -> bool:
        """Whether the value is a NumPy array."""
        return self.length is not None and "/" not in self.base and self.base != "string"


@dataclass_transform(frozen_default=True)
def message(ros_type: str) -> Callable[[type[Any]], type[Any]]:
    """Declare a message: a frozen, slotted dataclass, registered in ``MESSAGES`` under its ROS name.

    Arrays are converted to contiguous arrays of the declared type when a message is made, so that bytes on the
    wire are never reinterpreted; lists become tuples.
    """

    def declare(cls: type[Any]) -> type[Any]:
        made: Any = dataclasses.dataclass(frozen=True, slots=True, eq=False)(_with_checks(cls))
        made.ROS_TYPE = made.__msgtype__ = ros_type
        made.__eq__, made.__hash__ = same, _hash
        MESSAGES[ros_type] = made
        return made

    return declare


def _hash(self: Any) -> int:
    """Hash the type alone: lawful with arrays inside, and enough for a default value of a field."""
    return hash(type(self))


def _with_checks(cls: type[Any]) -> type[Any]:
    """Give ``cls`` a ``__post_init__`` that puts arrays and tuples into their declared form, where it has any."""
    fields = [_parse(name, str(annotation)) for name, annotation in cls.__annotations__.items()]
    arrays = [(f.name, np.dtype(f.base), f.length or 0) for f in fields if f.is_array]
    tuples = [f.name for f in fields if f.length is not None and not f.is_array]
    if not arrays and not tuples:
        return cls

    def check(self: Any) -> None:
        for name, dtype, length in arrays:
            value = getattr(self, name)
            if not (isinstance(value, np.ndarray) and value.dtype == dtype and value.flags.c_contiguous):
                value = np.ascontiguousarray(value, dtype)
                object.__setattr__(self, name, value)
            if value.ndim != 1 or (length and len(value) != length):
                wanted = f"({length},)" if length else "(n,)"
                raise ValueError(f"{type(self).__name__}.{name} has shape {value.shape}; expected {wanted}")
        for name in tuples:
            value = getattr(self, name)
            if not isinstance(value, tuple):
                object.__setattr__(self, name, tuple(value))

    cls.__post_init__ = check
    return cls


def _parse(name: str, annotation: str) -> Field:
    if annotation in _SCALARS:
        return Field(name, _SCALARS[annotation], None)
    if annotation in _ARRAYS:
        return Field(name, *_ARRAYS[annotation])
    if annotation.startswith("tuple["):
        return _parse(name, annotation[len("tuple[") :].split(",")[0])._replace(length=0)
    for ros_type, cls in MESSAGES.items():
        if cls.__name__ == annotation:
            return Field(name, ros_type, None)
    raise TypeError(f"field {name!r} is annotated {annotation!r}; the choices are {[*_SCALARS, *_ARRAYS]} or a message")


def fields_of(cls: type[Any]) -> tuple[Field, ...]:
    """Return the fields of a declared message in order."""
    return tuple(_parse(f.name, str(f.type)) for f in dataclasses.fields(cls))


def as_msg_text(cls: type[Any]) -> str:
    """Return the fields of a declared message in the language of ``.msg`` files, one per line."""
    lines = []
    for field in fields_of(cls):
        suffix = "" if field.length is None else f"[{field.length or ''}]"
        lines.append(f"{field.base.replace('/msg/', '/')}{suffix} {field.name}")
    return "\n".join(lines) + "\n"


def same(a: Any, b: Any) -> bool:
    """Return whether two messages are of one type and equal in every field; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return bool(a == b) or (isinstance(a, float) and a != a and b != b)


M = TypeVar("M")


def frozen_copy(message: M) -> M:
    """Return a deep copy whose arrays are read-only: what a receiver in another process would see."""
    return _freeze(message)


def _freeze(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, tuple):
        return tuple(_freeze(v) for v in value)
    if dataclasses.is_dataclass(value):
        make: Any = type(value)
        return make(*(_freeze(getattr(value, f.name)) for f in dataclasses.fields(value)))
    return value
