"""Episodes as one .npz file, every number as it was, so that another process can compare them.

Knows: the names of the arrays in the file. Does not know: how episodes come about, what is judged by them.

Shapes: E episodes.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl import __version__
from robot_rl.data.atomic import write_whole
from robot_rl.sim.evaluation import ARRAYS, GROUPS, Episodes

_VERSION = "robot_rl"


def write_episodes(path: Path, episodes: Episodes) -> None:
    """Write all arrays, (E, ...), in one piece: ``returns``, ``terms/track_lin_vel`` and so on."""
    arrays: dict[str, Any] = {name: getattr(episodes, name) for name in ARRAYS}
    for group in GROUPS:
        arrays |= {f"{group}/{name}": value for name, value in getattr(episodes, group).items()}
    file = io.BytesIO()
    np.savez(file, **{_VERSION: np.array(__version__)}, **arrays)
    write_whole(path, file.getvalue())


def read_episodes(path: Path) -> Episodes:
    """Return what ``write_episodes`` wrote.

    Raises:
        ValueError: It is no such file, or of another version of robot_rl, whose episodes may be others.
        FileNotFoundError: There is no such file.
    """
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        version = str(arrays.pop(_VERSION))
        whole: dict[str, Any] = {name: arrays.pop(name) for name in ARRAYS}
        whole |= {group: {} for group in GROUPS}
        for name, value in arrays.items():
            group, _, key = name.partition("/")
            whole[group][key] = value
    except (KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no episodes of robot-rl eval --save") from error
    if version != __version__:
        raise ValueError(f"{path} was written by robot_rl {version}, this is {__version__}; make both the same")
    return Episodes(**whole)
