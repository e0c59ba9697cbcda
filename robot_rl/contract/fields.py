"""A dataclass out of parsed JSON, every field checked against its annotation.

Knows: dataclasses of numbers, names, tuples and each other. Does not know: what they mean (``spec``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

Nested = Mapping[tuple[str, str], type]
"""By names of a dataclass and of its field, the dataclass that the field holds."""


def read_fields(kind: type, raw: Any, where: str, *, one: Nested, many: Nested) -> Any:
    """Build a dataclass from parsed JSON.

    Args:
        kind: The dataclass.
        raw: What was parsed.
        where: What it is called in errors.
        one: Fields that hold a dataclass.
        many: Fields that hold a tuple of them.

    Raises:
        ValueError: A field is missing, unknown or of the wrong type; it is named.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is {type(raw).__name__}; expected a JSON object")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(raw) - set(fields))
    if unknown:
        raise ValueError(f"{where} has unknown fields {unknown}; the fields are {sorted(fields)}")
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(raw))
    if missing:
        raise ValueError(f"{where} lacks the fields {missing}")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        path = f"{where}.{name}"
        if (kind.__name__, name) in one:
            values[name] = read_fields(one[kind.__name__, name], value, path, one=one, many=many)
        elif (kind.__name__, name) in many:
            item = many[kind.__name__, name]
            if not isinstance(value, list):
                raise ValueError(f"{path} is {value!r}; expected a list")
            values[name] = tuple(read_fields(item, v, f"{path}[{i}]", one=one, many=many) for i, v in enumerate(value))
        else:
            values[name] = _plain(value, str(fields[name].type), path)
    return kind(**values)


def _plain(value: Any, kind: str, path: str) -> Any:
    """Check a JSON value against the annotation of its field; ints become floats where floats are meant."""
    if kind.startswith("dict"):
        if isinstance(value, dict):
            return value
    elif kind == "str":
        if isinstance(value, str):
            return value
    elif kind == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind == "float":
        if _is_number(value):
            return float(value)
    elif kind.startswith("tuple[str"):
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
    elif value is None and kind.endswith("| None"):
        return None
    elif isinstance(value, list) and all(_is_number(v) for v in value):
        if kind.startswith("tuple[float, float]") and len(value) != 2:
            raise ValueError(f"{path} is {value!r}; expected two numbers")
        return tuple(float(v) for v in value)
    raise ValueError(f"{path} is {value!r}; expected {kind}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
