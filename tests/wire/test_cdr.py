"""The bytes of messages against those of a real ROS 2: golden files, both directions, and every declared message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rosbags")
from robot_rl.wire import cdr, layout
from robot_rl.wire.messages import TOPICS
from robot_rl.wire.standard import JointState

GOLDEN = Path(__file__).parents[1] / "golden" / "cdr"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
UNKNOWN = {
    "control_msgs/msg/JointJog": "std_msgs/Header header\nstring[] joint_names\nfloat64[] displacements\n"
    "float64[] velocities\nfloat64 duration\n",
    "control_msgs/msg/MultiDOFCommand": "string[] dof_names\nfloat64[] values\nfloat64[] values_dot\n",
}
"""Types of the golden files that neither rosbags nor we declare, as control_msgs 5.8 has them."""


@pytest.fixture(scope="module", autouse=True)
def _control_msgs() -> None:
    for ros_type, text in UNKNOWN.items():
        cdr.register(ros_type, text)


def _as_plain(value: Any, base: str, length: int | None) -> Any:
    """A value as the manifest writes it: dicts and lists, NaN and infinities as strings, a byte as a list of one."""
    if length is not None:
        items = value.tolist() if isinstance(value, np.ndarray) else value
        return [_as_plain(v, base, None) for v in items]
    if "/" in base:
        return {name: _as_plain(getattr(value, name), b, n) for name, b, n in cdr.fields(base)}
    if base == "byte":
        return [value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _rounded(value: Any, base: str, length: int | None) -> Any:
    """The manifest's value with float32 fields rounded to what float32 holds."""
    if length is not None:
        return [_rounded(v, base, None) for v in value]
    if "/" in base:
        return {name: _rounded(value[name], b, n) for name, b, n in cdr.fields(base)}
    return float(np.float32(value)) if base == "float32" and not isinstance(value, str) else value


def _from_plain(value: Any, base: str, length: int | None) -> Any:
    """A value of the manifest as a message of rosbags' or our own class."""
    if length is not None:
        items = [_from_plain(v, base, None) for v in value]
        if "/" in base or base == "string":
            return items
        return np.array(items, "uint8" if base in ("byte", "char") else base)
    if "/" in base:
        parts = [_from_plain(value[name], b, n) for name, b, n in cdr.fields(base)]
        return cdr.class_of(base)(*parts)
    if base == "byte":
        return value[0]
    return float(value) if base.startswith("float") else value


def test_the_golden_files_are_all_here() -> None:
    """The manifest and the folder name the same files."""
    assert {p.stem for p in GOLDEN.glob("*.bin")} == set(MANIFEST)
    assert len(MANIFEST) == 25


@pytest.mark.parametrize("name", MANIFEST)
def test_golden_bytes_decode_to_the_recorded_values(name: str) -> None:
    """What a real ROS 2 sent reads as the values it was given."""
    entry = MANIFEST[name]
    message = cdr.decode((GOLDEN / f"{name}.bin").read_bytes(), entry["type"])
    assert _as_plain(message, entry["type"], None) == _rounded(entry["value"], entry["type"], None)


@pytest.mark.parametrize("name", MANIFEST)
def test_golden_values_encode_to_the_recorded_bytes(name: str) -> None:
    """The recorded values give the bytes of a real ROS 2, but for DDS's padding to four."""
    entry, raw = MANIFEST[name], (GOLDEN / f"{name}.bin").read_bytes()
    encoded = cdr.encode(_from_plain(entry["value"], entry["type"], None))
    assert encoded == raw + bytes(-len(raw) % 4)


@pytest.mark.parametrize("name", MANIFEST)
def test_type_hashes_are_those_of_ros(name: str) -> None:
    """RIHS01 hashes equal the ones a real ROS 2 announces."""
    assert cdr.type_hash(MANIFEST[name]["type"]) == MANIFEST[name]["type_hash"]


def test_the_hash_that_rosbags_gets_wrong_is_corrected() -> None:
    """The discovery type has a char field; its hash is the one measured on Jazzy."""
    info = "rmw_dds_common/msg/ParticipantEntitiesInfo"
    assert cdr.type_hash(info).startswith("RIHS01_91a0593b")
    ours = cdr._STORE.hash_rihs01(info)  # pyright: ignore[reportPrivateUsage]
    assert ours != cdr.type_hash(info), "rosbags is right now: drop our correction"


@pytest.mark.parametrize("ros_type", sorted(layout.MESSAGES))
def test_declared_fields_are_those_of_ros(ros_type: str) -> None:
    """Our dataclasses declare exactly the fields of the type, in order."""
    declared = list(layout.fields_of(layout.MESSAGES[ros_type]))
    assert declared == cdr.fields(ros_type)


_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "string": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    "float32": st.floats(width=32, allow_nan=True),
    "float64": st.floats(allow_nan=True),
    "byte": st.integers(0, 127),  # rosbags reads a byte as signed
    **{f"int{n}": st.integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)},
    **{f"uint{n}": st.integers(0, 2**n - 1) for n in (8, 16, 32, 64)},
}


def _messages(ros_type: str) -> st.SearchStrategy[Any]:
    """Any message of a declared type."""

    def value(field: layout.Field) -> st.SearchStrategy[Any]:
        one = _messages(field.base) if "/" in field.base else _SCALARS[field.base]
        if field.length is None:
            return one
        many = st.lists(one, min_size=field.length, max_size=field.length or 5)
        return many.map(lambda v: np.array(v, field.base)) if field.is_array else many.map(tuple)

    cls = layout.MESSAGES[ros_type]
    return st.tuples(*(value(f) for f in layout.fields_of(cls))).map(lambda values: cls(*values))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.type.__name__)
def test_messages_survive_the_wire(topic: Any) -> None:
    """Any message of any topic decodes to what was encoded, and differs from another message."""
    ros_type = topic.type.__msgtype__

    @settings(max_examples=40, deadline=None)
    @given(_messages(ros_type))
    def holds(message: Any) -> None:
        raw = cdr.encode(message)
        assert cdr.decode(raw, ros_type) == message
        assert cdr.encode(cdr.decode(raw, ros_type)) == raw

    holds()


def test_arrays_are_never_reinterpreted() -> None:
    """Integers and float32 given for float64 are converted, not passed on as their bytes."""
    message = JointState(position=np.array([1, 2]), velocity=np.array([0.5], np.float32), effort=[3])  # pyright: ignore[reportArgumentType]
    back = cdr.decode(cdr.encode(message), "sensor_msgs/msg/JointState")
    assert back.position.tolist() == [1.0, 2.0]
    assert back.velocity.tolist() == [0.5]
    assert back.effort.tolist() == [3.0]


def test_wrong_bytes_are_refused() -> None:
    """Truncated, foreign and over-long bytes raise ValueError, never another error and never a message."""
    raw = (GOLDEN / "joint_state_full.bin").read_bytes()
    for cut in (0, 3, 4, 17, len(raw) // 2, len(raw) - 8):
        with pytest.raises(ValueError, match="JointState"):
            cdr.decode(raw[:cut], "sensor_msgs/msg/JointState")
    with pytest.raises(ValueError, match="JointState"):
        cdr.decode(raw + bytes(16), "sensor_msgs/msg/JointState")


def test_values_out_of_range_are_refused() -> None:
    """A number that its field cannot hold names the message."""
    from robot_rl.wire.messages import PolicyStatus

    with pytest.raises(ValueError, match="PolicyStatus"):
        cdr.encode(PolicyStatus(mode=256))
    with pytest.raises(ValueError, match="shape"):
        JointState(position=np.zeros((2, 2)))
