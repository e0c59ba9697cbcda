"""The recorder: order, ends of episodes, a slow disk."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.transition import Mode, Who
from robot_rl.runtime.recorder import Recorder


class Slow:
    """A store whose disk is as slow as ``gate`` says."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.ticks: list[int] = []
        self.ends: list[str] = []
        self.full = False

    def append(self, rows: np.ndarray) -> int:
        self.gate.wait()
        if self.full:
            raise OSError(28, "No space left on device")
        self.ticks += rows["tick"].tolist()
        return len(self.ticks)

    def event(self, event: dict) -> None:
        self.ticks.append(-1)

    def start_episode(self, detail: dict | None = None) -> int:
        return 0

    def end_episode(self, reason: str, *, label: int = 0, detail: dict | None = None) -> None:
        self.ends.append(reason)

    def label(self, label: int) -> None:
        self.ticks.append(-2)

    def close(self) -> None:
        self.ticks.append(-3)


def put(recorder: Recorder, tick: int, **flags: int) -> bool:
    i = recorder.claim()
    if i < 0:
        return False
    f = recorder.fields
    f["tick"][i], f["mode"][i], f["who"][i] = tick, Mode.POLICY, Who.POLICY
    f["terminated"][i], f["truncated"][i] = flags.get("terminated", 0), flags.get("truncated", 0)
    recorder.commit()
    return True


@pytest.fixture
def store() -> Slow:
    return Slow()


@pytest.fixture
def recorder(store, contract, go2) -> Recorder:
    return Recorder(store, contract, go2, capacity=8, poll_s=0.001)


def wait_until(condition, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


def test_rows_and_events_are_stored_in_the_order_they_happened(recorder, store):
    for tick in range(3):
        put(recorder, tick)
    recorder.event({"event": "swap"})
    for tick in range(3, 5):
        put(recorder, tick)
    recorder.start()
    recorder.close()
    assert store.ticks == [0, 1, 2, -1, 3, 4, -3]
    assert store.ends == ["truncated"]  # closing ends the episode


def test_the_newest_row_waits_for_its_successor(recorder, store):
    recorder.start()
    put(recorder, 0)
    put(recorder, 1)
    wait_until(lambda: store.ticks == [0])
    time.sleep(0.02)
    assert store.ticks == [0]
    recorder.cut()
    wait_until(lambda: store.ticks == [0, 1])
    assert store.ends == ["truncated"]
    recorder.close()


def test_an_ending_row_is_stored_at_once_and_stays_terminated(recorder, store):
    recorder.start()
    put(recorder, 0)
    put(recorder, 1, terminated=1)
    wait_until(lambda: store.ticks == [0, 1])
    recorder.cut()
    assert not recorder.fields["truncated"][1]
    assert store.ends == ["terminated"]
    recorder.close()


def test_a_slow_disk_costs_rows_never_the_control_thread(recorder, store):
    recorder.start()
    put(recorder, 0)
    store.gate.clear()
    worst = 0.0
    kept = []
    for tick in range(1, 40):
        begin = time.perf_counter()
        if put(recorder, tick):
            kept.append(tick)
        worst = max(worst, time.perf_counter() - begin)
    assert worst < 0.05
    assert recorder.drops == 39 - len(kept) > 0
    store.gate.set()
    recorder.close()
    assert [t for t in store.ticks if t >= 0] == [0, *kept]
    assert store.ends == ["truncated"]  # the gap ended the episode at the last row before it


def test_rows_survive_many_wraps_of_the_ring(recorder, store):
    recorder.start()
    tick = 0
    while tick < 500:
        if put(recorder, tick):
            tick += 1
        else:
            time.sleep(0.001)
    recorder.close()
    assert [t for t in store.ticks if t >= 0] == list(range(500))


def test_a_full_disk_is_counted_and_the_loop_goes_on(recorder, store):
    store.full = True
    recorder.start()
    for tick in range(4):
        put(recorder, tick)
    wait_until(lambda: recorder.failures > 0)
    store.full = False
    assert put(recorder, 4)
    recorder.close()
    assert 4 in store.ticks


def test_what_was_recorded_can_be_read_from_disk(tmp_path, contract, go2):
    recorder = Recorder(EpisodeWriter(tmp_path, contract, go2), contract, go2)
    recorder.start()
    for tick in range(10):
        put(recorder, tick, terminated=int(tick == 5))
    recorder.event({"event": "label", "label": 1})
    recorder.close()
    first, second = read_episodes(tmp_path)
    assert first.rows["tick"].tolist() == [0, 1, 2, 3, 4, 5] and first.reason == "terminated"
    assert second.rows["tick"].tolist() == [6, 7, 8, 9] and second.label == 1
    assert second.rows["truncated"].tolist() == [0, 0, 0, 1]
