"""The bytes of a segment: what was written comes back, and nothing damaged is taken for a record."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.data.record_log import HEAD, Header, Kind, frame, json_frame, records_follow, scan
from tests.data.recording import CONTRACT, DTYPE, make_rows

ROW = HEAD.size + DTYPE.itemsize


def rows_frame(number: int, first: int, count: int) -> bytes:
    return frame(Kind.ROWS, number, make_rows(first, count).tobytes())


def make_log() -> bytes:
    """Rows 0, 1 and 2 in a record each, an event, rows 3 and 4 in one record, row 5."""
    records = [rows_frame(n, n, 1) for n in range(3)]
    records += [json_frame(Kind.EVENT, 3, {"event": "note"}), rows_frame(4, 3, 2), rows_frame(5, 5, 1)]
    return b"".join(records)


def tick_lists(pieces: list) -> list:
    return [piece if isinstance(piece, dict) else piece["tick"].tolist() for piece in pieces]


def test_records_come_back_in_order() -> None:
    found = scan(make_log(), DTYPE, 0)
    assert tick_lists(found.pieces) == [[0, 1, 2], {"event": "note"}, [3, 4], [5]]
    assert (found.number, found.end, found.fault) == (6, len(make_log()), None)
    assert found.counts == {"records": 6, "rows": 6, "events": 1}


def test_rows_are_views_of_the_bytes() -> None:
    log = make_log()
    run = scan(log, DTYPE, 0).pieces[0]
    assert isinstance(run, np.ndarray)
    assert run.strides == (ROW,)
    assert np.shares_memory(run.view(np.uint8) if run.flags.contiguous else run, np.frombuffer(log, np.uint8))


def test_a_tail_torn_at_any_byte_of_the_last_record_ends_in_front_of_it() -> None:
    log = make_log()
    for cut in range(1, ROW + 1):
        found = scan(log[:-cut], DTYPE, 0)
        assert tick_lists(found.pieces) == [[0, 1, 2], {"event": "note"}, [3, 4]]
        assert found.end == len(log) - ROW
        assert (found.fault is None) == (cut == ROW)
        assert not records_follow(log[:-cut], found.end, found.number)


@given(bit=st.integers(0, 8 * len(make_log()) - 1))
def test_a_flipped_bit_never_yields_a_wrong_row(bit: int) -> None:
    log = bytearray(make_log())
    log[bit // 8] ^= 1 << bit % 8
    found = scan(bytes(log), DTYPE, 0)
    got = [piece for piece in found.pieces if isinstance(piece, np.ndarray)]
    count = sum(piece.size for piece in got)
    assert found.fault is not None
    assert found.end <= bit // 8
    assert b"".join(piece.tobytes() for piece in got) == make_rows(0, count).tobytes()


@given(bit=st.integers(0, 8 * ROW - 1))
def test_damage_in_front_of_whole_records_is_told_from_a_torn_tail(bit: int) -> None:
    log = bytearray(make_log())
    log[ROW + bit // 8] ^= 1 << bit % 8
    found = scan(bytes(log), DTYPE, 0)
    assert tick_lists(found.pieces) == [[0]]
    assert records_follow(bytes(log), found.end, found.number)


@given(st.binary(max_size=400))
def test_garbage_behind_the_records_is_never_a_record(garbage: bytes) -> None:
    found = scan(make_log() + garbage, DTYPE, 0)
    assert found.end == len(make_log())
    assert (found.fault is None) == (not garbage)
    assert not records_follow(make_log() + garbage, found.end, found.number)


def test_zeros_behind_the_records_are_no_records() -> None:
    assert scan(make_log() + bytes(4096), DTYPE, 0).end == len(make_log())


def test_a_record_in_the_wrong_place_is_refused() -> None:
    found = scan(rows_frame(0, 0, 1) + rows_frame(2, 1, 1), DTYPE, 0)
    assert found.fault == f"record at byte {ROW} has number 2; expected 1"


def test_rows_of_another_width_are_refused() -> None:
    found = scan(frame(Kind.ROWS, 0, bytes(DTYPE.itemsize + 1)), DTYPE, 0)
    assert found.fault == f"record 0 at byte 0 holds {DTYPE.itemsize + 1} bytes of rows; a row has {DTYPE.itemsize}"


def test_bytes_behind_a_footer_are_a_fault() -> None:
    log = make_log() + json_frame(Kind.FOOTER, 6, {"rows": 6})
    assert scan(log, DTYPE, 0).footer == {"rows": 6}
    assert scan(log, DTYPE, 0).fault is None
    assert scan(log + b"x", DTYPE, 0).fault == "1 bytes follow the footer"


def test_an_event_must_be_json() -> None:
    with pytest.raises(ValueError, match=r"JSON compliant"):
        json_frame(Kind.EVENT, 0, {"event": "note", "value": float("nan")})
    with pytest.raises(ValueError, match="JSON values only"):
        json_frame(Kind.EVENT, 0, {"event": "note", "value": object()})


def make_header() -> Header:
    return Header("w", 3, "biped", CONTRACT.to_json(), CONTRACT.fingerprint, DTYPE, ("ab",), 1 / 3, 0.1)


def test_a_header_survives_its_json() -> None:
    assert Header.from_json(make_header().to_json()) == make_header()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("schema", 2, "segment schema is 2; this version reads 1"),
        ("dtype", [["obs", "|O"]], "row field 'obs' of type '|O'; expected numbers"),
        ("dtype", [["obs", ">f4"]], "row field 'obs' of type '>f4'"),
        ("writer", None, "damaged"),
    ],
)
def test_an_impossible_header_is_refused(key: str, value: object, reason: str) -> None:
    raw = json.loads(make_header().to_json())
    raw[key] = value
    if value is None:
        del raw[key]
    with pytest.raises(ValueError) as error:
        Header.from_json(json.dumps(raw))
    assert reason in str(error.value)
