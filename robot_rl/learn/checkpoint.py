"""Checkpoints: one ``.npz`` per checkpoint with arrays and a JSON skeleton; written whole, never unpickled.

Knows: nested dicts, lists, tensors, numbers and strings; atomic files.
Does not know: what an agent is.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.atomic import replacing

_SKELETON = "skeleton.json"
_SUFFIX = ".npz"


@runtime_checkable
class Restorable(Protocol):
    """An environment whose whole state can be stored, so that a resumed run equals an uninterrupted one."""

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree of tensors, numbers and strings."""
        ...

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        ...


def save(path: Path, tree: Mapping[str, Any]) -> None:
    """Write ``tree`` to ``path`` in one piece: a reader sees the old file or the new one, never half.

    Args:
        path: The file; its folder is made.
        tree: Nested dicts (keys str or int), lists and tuples of tensors, arrays, numbers, strings, None.
    """
    arrays: dict[str, np.ndarray] = {}
    skeleton = json.dumps(_flatten(tree, "", arrays))
    with replacing(path) as hidden, hidden.open("wb") as file:
        np.savez(file, **{_SKELETON: np.frombuffer(skeleton.encode(), dtype=np.uint8)}, **arrays)  # pyright: ignore[reportArgumentType]


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors come back as CPU tensors, tuples as lists.

    Raises:
        ValueError: The file is torn, altered or no checkpoint.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        skeleton = json.loads(arrays.pop(_SKELETON).tobytes())
        return _unflatten(skeleton, arrays)
    except (zipfile.BadZipFile, KeyError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no whole checkpoint: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no whole checkpoint: {error}") from error


def settings(tree: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Return the settings of the dataclass ``kind`` that a checkpoint holds; its lists are tuples."""
    names = {f.name for f in fields(kind)}
    return {name: tuple(x) if isinstance(x, list) else x for name, x in tree["config"].items() if name in names}


def check_settings(tree: Mapping[str, Any], cfg: Any, path: Path, *, free: Collection[str]) -> None:
    """Raise ValueError where a run would go on with other settings than the checkpoint ``path`` was written with.

    Args:
        tree: What ``path`` holds; one without ``config`` is of before settings were kept, and is taken as it is.
        cfg: The dataclass of settings to go on with.
        path: For the error.
        free: Names that may differ.
    """
    stored, wanted = tree.get("config", {}), _as_lists(asdict(cfg))
    for name, value in stored.items():
        if name in wanted and name not in free and _as_lists(value) != wanted[name]:
            raise ValueError(
                f"{path} was trained with {name} = {value}; the recipe says {wanted[name]}; choose another folder"
            )


def numbered(folder: Path, iteration: int) -> Path:
    """Return the file of an iteration."""
    return folder / f"{iteration:08d}{_SUFFIX}"


def latest(folder: Path) -> Path | None:
    """Return the newest numbered checkpoint, or None where there is none."""
    files = _numbered_files(folder)
    return files[-1] if files else None


def prune(folder: Path, *, keep: int, every: int) -> None:
    """Delete old checkpoints but the newest ``keep`` and those whose iteration divides by ``every``."""
    for path in _numbered_files(folder)[: -max(keep, 1)]:
        if every <= 0 or int(path.stem) % every:
            path.unlink()


def _numbered_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob(f"*{_SUFFIX}") if p.stem.isdigit())


def _as_lists(value: Any) -> Any:
    """Return a tree of settings with its tuples as lists, as a checkpoint holds them."""
    if isinstance(value, Mapping):
        return {name: _as_lists(x) for name, x in value.items()}
    return [_as_lists(x) for x in value] if isinstance(value, list | tuple) else value


def _flatten(node: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return the JSON skeleton of ``node`` and move its tensors into ``arrays``."""
    if isinstance(node, Tensor | np.ndarray):
        arrays[name] = node.detach().cpu().numpy() if isinstance(node, Tensor) else node
        return {"$": "tensor", "name": name}
    if isinstance(node, Mapping):
        pairs = [[key, _flatten(value, f"{name}/{key}", arrays)] for key, value in node.items()]
        return {"$": "dict", "items": pairs}
    if isinstance(node, list | tuple):
        return {"$": "list", "items": [_flatten(v, f"{name}/{i}", arrays) for i, v in enumerate(node)]}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"cannot store {name or 'the root'} of type {type(node).__name__} in a checkpoint")


def _unflatten(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(node, dict):
        return node
    if node["$"] == "tensor":
        return torch.from_numpy(arrays[node["name"]])
    if node["$"] == "list":
        return [_unflatten(v, arrays) for v in node["items"]]
    return {key: _unflatten(value, arrays) for key, value in node["items"]}
