"""A second core for work that does not depend on the caller's: two small networks learn side by side.

Threads of torch cut one operation in two and pay for it at every operation; here each core keeps operations of its own,
so that results are bit for bit those of one core.

Knows: threads, cores. Does not know: what the work is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")

WORTH = 1 << 24
"""Multiplications of each of the two pieces of work from which handing one over pays."""


def spare(multiplications: int, device: torch.device, processes: int = 1) -> bool:
    """Return whether a piece of work of that size should go to another core.

    Args:
        multiplications: Of the smaller of both pieces.
        device: Where they run; only a CPU has cores to spare.
        processes: How many of them share this machine and do the same.
    """
    if device.type != "cpu" or multiplications < WORTH:
        return False
    return 2 * torch.get_num_threads() * processes <= _cores()


def both(here: Callable[[], A], there: Callable[[], B], *, apart: bool) -> tuple[A, B]:
    """Do both and return both results, ``there`` on another core at the same time where they are ``apart``.

    ``torch.no_grad`` holds for one thread: ``there`` has to ask for it itself.
    """
    if not apart:
        return here(), there()
    other = _helper().submit(there)
    try:
        mine = here()
    finally:
        wait([other])  # nobody writes any more once this returns or raises
    return mine, other.result()


@functools.cache
def _helper() -> ThreadPoolExecutor:
    """Return the one thread, whose first look at torch's number of threads makes it its own too."""
    return ThreadPoolExecutor(1, thread_name_prefix="beside", initializer=torch.get_num_threads)


def _cores() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
