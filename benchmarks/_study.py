"""What studies that train share: runs that are kept, done by as many processes as are started, and means over seeds.

The same command in several terminals shares the work: a run belongs to the process that holds its lock, which dies with
it.

Knows: files, locks, numbers. Does not know: what is trained.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from robot_rl.data.atomic import write_whole

Cell = dict[str, Any]
"""What one run of a study came to."""
K = TypeVar("K", bound=Hashable)
LOOK_AGAIN_S = 5.0
"""Between looks at what another process is at, when nothing else is left."""


class BusyError(RuntimeError):
    """Another process is at this run, or at one that it goes on from."""


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Let torch have one thread meanwhile: on a busy machine others are waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def kept(path: Path, train: Callable[[Path], Cell], *, clean: bool = True) -> Cell:
    """Return the run that is kept at ``path``, a JSON file; train it in the folder of that name where there is none.

    Args:
        path: Where a finished run is; one that is there is not run again.
        train: Trains in the given folder.
        clean: Whether the folder goes when the run is over.

    Raises:
        BusyError: Another process is at it.
    """
    if not path.is_file():
        with alone(path):
            if not path.is_file():
                write_whole(path, json.dumps(train(path.with_suffix(""))))
                if clean:
                    shutil.rmtree(path.with_suffix(""))
    return json.loads(path.read_text())


@contextmanager
def alone(path: Path) -> Generator[None, None, None]:
    """Hold what becomes ``path``, as long as this process lives.

    Raises:
        BusyError: Another process holds it.
    """
    lock = path.with_name(path.name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another process is at {path}") from None
        if not lock.exists() or lock.stat().st_ino != os.fstat(handle.fileno()).st_ino:
            raise BusyError(f"another process has just been at {path}")  # its lock is gone, ours is nobody's
        yield
        lock.unlink()


def shared(jobs: Sequence[Callable[[], Cell]], done: Callable[[list[Cell]], None]) -> list[Cell]:
    """Do jobs in order, but leave those that another process is at for later; return their cells in the same order.

    Args:
        jobs: Each does one run, or raises ``BusyError``.
        done: Told after each job all cells so far, in the order of the jobs.
    """
    found: dict[int, Cell] = {}
    while len(found) < len(jobs):
        before = len(found)
        for at in (at for at in range(len(jobs)) if at not in found):
            try:
                found[at] = jobs[at]()
            except BusyError:
                continue
            done([found[i] for i in sorted(found)])
        if len(found) == before:
            time.sleep(LOOK_AGAIN_S)
    return [found[at] for at in range(len(jobs))]


def curve(episodes: Sequence[tuple[int, int, float]], steps: int, parts: int) -> list[tuple[int, float]]:
    """Return the mean return of the episodes that ended in each of ``parts`` parts of a run, at the parts' ends.

    Args:
        episodes: As ``Watched.episodes``.
        steps: Transitions of the run.
        parts: At most so many points; parts in which no episode ended have none.

    Raises:
        ValueError: No episode ended.
    """
    if not episodes:
        raise ValueError(f"steps is {steps}: no episode ends within so few; its curve has no point")
    part = np.minimum([at * parts // steps for at, _, _ in episodes], parts - 1)
    value = np.array([value for _, _, value in episodes])
    return [(int(k + 1) * steps // parts, float(value[part == k].mean())) for k in np.unique(part)]


def standard_error(x: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 of a single number."""
    return float(np.std(x, ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.0


def over_seeds(cells: Sequence[Cell], key: Callable[[Cell], K], names: Sequence[str]) -> dict[K, dict[str, float]]:
    """Return ``seeds``, and of every name its mean and, as ``<name>_se``, the mean's standard error, by key."""
    found: dict[K, dict[str, float]] = {}
    for which in dict.fromkeys(key(cell) for cell in cells):
        part = [cell for cell in cells if key(cell) == which]
        found[which] = {"seeds": len(part)}
        for name in names:
            x = [cell[name] for cell in part]
            found[which] |= {name: float(np.mean(x)), f"{name}_se": standard_error(x)}
    return found
