"""The log of tick latencies."""

from __future__ import annotations

import pytest

from robot_rl.runtime.ticks import TickLog


def test_percentiles_are_those_of_the_newest_ticks():
    log = TickLog(capacity=100)
    for i in range(250):
        log.add(i * 1e-3, 0.0 if i < 249 else 0.5)
    summary = log.summary()
    assert summary.ticks == 250
    assert summary.work_p50_s == pytest.approx(0.1995)  # ticks 150 to 249
    assert summary.work_max_s == pytest.approx(0.249)
    assert summary.late_max_s == 0.5


def test_newest_returns_them_oldest_first():
    log = TickLog(capacity=4)
    for i in range(6):
        log.add(float(i), 10.0 * i)
    work, late = log.newest(3)
    assert work.tolist() == [3.0, 4.0, 5.0] and late.tolist() == [30.0, 40.0, 50.0]


def test_no_ticks_no_latency():
    assert TickLog().summary().ticks == 0
