"""What a run tells: ``metrics.jsonl``, TensorBoard events, a progress bar, and the statistics of episodes.

Knows: iterations, steps, names of numbers.
Does not know: algorithms, environments.

``metrics.jsonl`` has one JSON object per iteration: ``iteration``, ``steps`` and numbers named ``group/name``.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from robot_rl.data.atomic import write_whole

_log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
_QUIET_S = 30.0


class EpisodeTracker:
    """Returns and lengths of the last episodes that ended, measured by the learner itself."""

    def __init__(self, num_envs: int, *, window: int = 100) -> None:
        """Start with no episode.

        Args:
            num_envs: N.
            window: Number of finished episodes that the means are over.
        """
        self._return = torch.zeros(num_envs)
        self._length = torch.zeros(num_envs)
        self._ended: deque[tuple[float, float, float]] = deque(maxlen=window)
        self.episodes = 0

    def add(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> None:
        """Take one step of every environment in, each shape (N,)."""
        self._return += reward.cpu()
        self._length += 1.0
        fell = terminated.cpu() >= 1.0
        ended = (fell | truncated.cpu()).nonzero().squeeze(-1)
        if not ended.numel():
            return
        rows = torch.stack((self._return[ended], self._length[ended], fell[ended].float()), -1).tolist()
        self._ended.extend((a, b, c) for a, b, c in rows)
        self._return[ended] = 0.0
        self._length[ended] = 0.0
        self.episodes += len(rows)

    def means(self) -> dict[str, float]:
        """Return mean return, length [steps] and share of terminated episodes; nothing before the first end."""
        if not self._ended:
            return {}
        n = len(self._ended)
        ret, length, fell = (sum(column) / n for column in zip(*self._ended, strict=True))
        return {"episode/return": ret, "episode/length": length, "episode/terminated": fell}

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        ended = [list(row) for row in self._ended]
        return {"return": self._return, "length": self._length, "ended": ended, "episodes": self.episodes}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self._return = snapshot["return"].clone()
        self._length = snapshot["length"].clone()
        self._ended.clear()
        self._ended.extend((a, b, c) for a, b, c in snapshot["ended"])
        self.episodes = snapshot["episodes"]


class RunLog:
    """Writes the numbers of every iteration; use as a context."""

    def __init__(self, out: Path, total_steps: int, *, first_iteration: int = 0, progress: bool = True) -> None:
        """Open the files, and drop lines of iterations that a resumed run will repeat.

        Args:
            out: Folder of the run.
            total_steps: Steps at which the bar is full.
            first_iteration: Last iteration that is already done.
            progress: Whether to show a bar on the terminal.
        """
        from torch.utils.tensorboard.writer import SummaryWriter  # slow to import, and only writers need it

        out.mkdir(parents=True, exist_ok=True)
        self._path = out / METRICS_FILE
        _keep_until(self._path, first_iteration)
        self._file: TextIO = self._path.open("a")
        self._board = SummaryWriter(str(out), purge_step=first_iteration + 1 if first_iteration else None)
        self._bar = _progress_bar(progress)
        self._task = self._bar.add_task("train", total=total_steps, note="")
        self._said_s = 0.0

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._file.close()
        self._board.close()

    def write(self, iteration: int, steps: int, row: Mapping[str, float]) -> None:
        """Write one iteration; values that are not finite are left out of the JSON as null."""
        safe = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._file.write(json.dumps({"iteration": iteration, "steps": steps, **safe}) + "\n")
        self._file.flush()
        for name, value in row.items():
            self._board.add_scalar(name, value, steps)
        note = _note(row)
        self._bar.update(self._task, completed=steps, note=note)
        now = time.monotonic()
        if now - self._said_s > _QUIET_S:
            self._said_s = now
            _log.info("iteration %d, %d steps: %s", iteration, steps, note)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the whole lines of a ``metrics.jsonl``; a torn last line of a killed run is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _keep_until(path: Path, iteration: int) -> None:
    if not path.exists():
        return
    rows = [row for row in read_metrics(path) if row["iteration"] <= iteration]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def _note(row: Mapping[str, float]) -> str:
    parts = [f"{row['time/fps']:,.0f} steps/s"] if "time/fps" in row else []
    if "episode/return" in row:
        parts.append(f"return {row['episode/return']:.2f}")
    if "episode/length" in row:
        parts.append(f"length {row['episode/length']:.0f}")
    return " · ".join(parts)


def _progress_bar(enabled: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), disable=not enabled, refresh_per_second=2)
