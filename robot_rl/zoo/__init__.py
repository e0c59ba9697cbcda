"""Find the content folders: ``sim``, ``policies``, ``hardware``, ``launch``.

They are looked for, in this order, in every folder named in ``ROBOT_RL_PATH``, in the checkout that this package
stands in, and in the wheel (``robot_rl/zoo/<room>``). A module ``sim/tasks/go2_velocity.py`` imports as
``robot_rl.zoo.sim.tasks.go2_velocity``, in spawned workers too.

Knows: folders and names. Does not know: what is in the files. Standard library only.
"""

from __future__ import annotations

import importlib
import os
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from types import ModuleType

ROOMS = ("sim", "policies", "hardware", "launch")
"""The content folders."""

_PACKAGE = Path(__file__).resolve().parent


def roots() -> list[Path]:
    """Return the folders that hold rooms, the user's own first.

    Raises:
        ValueError: ``ROBOT_RL_PATH`` names a folder that does not exist.
    """
    named = [Path(p).expanduser().resolve() for p in os.environ.get("ROBOT_RL_PATH", "").split(os.pathsep) if p]
    for path in named:
        if not path.is_dir():
            raise ValueError(f"ROBOT_RL_PATH names {str(path)!r}, which is no folder")
    return [*named, home()]


def home() -> Path:
    """Return the checkout that this package stands in, or the package itself where it came as a wheel."""
    checkout = _PACKAGE.parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() and (checkout / "hardware").is_dir() else _PACKAGE


def find(room: str, name: str) -> Path:
    """Return the file or folder called ``name`` in ``room``, e.g. ``find("hardware", "go2")``.

    A Python file or a policy may be named without its ending.

    Raises:
        ValueError: The room or the name does not exist; the error lists those that do.
    """
    _check_room(room)
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"{name!r} is no name in {room}: it must be a path below that folder")
    for root in roots():
        path = root / room / pure
        for candidate in (path, path.with_name(path.name + ".py"), path.with_name(path.name + ".onnx")):
            if candidate.exists():
                return candidate
    folder = "" if str(pure.parent) == "." else str(pure.parent)
    known = names(room, folder) or names(room, folder, (pure.suffix,))
    near = get_close_matches(pure.stem, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no {pure.name!r} in {'/'.join(filter(None, (room, folder)))}; it has {known}{hint}")


def find_policy(policy: str | os.PathLike[str]) -> Path:
    """Return the file of a policy: ``policy`` itself where it is a path, else the released policy of that name.

    Raises:
        ValueError: There is no released policy of that name; the error lists those that exist.
    """
    path = Path(policy)
    if path.suffix == ".onnx" or path.exists():
        return path
    return find("policies", f"released/{policy}")


def load(room: str, name: str) -> ModuleType:
    """Import the module ``name`` of ``room``, e.g. ``load("sim", "tasks/go2_velocity")``.

    Raises:
        ValueError: The room or the name does not exist (the error lists those that do), or it is no Python file.
    """
    path = find(room, name)
    if path.suffix != ".py":
        raise ValueError(f"{name!r} in {room} is {path}, not a Python file")
    refresh()
    dotted = str(PurePosixPath(name).with_suffix("") if name.endswith(".py") else PurePosixPath(name))
    return importlib.import_module(f"robot_rl.zoo.{room}.{dotted.replace('/', '.')}")


def names(room: str, folder: str = "", endings: tuple[str, ...] = (".py", ".onnx")) -> list[str]:
    """List what ``room`` (or a folder in it) holds: robots, tasks, recipes, released policies, launch files.

    Files are named without their endings, which must be among ``endings``.
    """
    _check_room(room)
    found: set[str] = set()
    for root in roots():
        here = root / room / folder
        if not here.is_dir():
            continue
        for path in here.iterdir():
            if path.name.startswith((".", "_")):
                continue
            if path.suffix in endings:
                found.add(path.stem)
            elif path.is_dir() and (room != "hardware" or folder or (path / "robot.toml").is_file()):
                found.add(path.name)
    return sorted(found)


def refresh() -> None:
    """Point this package's ``__path__`` at ``roots()`` again; ``ROBOT_RL_PATH`` may have changed since the import."""
    __path__[:] = _search_path()


def _check_room(room: str) -> None:
    if room not in ROOMS:
        raise ValueError(f"no room {room!r}; the rooms are {list(ROOMS)}")


def _search_path() -> list[str]:
    return [*dict.fromkeys(map(str, [*roots(), _PACKAGE]))]


__path__ = _search_path()
