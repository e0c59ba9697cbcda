"""Label frames of recorded episodes as success or failure, for ``robot-rl judge`` to learn from.

By ranges, by the label that the operator gave while it happened, by the task's own success term, or key by key.

Knows: stores, ranges, keys. Does not know: how classifiers learn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import numpy as np
import tyro

from robot_rl import zoo
from robot_rl.cli.main import INTERRUPTED
from robot_rl.contract.spec import Contract
from robot_rl.data.episodes import read_episodes
from robot_rl.data.follow import Episode
from robot_rl.data.labels import Labelled, save_labels
from robot_rl.data.transition import as_state, picture_field
from robot_rl.hardware.robot import load_robot

if TYPE_CHECKING:
    from robot_rl.sim.task import Task

_RANGE = re.compile(r"(\d+):(\d+)(?:-(\d+))?")
KEYS = {"s": 1, "f": 0, "": -1}
"""What a person types for a frame: success, failure, or nothing to leave it out."""


@dataclass(frozen=True)
class Args:
    """Write labelled frames. Example: robot-rl label store --out lift.npz --success 0:70-79 1:64-79"""

    store: Annotated[Path, tyro.conf.Positional]
    """Episodes that robot-rl run recorded."""
    out: Path
    """The .npz file to write; one that is there stays, robot-rl judge reads several."""
    by: Literal["ranges", "operator", "task", "keys"] = "ranges"
    """ranges: as --success says; operator: the last frames of episodes labelled while they were recorded; task: by the
    task's success term; keys: s, f or nothing for each frame, Ctrl-C keeps what was answered."""
    success: tuple[str, ...] = ()
    """ranges: EPISODE:FIRST-LAST, rows counted from 0; what is not named is a failure."""
    last: int = 3
    """operator: how many frames at the end of an episode show what its label says; the others are failures."""
    every: int = 1
    """Take one frame in so many."""
    camera: str = ""
    """Take what this camera recorded, or draw what it would see on the twin where the policy did not look through it;
    empty takes the policy's observation."""
    size: int = 64
    """Height and width of pictures drawn on the twin [pixels]."""
    task: str = ""
    """Task that says what success is and what is drawn; the recording's own by default."""


def run(args: Args) -> int:
    """Label, write the file and say what is in it; 130 where Ctrl-C ended the asking."""
    episodes, first, task = _read(args)
    labels, code = _labels(args, episodes, task, first)
    kept = [np.flatnonzero(label >= 0)[:: args.every] for label in labels]
    if code and not any(map(len, kept)):
        return code
    if not any(map(len, kept)):
        raise ValueError("no frame has a label; nothing was written")
    rows = [episode.rows[at] for episode, at in zip(episodes, kept, strict=True)]
    success = np.concatenate([label[at] == 1 for label, at in zip(labels, kept, strict=True)])
    number = np.repeat(np.arange(len(episodes), dtype=np.int64), [len(at) for at in kept])
    inputs, source = _inputs(args, np.concatenate(rows), task)
    data = Labelled(inputs, success, number, source, first.task, first.fingerprint)
    save_labels(data, args.out)
    wins = int(success.sum())
    print(f"{args.out}: {len(success)} frames of {source}, {wins} successes, from {len(episodes)} episodes")
    return code


def _read(args: Args) -> tuple[list[Episode], Contract, Task]:
    """Return the episodes, their contract and the task that labels or draws them.

    Raises:
        ValueError: The arguments contradict each other, or the store or the task is none to label with.
    """
    if args.every < 1 or args.last < 1:
        raise ValueError(f"every is {args.every} and last {args.last}; both are at least 1")
    if args.out.exists():
        raise ValueError(f"{args.out} exists; name another --out (robot-rl judge reads several files), or delete it")
    if args.by == "ranges" and not args.success:
        raise ValueError("--by ranges without --success would call every frame a failure; name EPISODE:FIRST-LAST")
    if args.by != "ranges" and args.success:
        raise ValueError(f"--success names ranges; with --by {args.by} leave it away")
    episodes = list(read_episodes(args.store))
    if not episodes:
        raise ValueError(f"no episodes in {args.store}")
    first = Contract.from_json(episodes[0].source.contract)
    if any(episode.source.contract_sha256 != first.fingerprint for episode in episodes):
        raise ValueError(f"{args.store} holds episodes of several contracts; label them apart")
    task: Task = zoo.load("sim", f"tasks/{args.task or first.task}").task()
    if task.robot != first.robot:
        raise ValueError(
            f"task {task.name!r} is for robot {task.robot!r}; {args.store} was recorded on {first.robot!r}"
        )
    if task.objects and "object_pos_b" not in (episodes[0].rows.dtype.names or ()):
        raise ValueError(f"task {task.name!r} has objects, which {args.store} (task {first.task!r}) did not record")
    return episodes, first, task


def _labels(args: Args, episodes: list[Episode], task: Task, contract: Contract) -> tuple[list[np.ndarray], int]:
    """Return 1, 0 or -1 (left out) for every row of every episode, and the exit code."""
    if args.by == "ranges":
        return by_ranges(args.success, [len(episode.rows) for episode in episodes]), 0
    if args.by == "operator":
        return [_by_operator(episode.rows, args.last) for episode in episodes], 0
    if args.by == "task":
        return [_by_task(episode.rows, task, contract) for episode in episodes], 0
    labels = [np.full(len(episode.rows), -1, np.int8) for episode in episodes]
    try:
        for i, episode in enumerate(episodes):
            by_keys(labels[i], episode.rows, i, args.every, sys.stdin)
    except KeyboardInterrupt:
        print("\nstopped; keeping what was answered", file=sys.stderr)
        return labels, INTERRUPTED
    return labels, 0


def by_ranges(ranges: tuple[str, ...], lengths: list[int]) -> list[np.ndarray]:
    """Return labels by ``EPISODE:FIRST-LAST``, both ends included; everything else is a failure.

    Raises:
        ValueError: A range is none, or beyond its episode.
    """
    labels = [np.zeros(n, np.int8) for n in lengths]
    for text in ranges:
        found = _RANGE.fullmatch(text)
        if found is None:
            raise ValueError(f"no range {text!r}; expected EPISODE:FIRST-LAST, such as 0:70-79")
        episode, first = int(found[1]), int(found[2])
        last = first if found[3] is None else int(found[3])
        if episode >= len(lengths) or not first <= last < lengths[episode]:
            raise ValueError(f"range {text!r} is beyond the recording: episodes 0 to {len(lengths) - 1} of {lengths}")
        labels[episode][first : last + 1] = 1
    return labels


def by_keys(labels: np.ndarray, rows: np.ndarray, number: int, every: int, keys: TextIO) -> None:
    """Ask a person for each frame, one line each, and fill ``labels``; the end of the input leaves the others out."""
    print(f"episode {number}, {len(rows)} rows; s success, f failure, nothing leaves a frame out", file=sys.stderr)
    for i in range(0, len(rows), every):
        labels[i] = next(_answers(rows[i], i, keys), -1)


def _answers(row: np.ndarray, i: int, keys: TextIO) -> Iterator[int]:
    seen = " ".join(f"{x:+.2f}" for x in row["obs"])
    while True:
        print(f"  {i:5d}  {seen}  > ", end="", file=sys.stderr, flush=True)
        line = keys.readline()
        if not line:
            return
        if (key := line.strip().lower()) in KEYS:
            yield KEYS[key]
        print(f"  {key!r} is none of {sorted(KEYS)}", file=sys.stderr)


def _by_operator(rows: np.ndarray, last: int) -> np.ndarray:
    """The last frames of an episode that was labelled show success or failure; one without a label is left out."""
    verdict = int(rows["label"][-1])
    labels = np.full(len(rows), -1 if verdict == 0 else 0, np.int8)
    if verdict > 0:
        labels[-last:] = 1
    return labels


def _by_task(rows: np.ndarray, task: Task, contract: Contract) -> np.ndarray:
    from robot_rl.sim.recorded import recorded_success

    return recorded_success(task, contract, load_robot(contract.robot), rows).astype(np.int8)


def _inputs(args: Args, rows: np.ndarray, task: Task) -> tuple[np.ndarray, str]:
    if not args.camera:
        return np.ascontiguousarray(rows["obs"], np.float32), "policy"
    source = f"pixels/{args.camera}"
    if (field := picture_field(source)) in (rows.dtype.names or ()):
        return np.ascontiguousarray(rows[field]), source
    from robot_rl.sim.redraw import Redraw

    scene = Redraw(task, args.camera, size=args.size)
    try:
        return scene(as_state(rows)), source
    finally:
        scene.close()
