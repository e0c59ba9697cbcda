"""Clocks: absolute deadlines, lateness that does not add up, simulated time."""

from __future__ import annotations

import time

import pytest

from robot_rl.runtime.clock import SimClock, WallClock


class Fake:
    """A clock in the hand: ``sleep`` advances it, and so does work."""

    def __init__(self) -> None:
        self.t = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.t

    def sleep(self, s: float) -> None:
        self.slept.append(s)
        self.t += s


def test_deadlines_are_absolute_so_lateness_does_not_add_up():
    fake = Fake()
    clock = WallClock(50.0, now=fake.now, sleep=fake.sleep)
    clock.start()
    for _ in range(100):
        fake.t += 0.013
        clock.wait()
    assert fake.t == pytest.approx(1002.0)  # 100 periods of 20 ms, whatever the work took
    assert clock.overruns == 0


def test_a_late_waking_is_reported_and_the_next_deadline_is_unmoved():
    fake = Fake()
    clock = WallClock(50.0, now=fake.now, sleep=lambda s: fake.sleep(s + 0.003))
    assert clock.wait() == pytest.approx(0.003)
    assert clock.wait() == pytest.approx(0.003)
    assert fake.slept[1] == pytest.approx(0.020)  # 17 ms left plus the 3 ms of oversleeping


@pytest.mark.parametrize(("work_s", "missed", "slept_s"), [(0.0205, 1, 0.0195), (0.05, 2, 0.01), (0.0999, 4, 0.0001)])
def test_a_long_tick_skips_what_it_missed_and_counts_it(work_s, missed, slept_s):
    fake = Fake()
    clock = WallClock(50.0, now=fake.now, sleep=fake.sleep)
    clock.start()
    fake.t += work_s
    clock.wait()
    assert clock.overruns == missed
    assert sum(fake.slept) == pytest.approx(slept_s, abs=1e-9)
    assert fake.t == pytest.approx(1000.0 + 0.02 * (missed + 1))  # never two ticks back to back


def test_the_wall_clock_keeps_its_rate():
    clock = WallClock(200.0)
    clock.start()
    begin = time.monotonic()
    for _ in range(40):
        clock.wait()
    assert time.monotonic() - begin >= 40 / 200.0


def test_simulated_time_advances_by_one_period_per_tick():
    clock = SimClock(50.0)
    assert [clock.wait() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert clock.now_s() == pytest.approx(0.06)


def test_simulated_time_can_be_paced():
    clock = SimClock(50.0, speed=10.0)
    clock.start()
    begin = time.monotonic()
    for _ in range(50):
        clock.wait()
    assert time.monotonic() - begin >= 0.1 * 0.98  # one simulated second, ten times as fast
    assert clock.now_s() == pytest.approx(1.0)


@pytest.mark.parametrize("rate_hz", [0.0, -50.0, float("inf"), float("nan")])
def test_an_impossible_rate_is_refused(rate_hz):
    with pytest.raises(ValueError, match="rate_hz is"):
        WallClock(rate_hz)
