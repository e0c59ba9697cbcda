"""Writing a store: what is appended is there, whoever dies, and damage costs nothing but itself."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.contract.box import Box, with_box
from robot_rl.data import episodes, store
from robot_rl.data.episodes import EpisodeReader, EpisodeWriter, read_episodes
from robot_rl.data.record_log import HEAD
from robot_rl.data.store import QUARANTINE, check_sealed, faults, list_segments, recover
from tests.data.recording import (
    CONTRACT,
    DTYPE,
    ROBOT,
    assert_rows,
    make_contract,
    make_robot,
    make_rows,
    make_writer,
    read_all,
    ticks,
)

ROW = HEAD.size + DTYPE.itemsize


def names(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def abandon(writer: EpisodeWriter) -> Path:
    """Stop a writer as a kill would: no footer, the lock released. Return its open segment."""
    writer._stop = True
    writer._wake.set()
    writer._thread.join()
    os.close(writer._live.fd)
    return writer._live.path


def dead_segment(folder: Path, rows: int = 5) -> Path:
    writer = make_writer(folder)
    for tick in range(rows):
        writer.append(make_rows(tick, 1)[0])
    return abandon(writer)


def test_rows_and_events_come_back_bit_for_bit_over_several_segments(tmp_path: Path) -> None:
    with make_writer(tmp_path, segment_bytes=4000) as writer:
        writer.start_episode({"note": "first"})
        for tick in range(60):
            writer.append(make_rows(tick, 1)[0])
        writer.append(make_rows(60, 40))
        writer.end_episode("fall", label=-1)
    assert len(names(tmp_path, ".seg")) > 3
    assert not names(tmp_path, ".open")
    rows, events = read_all(tmp_path)
    assert_rows(rows, 0, 100)
    assert [e["event"] for e in events] == ["episode_start", "episode_end"]
    assert (events[1]["reason"], events[1]["label"], events[0]["note"]) == ("fall", -1, "first")
    for path in names(tmp_path, ".seg"):
        check_sealed(path)


def test_the_header_says_where_the_rows_come_from(tmp_path: Path) -> None:
    with make_writer(tmp_path, policies=("aa" * 32,), segment_bytes=1) as writer:
        writer.append(make_rows(0, 1)[0])
        writer.event({"event": "swap", "policy": "bb" * 32})
        writer.append(make_rows(1, 1)[0])
    first, *_, last = (check_sealed(path)[0] for path in names(tmp_path, ".seg"))
    assert first.contract == CONTRACT.to_json()
    assert (first.robot, first.contract_sha256, first.policies) == ("biped", CONTRACT.fingerprint, ("aa" * 32,))
    assert last.policies == ("aa" * 32, "bb" * 32)
    assert abs(first.wall_s - time.time()) < 60


def test_committed_follows_rows_within_the_sync_period(tmp_path: Path) -> None:
    with make_writer(tmp_path, sync_s=0.01, segment_bytes=2000) as writer:
        assert writer.append(make_rows(0, 30)) == 30
        writer.append(make_rows(30, 1)[0])
        deadline = time.monotonic() + 10
        while writer.committed < 31 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert writer.committed == 31
        writer.append(make_rows(31, 1))
        writer.flush()
        assert writer.committed == 32


def test_a_row_of_another_layout_is_refused(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer, pytest.raises(ValueError, match="this writer's is"):
        writer.append(np.zeros(1, [("tick", "<u8")]))


def test_an_event_without_a_name_is_refused(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer, pytest.raises(ValueError, match="key 'event'"):
        writer.event({"what": "swap"})


def test_a_closed_writer_takes_no_rows(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.append(make_rows(0, 1))
    assert list_segments(tmp_path) == {}


def test_a_torn_tail_is_cut_at_any_byte_and_the_prefix_sealed(tmp_path: Path) -> None:
    whole = dead_segment(tmp_path / "whole").read_bytes()
    for cut in range(1, ROW + 1, 7):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "w.000000.open").write_bytes(whole[:-cut])
        assert ticks(folder) == [0, 1, 2, 3]  # readers need no recovery
        assert recover(folder) == [folder / "w.000000.seg"]
        assert_rows(read_all(folder)[0], 0, 4)
        check_sealed(folder / "w.000000.seg")
        assert not faults(folder)


def test_a_new_writer_recovers_the_dead_and_never_touches_their_files_again(tmp_path: Path) -> None:
    dead_segment(tmp_path)
    with make_writer(tmp_path) as writer:
        (sealed,) = names(tmp_path, ".seg")
        before = sealed.read_bytes()
        writer.append(make_rows(5, 2))
    assert sealed.read_bytes() == before
    assert_rows(read_all(tmp_path)[0], 0, 7)


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with make_writer(tmp_path) as one:
        one.append(make_rows(0, 3))
        with make_writer(tmp_path) as two:
            assert recover(tmp_path) == []
            two.append(make_rows(100, 2))
            one.append(make_rows(3, 1))
    assert ticks(tmp_path) == [0, 1, 2, 3, 100, 101]


def test_a_segment_killed_between_footer_and_rename_is_only_renamed(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        writer.append(make_rows(0, 3))
    (sealed,) = names(tmp_path, ".seg")
    whole = sealed.read_bytes()
    sealed.rename(sealed.with_suffix(".open"))
    assert recover(tmp_path) == [sealed]
    assert sealed.read_bytes() == whole


def test_an_open_segment_damaged_in_the_middle_keeps_its_prefix_and_its_evidence(tmp_path: Path) -> None:
    path = dead_segment(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[-3 * ROW + 20] ^= 1  # in the record of tick 2
    path.write_bytes(damaged)
    recover(tmp_path)
    assert ticks(tmp_path) == [0, 1]
    assert (tmp_path / QUARANTINE / path.name).read_bytes() == damaged
    (fault,) = faults(tmp_path)
    assert fault["file"] == path.name
    assert "record 2 at byte" in fault["reason"]
    assert "fails its checksum, and whole records follow it" in fault["reason"]


def test_an_open_segment_without_a_header_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "w.000000.open").write_bytes(b"something else entirely")
    assert ticks(tmp_path) == []
    assert recover(tmp_path) == []
    assert (tmp_path / QUARANTINE / "w.000000.open").exists()
    assert "starts with b'somethin'" in faults(tmp_path)[0]["reason"]


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [3 * ROW + 100]

    def write(fd: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, data[: room[0]])
        room[0] -= written
        return written

    with make_writer(tmp_path) as writer:
        monkeypatch.setattr(episodes.os, "write", write)
        for tick in range(3):
            writer.append(make_rows(tick, 1))
        with pytest.raises(OSError, match="No space"):
            writer.append(make_rows(3, 1))
        assert ticks(tmp_path) == [0, 1, 2]
        room[0] = 1 << 20
        writer.append(make_rows(3, 1))
    assert_rows(read_all(tmp_path)[0], 0, 4)
    assert not faults(tmp_path)


def test_a_disk_that_failed_once_is_not_believed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = make_writer(tmp_path, sync_s=60)
    writer.append(make_rows(0, 2))
    writer.flush()
    with monkeypatch.context() as broken:
        broken.setattr(episodes, "_sync_file", fail)
        writer.append(make_rows(2, 2))
        with pytest.raises(OSError, match="Input/output error"):
            writer.flush()
    assert writer.committed == 2
    with pytest.raises(OSError, match="Input/output error"):
        writer.append(make_rows(4, 2))
    abandon(writer)
    recover(tmp_path)
    assert ticks(tmp_path) == [0, 1, 2, 3]


def test_a_disk_too_full_for_a_footer_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.write_all

    def full(fd: int, data: bytes) -> None:
        if b'"sha256":' not in data:  # no footer
            return real(fd, data)
        real(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with make_writer(tmp_path, segment_bytes=1, sync_s=60) as writer:
        with monkeypatch.context() as broken:
            broken.setattr(store, "write_all", full)
            writer.append(make_rows(0, 1))
            writer.flush()  # else a busy machine writes both at once
            writer.append(make_rows(1, 1))  # begins the second segment
            writer.flush()
            assert (len(names(tmp_path, ".open")), len(names(tmp_path, ".seg"))) == (2, 0)
            assert ticks(tmp_path) == [0, 1]
        writer.flush()
        assert (len(names(tmp_path, ".open")), len(names(tmp_path, ".seg"))) == (1, 1)
    assert_rows(read_all(tmp_path)[0], 0, 2)
    assert not faults(tmp_path)
    for path in names(tmp_path, ".seg"):
        check_sealed(path)


def test_a_new_segment_begins_when_the_old_one_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_writer(tmp_path, segment_s=600.0) as writer:
        writer.append(make_rows(0, 1))
        writer.append(make_rows(1, 1))
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + 600.0)
        writer.append(make_rows(2, 1))
        monkeypatch.undo()
    assert len(names(tmp_path, ".seg")) == 2
    assert_rows(read_all(tmp_path)[0], 0, 3)


def test_episodes_are_read_with_the_label_given_afterwards(tmp_path: Path) -> None:
    with make_writer(tmp_path, segment_bytes=3000) as writer:
        writer.append(make_rows(0, 1))  # before any episode
        for number in range(3):
            assert writer.start_episode() == number
            writer.append(make_rows(10 * number, 4))
            if number < 2:
                writer.end_episode("time")
        writer.label(1, episode=1)
        with pytest.raises(ValueError, match="no episode 7"):
            writer.label(1, episode=7)
    found = read_episodes(tmp_path)
    assert [(e.number, e.reason, e.label) for e in found] == [(0, "time", 0), (1, "time", 1), (2, "closed", 0)]
    assert [e.rows["tick"].tolist() for e in found] == [[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]
    assert found[1].rows["label"].tolist() == [1, 1, 1, 1]


def test_a_reader_of_one_contract_lists_the_others_and_leaves_them_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EpisodeWriter(tmp_path, make_contract("run"), ROBOT) as other:
        other.append(make_rows(50, 2))
    with make_writer(tmp_path) as writer:
        writer.append(make_rows(0, 2))
    for _ in range(3):  # one that waits for its contract makes a reader several times a second
        assert_rows(read_all(tmp_path, CONTRACT)[0], 0, 2)
    (fault,) = faults(tmp_path)
    assert fault["reason"] == f"recorded under contract {make_contract('run').fingerprint}, not {CONTRACT.fingerprint}"
    assert caplog.messages == [f"quarantine: {fault['file']}: {fault['reason']}"], "said once"
    assert ticks(tmp_path) == [50, 51, 0, 1]


def test_a_reader_of_one_contract_reads_it_under_every_action_box(tmp_path: Path) -> None:
    for number, box in enumerate((Box(0.4), Box(0.5, 0.1))):
        with EpisodeWriter(tmp_path, with_box(CONTRACT, box), ROBOT) as writer:
            writer.append(make_rows(10 * number, 2))
    read = [read_all(tmp_path, contract)[0] for contract in (CONTRACT, with_box(CONTRACT, Box(0.6)))]
    assert [rows["tick"].tolist() for rows in read] == [[0, 1, 10, 11]] * 2 and not faults(tmp_path)


def test_a_robot_with_feet_has_a_wider_row(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path, CONTRACT, make_robot(("left", "right"))) as writer:
        rows = np.zeros(2, writer.dtype)
        rows["foot_contact"] = [[0, 1], [1, 0]]
        writer.append(rows)
        reader = EpisodeReader.follow(tmp_path)
        (item,) = reader.poll()
        reader.close()
    assert item.rows["foot_contact"].tolist() == [[0, 1], [1, 0]]
