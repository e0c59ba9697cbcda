"""Run a control loop on time: connect, tick at every deadline, and leave the robot damped whatever happens.

Knows: the interpreter's switches that cost punctuality (garbage collector, thread switching, scheduling class).
Does not know: what a tick does.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from robot_rl.runtime.loop import ControlLoop

SWITCH_INTERVAL_S = 0.0005
"""How long another thread may hold the interpreter while the control thread wants it; Python's default is 5 ms."""
COLLECT_EVERY = 512
"""Ticks between two collections of young garbage, made in the slack of a tick; the collector is off otherwise."""
_log = logging.getLogger(__name__)


def run(loop: ControlLoop, stop: Callable[[], bool], *, priority: int | None = None) -> None:
    """Connect, tick until ``stop()``, then damp and close driver and recorder. Call it in the control thread.

    Args:
        loop: The loop; nobody else may tick it.
        stop: Asked after every tick, e.g. ``threading.Event().is_set``.
        priority: SCHED_FIFO priority of this thread, 2 to 99; the process's other threads get one less, because the
            one that holds the interpreter must not be pushed aside by other programs while this one waits for it.
            None stays with the scheduler's default. Where the system forbids it the loop runs on and says so.

    Raises:
        ConnectionError: The driver or a camera cannot connect.
    """
    loop.driver.connect()
    try:
        loop.eyes.connect()
        if loop.recorder is not None:
            loop.recorder.start()
        with _punctual(priority):
            _tick_until(loop, stop)
    finally:
        try:
            loop.damp()
        except ConnectionError as error:
            _log.warning("no DAMP at the end: %s", error)
        finally:
            loop.driver.close()
            if loop.recorder is not None:
                loop.recorder.close()
            loop.eyes.close()


def _tick_until(loop: ControlLoop, stop: Callable[[], bool]) -> None:
    clock = loop.clock
    clock.start()
    late_s, count = 0.0, 0
    while not stop():
        begin_s = time.perf_counter()
        loop.tick(late_s)
        count += 1
        if count % COLLECT_EVERY == 0 and time.perf_counter() - begin_s < clock.period_s / 4:
            gc.collect(1)
        late_s = clock.wait()


@contextmanager
def _punctual(priority: int | None) -> Generator[None, None, None]:
    """Switch off what makes a thread late, and back on afterwards."""
    interval, was_enabled = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.disable()
    before = _prefer_process(priority)
    try:
        yield
    finally:
        _restore(before)
        if was_enabled:
            gc.enable()
        gc.unfreeze()
        sys.setswitchinterval(interval)


_Scheduling = dict[int, tuple[int, os.sched_param]]


def _prefer_process(priority: int | None) -> _Scheduling:
    """Put this thread, and one below it the others, under SCHED_FIFO; return by thread id what they were under."""
    before: _Scheduling = {}
    if priority is None:
        return before
    if sys.platform != "linux":
        _log.warning("SCHED_FIFO %d refused: %s has no such scheduling", priority, sys.platform)
        return before
    own = threading.get_native_id()
    for thread in [int(name) for name in os.listdir("/proc/self/task")]:
        try:
            was = os.sched_getscheduler(thread), os.sched_getparam(thread)
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority if thread == own else priority - 1))
            before[thread] = was
        except ProcessLookupError:  # it ended just now
            continue
        except PermissionError as error:
            _log.warning("SCHED_FIFO %d refused (%s); grant CAP_SYS_NICE or an rtprio limit", priority, error)
            return before
    return before


def _restore(before: _Scheduling) -> None:
    for thread, (policy, parameters) in before.items():
        with suppress(ProcessLookupError):
            os.sched_setscheduler(thread, policy, parameters)
