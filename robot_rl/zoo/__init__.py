"""Find the content folders: ``sim``, ``policies``, ``hardware``, ``launch``.

They are looked for, in this order, in every folder named in ``ROBOT_RL_PATH``, in the checkout that this package
stands in, and in the wheel (``robot_rl/zoo/<room>``). A module ``sim/tasks/go2_velocity.py`` imports as
``robot_rl.zoo.sim.tasks.go2_velocity``, in spawned workers too.

Knows: folders and names. Does not know: what is in the files. Standard library only.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

ROOMS = ("sim", "policies", "hardware", "launch")
_PACKAGE = Path(__file__).resolve().parent


def roots() -> list[Path]:
    """Return the folders that hold rooms, the user's own first."""
    named = [Path(p).expanduser().resolve() for p in os.environ.get("ROBOT_RL_PATH", "").split(os.pathsep) if p]
    checkout = _PACKAGE.parent.parent
    home = [checkout] if (checkout / "pyproject.toml").is_file() and (checkout / "hardware").is_dir() else [_PACKAGE]
    return named + home


__path__ = [*(str(p) for p in roots()), str(_PACKAGE)]


def find(room: str, name: str) -> Path:
    """Return the file or folder called ``name`` in ``room``, e.g. ``find("hardware", "go2")``.

    Raises:
        ValueError: The room or the name does not exist; the error lists those that do.
    """
    _check_room(room)
    for root in roots():
        path = root / room / name
        for candidate in (path, path.with_name(path.name + ".py"), path.with_name(path.name + ".onnx")):
            if candidate.exists():
                return candidate
    folder = str(Path(name).parent) if "/" in name else ""
    raise ValueError(f"no {name!r} in {room}; it has {names(room, folder)}")


def load(room: str, name: str) -> ModuleType:
    """Import the module ``name`` of ``room``, e.g. ``load("sim", "tasks/go2_velocity")``.

    Raises:
        ValueError: The room or the name does not exist; the error lists those that do.
    """
    find(room, name)
    return importlib.import_module(f"robot_rl.zoo.{room}.{name.replace('/', '.')}")


def names(room: str, folder: str = "") -> list[str]:
    """List what ``room`` (or a folder in it) holds: robots, tasks, recipes, released policies, launch files."""
    _check_room(room)
    found: set[str] = set()
    for root in roots():
        here = root / room / folder if folder not in ("", ".") else root / room
        if not here.is_dir():
            continue
        for path in here.iterdir():
            if path.name.startswith((".", "_")):
                continue
            if path.suffix in (".py", ".onnx"):
                found.add(path.stem)
            elif path.is_dir() and (room != "hardware" or (path / "robot.toml").is_file()):
                found.add(path.name)
    return sorted(found)


def _check_room(room: str) -> None:
    if room not in ROOMS:
        raise ValueError(f"no room {room!r}; the rooms are {list(ROOMS)}")
