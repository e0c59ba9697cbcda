"""Following a store while it grows, is sealed and breaks: every row once, in order, wherever the reader stops."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.data.episodes import EpisodeReader, Event, Rows
from robot_rl.data.record_log import HEAD
from robot_rl.data.store import QUARANTINE, check_sealed, faults, recover
from robot_rl.data.transition import Mode, Who
from tests.data.recording import DTYPE, assert_rows, join, make_rows, make_writer, read_all, ticks

ROW = HEAD.size + DTYPE.itemsize


def sealed(folder: Path, rows: int = 6, **options: int) -> list[Path]:
    """Record a store of single-row records and return its sealed segments."""
    with make_writer(folder, **options) as writer:
        for tick in range(rows):
            writer.append(make_rows(tick, 1))
    return sorted(folder.glob("*.seg"))


def flip(path: Path, byte: int) -> bytes:
    damaged = bytearray(path.read_bytes())
    damaged[byte] ^= 4
    path.write_bytes(damaged)
    return bytes(damaged)


def test_a_store_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    reader = EpisodeReader.follow(tmp_path / "later")
    assert reader.poll() == []
    with make_writer(tmp_path / "later") as writer:
        writer.append(make_rows(0, 1))
        assert join(reader.poll())["tick"].tolist() == [0]


def test_rows_are_seen_once_they_are_appended_and_only_once(tmp_path: Path) -> None:
    reader = EpisodeReader.follow(tmp_path)
    with make_writer(tmp_path, segment_bytes=1500) as writer:
        for tick in range(40):
            writer.append(make_rows(tick, 1))
            assert join(reader.poll())["tick"].tolist() == [tick]
            assert reader.poll() == []
    assert reader.poll() == []


def test_a_reader_beside_a_busy_writer_misses_and_doubles_nothing(tmp_path: Path) -> None:
    total, seen = 3000, []
    reader = EpisodeReader.follow(tmp_path)

    def write() -> None:
        with make_writer(tmp_path, segment_bytes=20_000, sync_s=0.002) as writer:
            for tick in range(0, total, 3):
                writer.append(make_rows(tick, 2))
                writer.append(make_rows(tick + 2, 1)[0])

    thread = threading.Thread(target=write)
    thread.start()
    deadline = time.monotonic() + 60
    while len(seen) < total and time.monotonic() < deadline:
        rows = join(reader.poll())
        assert rows.tobytes() == make_rows(len(seen), rows.size).tobytes()
        seen += rows["tick"].tolist()
    thread.join()
    assert seen == list(range(total))
    assert reader.poll() == []


@pytest.fixture(scope="module")
def episodes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    with make_writer(folder, segment_bytes=6000, sync_s=10) as writer:
        for tick in range(0, 48, 4):
            writer.start_episode()
            writer.append(make_rows(tick, 3))
            writer.append(make_rows(tick + 3, 1))
            writer.end_episode("time")
    assert 1 < len(list(folder.glob("*.seg"))) < 6, "several segments of several records each"
    return folder


@given(limits=st.lists(st.integers(1, 7), min_size=1, max_size=4), restart=st.booleans())
def test_a_cursor_resumes_at_the_very_row_and_event(limits: list[int], restart: bool, episodes_folder: Path) -> None:
    folder = episodes_folder
    whole = describe(EpisodeReader.follow(folder).poll())
    got: list[object] = []
    reader = EpisodeReader.follow(folder)
    for turn in range(80):
        items = reader.poll(limits[turn % len(limits)])
        got += describe(items)
        if restart:
            cursor = json.loads(json.dumps(reader.cursor))
            reader.close()
            reader = EpisodeReader.follow(folder, cursor=cursor)
        if not items:
            break
    reader.close()
    assert got == whole


def describe(items: list[Rows | Event]) -> list[object]:
    """One entry per row and per event."""
    entries: list[object] = []
    for item in items:
        if isinstance(item, Rows):
            entries += item.rows["tick"].tolist()
        else:
            entries.append((item.content["event"], item.content["episode"]))
    return entries


def test_max_rows_is_never_exceeded(tmp_path: Path) -> None:
    sealed(tmp_path, 20)
    reader = EpisodeReader.follow(tmp_path)
    assert [join(reader.poll(6)).size for _ in range(4)] == [6, 6, 6, 2]


def test_rows_cannot_be_changed_by_their_readers(tmp_path: Path) -> None:
    sealed(tmp_path)
    (item,) = EpisodeReader.follow(tmp_path).poll()
    with pytest.raises(ValueError, match="read-only"):
        item.rows["tick"][0] = 7


@pytest.mark.parametrize("cursor", [{}, {"schema": 2, "writers": {}}, {"schema": 1, "writers": {"w": 3}}, []])
def test_something_else_is_no_cursor(tmp_path: Path, cursor: object) -> None:
    with pytest.raises(ValueError, match="cursor"):
        EpisodeReader.follow(tmp_path, cursor=cursor)  # type: ignore[arg-type]  # that is the point


def test_a_segment_sealed_under_the_reader_goes_on(tmp_path: Path) -> None:
    reader = EpisodeReader.follow(tmp_path)
    writer = make_writer(tmp_path)
    writer.append(make_rows(0, 2))
    assert join(reader.poll()).size == 2
    writer.append(make_rows(2, 2))
    writer.close()
    assert join(reader.poll())["tick"].tolist() == [2, 3]


def test_damage_in_the_middle_of_a_sealed_segment_costs_what_follows_in_it_only(tmp_path: Path) -> None:
    first, *_, last = sealed(tmp_path, 12, segment_bytes=2100)
    start = first.stat().st_size
    damaged = flip(first, check_offset(first, 2))
    for _ in range(2):  # the second reader meets the repaired store
        assert ticks(tmp_path) == [0, 1, *range(len(check_sealed_rows(tmp_path, damaged)), 12)]
    (fault,) = faults(tmp_path)
    assert fault["file"] == first.name
    assert "record 2 at byte" in fault["reason"]
    assert "fails its checksum" in fault["reason"]
    assert (tmp_path / QUARANTINE / first.name).read_bytes() == damaged
    assert len(damaged) == start
    check_sealed(first)
    check_sealed(last)


def check_offset(path: Path, record: int) -> int:
    """A byte inside a record of a segment of single-row records."""
    data = path.read_bytes()
    start = data.index(make_rows(0, 1).tobytes()) - HEAD.size
    return start + record * ROW + HEAD.size + 3


def check_sealed_rows(folder: Path, segment: bytes) -> list[int]:
    """Ticks that stood in a segment before it was damaged: as many as whole rows fit into it."""
    return [tick for tick in range(12) if make_rows(tick, 1).tobytes()[40:] in segment]


def test_a_sealed_segment_without_its_footer_is_listed_and_its_rows_kept(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: check_offset(path, 6) - HEAD.size - 3])
    assert ticks(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert faults(tmp_path)[0]["reason"] == "the footer is missing behind record 5"
    check_sealed(path)


def test_a_sealed_segment_without_its_header_is_set_aside_and_the_next_is_read(tmp_path: Path) -> None:
    first, *_ = sealed(tmp_path, 12, segment_bytes=2100)
    flip(first, 30)
    got = ticks(tmp_path)
    assert got == list(range(got[0], 12))
    assert 0 < got[0] < 12
    assert not first.exists()
    assert (tmp_path / QUARANTINE / first.name).exists()
    assert "header fails its checksum" in faults(tmp_path)[0]["reason"]


def test_rows_that_are_not_finite_are_left_out_and_listed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = make_rows(0, 8)
    rows["obs"][3, 1] = np.nan
    rows["sent_action"][5, 0] = np.inf
    rows["obs"][6, 0] = np.nan
    rows["mode"][6], rows["who"][6] = Mode.DAMP, Who.RUNTIME  # nobody learns from it, so it may stay
    with make_writer(tmp_path) as writer:
        writer.append(rows)
    for _ in range(2):
        assert ticks(tmp_path) == [0, 1, 2, 4, 6, 7]
    (fault,) = faults(tmp_path)
    assert fault["reason"] == "rows with NaN or infinity in obs or sent_action are left out; the first is tick 3"
    assert caplog.messages == [f"quarantine: {fault['file']}: {fault['reason']}"]


def test_a_reader_that_waits_at_a_dead_writers_tail_goes_on_once_it_is_recovered(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path)
    whole = path.read_bytes()
    path.unlink()
    dead = path.with_suffix(".open")
    dead.write_bytes(whole[: check_offset_of(whole, 4) + 100])
    reader = EpisodeReader.follow(tmp_path)
    assert join(reader.poll())["tick"].tolist() == [0, 1, 2, 3]
    assert reader.poll() == []
    recover(tmp_path)
    with make_writer(tmp_path) as writer:
        writer.append(make_rows(10, 2))
        assert join(reader.poll())["tick"].tolist() == [10, 11]


def check_offset_of(data: bytes, record: int) -> int:
    return data.index(make_rows(0, 1).tobytes()) - HEAD.size + record * ROW


def test_a_store_that_may_only_be_read_is_read() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which nobody else may enter
        folder = Path(name)
        (path,) = sealed(folder)
        flip(path, check_offset(path, 4))
        folder.chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)  # root may write everywhere
            assert ticks(folder) == [0, 1, 2, 3]
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
        assert not faults(folder)


def test_a_record_larger_than_one_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot_rl.data.follow._READ_BYTES", 1000)
    with make_writer(tmp_path) as writer:
        writer.append(make_rows(0, 2))
        writer.append(make_rows(2, 50))
        writer.append(make_rows(52, 3))
    assert_rows(read_all(tmp_path)[0], 0, 55)
