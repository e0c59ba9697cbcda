"""SIGKILL of real processes that record or compact, at random moments: nothing is lost, nothing appears."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.episodes import EpisodeReader, Rows
from robot_rl.data.store import check_sealed, faults, recover
from tests.data.recording import assert_rows, join, make_rows, make_writer, read_all

SCRIPT = Path(__file__).with_name("writer_process.py")
REPOSITORY = SCRIPT.parents[2]


def record_until_killed(folder: Path, first: int, wait_s: float, segment_bytes: int) -> int:
    """Run a writer, kill it ``wait_s`` after its first row; return the tick behind the last acknowledged row."""
    read_fd, write_fd = os.pipe()
    command = [sys.executable, str(SCRIPT), str(folder), str(first), str(write_fd), str(segment_bytes)]
    process = subprocess.Popen(command, pass_fds=[write_fd], cwd=REPOSITORY)
    os.close(write_fd)
    acknowledged = os.read(read_fd, 8)
    assert len(acknowledged) == 8, "the writer died before its first row"
    end = time.monotonic() + wait_s
    os.set_blocking(read_fd, False)
    while time.monotonic() < end:  # drain, so that the writer never waits for us
        acknowledged = drain(read_fd, acknowledged)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    os.set_blocking(read_fd, True)
    while part := os.read(read_fd, 1 << 16):
        acknowledged = (acknowledged + part)[-(len(acknowledged) + len(part)) % 8 - 8 :]
    os.close(read_fd)
    return int.from_bytes(acknowledged[-8:], "little")


def drain(fd: int, last: bytes) -> bytes:
    try:
        part = os.read(fd, 1 << 16)
    except BlockingIOError:
        time.sleep(0.0005)
        return last
    assert len(part) % 8 == 0, "acknowledgements are written in one piece"
    return part[-8:]


def kill_writers(folder: Path, times: int, seed: int) -> None:
    """Kill ``times`` writers of one store and check after each that it holds every acknowledged row and no other."""
    chance = random.Random(seed)
    follower = EpisodeReader.follow(folder)
    first = 0
    for turn in range(times):
        acknowledged = record_until_killed(
            folder, first, chance.uniform(0, 0.15), chance.choice((1500, 20_000, 1 << 24))
        )
        before = read_all(folder)[0]
        recover(folder)
        rows, events = read_all(folder)
        assert rows.tobytes() == before.tobytes(), "recovery adds and removes no row"
        assert rows.size >= acknowledged > first, f"turn {turn}: {acknowledged} rows acknowledged, {rows.size} found"
        assert rows.size <= acknowledged + 3, "at most the record that was being acknowledged when the kill came"
        assert_rows(rows, 0, rows.size)
        assert join(follower.poll()).tobytes() == make_rows(first, rows.size - first).tobytes()
        starts = [e["tick"] for e in events if e["event"] == "episode_start"]
        assert starts == sorted(starts)  # one may come twice: killed between the event and its first row
        first = rows.size
    for path in folder.glob("*.seg"):
        check_sealed(path)
    assert not list(folder.glob("*.open"))
    assert not faults(folder)


def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    kill_writers(tmp_path, 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_killed_writers_lose_nothing(tmp_path: Path) -> None:
    kill_writers(tmp_path, 50, seed=2)


def test_two_processes_that_record_at_once_are_kept_apart(tmp_path: Path) -> None:
    found: dict[int, int] = {}

    def record(first: int) -> None:
        found[first] = record_until_killed(tmp_path, first, 0.3, 3000)

    threads = [threading.Thread(target=record, args=(first,)) for first in (0, 1_000_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recover(tmp_path)
    streams: dict[str, list[np.ndarray]] = {}
    for item in EpisodeReader.follow(tmp_path).poll():
        if isinstance(item, Rows):
            streams.setdefault(item.source.writer, []).append(item.rows)
    assert len(streams) == 2
    for parts in streams.values():
        rows = np.concatenate(parts)
        first = int(rows["tick"][0])
        assert_rows(rows, first, rows.size)
        assert 0 <= first + rows.size - found[first] <= 3
    assert not faults(tmp_path)


def kill_compactions(folder: Path, times: int, seed: int) -> None:
    """Kill compactions of one store at random moments; it reads the same after each, and all is compacted at last."""
    pytest.importorskip("zarr", minversion="3")
    chance = random.Random(seed)
    with make_writer(folder, segment_bytes=5000) as writer:
        for tick in range(0, 160, 2):
            if tick % 20 == 0:
                writer.start_episode({"tick": tick})
            writer.append(make_rows(tick, 2))
    segments = len(list(folder.glob("*.seg")))
    whole, events = read_all(folder)
    follower = EpisodeReader.follow(folder)
    followed = []
    code = f"from pathlib import Path; from robot_rl.data.blocks import compact; compact(Path({str(folder)!r}))"
    for _ in range(times):
        started = len(list(folder.glob("*.zarr.zip")))
        process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
        deadline = time.monotonic() + 60
        while (
            process.poll() is None and len(list(folder.glob("*.zarr.zip"))) == started and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.wait()
        rows, found = read_all(folder)
        assert rows.tobytes() == whole.tobytes()
        assert found == events
        followed.append(join(follower.poll(50)).tobytes())
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
    assert b"".join([*followed, join(follower.poll()).tobytes()]) == whole.tobytes()
    assert (len(list(folder.glob("*.zarr.zip"))), len(list(folder.glob("*.seg")))) == (segments, 0)
    assert not list(folder.glob(".compact-*.zip"))
    assert read_all(folder)[0].tobytes() == whole.tobytes()
    assert not faults(folder)


def test_killed_compactions_lose_nothing(tmp_path: Path) -> None:
    kill_compactions(tmp_path, 2, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_killed_compactions_lose_nothing(tmp_path: Path) -> None:
    kill_compactions(tmp_path, 10, seed=4)
