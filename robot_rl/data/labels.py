"""Frames with a label: pictures or observations of which somebody said whether they show success.

One ``.npz`` file: ``inputs``, ``success``, ``episode`` and what they are of. Nothing in it is unpickled.

Knows: the file. Does not know: who labels, who learns.

Shapes: n frames · D observation · H height · W width.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_rl.data.atomic import write_whole


@dataclass(frozen=True, slots=True)
class Labelled:
    """Frames of one source."""

    inputs: np.ndarray
    """(n, D) float32, or (n, H, W, 3) uint8."""
    success: np.ndarray
    """Whether each shows success, bool (n,)."""
    episode: np.ndarray
    """Which episode each is of, int64 (n,)."""
    source: str
    """Group of observations: ``policy``, or ``pixels/<camera>``."""
    task: str = ""
    contract: str = ""
    """Fingerprint of the contract that they were recorded under."""

    def __post_init__(self) -> None:
        n = len(self.inputs)
        if self.success.shape != (n,) or self.episode.shape != (n,):
            raise ValueError(f"{n} frames have labels {self.success.shape} and episodes {self.episode.shape}")
        wanted = (np.uint8, 4) if self.source.startswith("pixels/") else (np.float32, 2)
        if (self.inputs.dtype, self.inputs.ndim) != wanted:
            raise ValueError(f"frames of {self.source!r} are {self.inputs.dtype} {self.inputs.shape}")

    def pick(self, chosen: np.ndarray) -> Labelled:
        """Return the frames that ``chosen``, bool or indices, names."""
        return Labelled(
            self.inputs[chosen], self.success[chosen], self.episode[chosen], self.source, self.task, self.contract
        )


def join(parts: Sequence[Labelled]) -> Labelled:
    """Return the frames of several files; each file's episodes stay its own.

    Raises:
        ValueError: They are of different sources, sizes or contracts.
    """
    first = parts[0]
    for part in parts[1:]:
        ours, theirs = ((p.source, p.inputs.shape[1:], p.contract) for p in (first, part))
        if ours != theirs:
            raise ValueError(f"frames of {theirs} do not go with those of {ours}")
    offsets = np.cumsum([0, *(int(part.episode.max(initial=-1)) + 1 for part in parts[:-1])])
    episode = np.concatenate([part.episode + at for part, at in zip(parts, offsets, strict=True)])
    inputs, success = (np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs", "success"))
    return Labelled(inputs, success, episode, first.source, first.task, first.contract)


def save_labels(data: Labelled, path: Path) -> None:
    """Write the frames to ``path`` in one piece."""
    about = np.array([data.source, data.task, data.contract])
    file = io.BytesIO()
    np.savez_compressed(file, inputs=data.inputs, success=data.success, episode=data.episode, about=about)
    write_whole(path, file.getvalue())


def load_labels(path: Path) -> Labelled:
    """Read what ``save_labels`` wrote.

    Raises:
        ValueError: The file is torn or holds something else.
        FileNotFoundError: There is no such file.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            source, task, contract = archive["about"].tolist()
            return Labelled(archive["inputs"], archive["success"], archive["episode"], source, task, contract)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"{path} holds no labelled frames: {error!r}") from error
