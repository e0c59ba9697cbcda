"""Say what this machine can do: packages and extras, rendering, ROS 2, timing, content.

Knows: how each ability shows on a machine, and the cure where it is missing.
Does not know: what the abilities are used for.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from importlib import metadata

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robot_rl import zoo

DISTRIBUTION = "robot-rl"
TICK_S = 0.005
LATE_WARNING_S = 0.002
"""A 200 Hz loop that wakes later than this in one of a hundred ticks will report overruns."""


@dataclass(frozen=True)
class Args:
    """Check this machine; the exit code is 1 where the core itself is incomplete."""

    ticks: int = 200
    """Wake-ups of the timing check, 5 ms apart; 0 leaves it out."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    about: str
    good: bool
    """Whether it is there; what is missing here may not be needed on this machine."""
    detail: str
    needed: bool = False
    """Whether nothing works without it."""


def run(args: Args) -> int:
    """Print what was found."""
    if args.ticks < 0:
        raise ValueError(f"ticks is {args.ticks}; it must not be negative")
    found = [_python(), *_packages(), _gl(), _ros(), _content()]
    if args.ticks:
        found.append(_timing(args.ticks))
    if args.json:
        print(json.dumps([asdict(finding) for finding in found]))
    else:
        Console(soft_wrap=True).print(_table(found))
    return 1 if any(finding.needed and not finding.good for finding in found) else 0


def _python() -> Finding:
    version = platform.python_version()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("python", True, f"{version} on {platform.machine()}, {cores} cores", needed=True)


def _packages() -> list[Finding]:
    """One finding for the core and one per extra, read from this installation's own requirements."""
    groups: dict[str, list[str]] = {"core": []}
    for requirement in metadata.requires(DISTRIBUTION) or []:
        spec, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        group = extra.group(1) if extra else "core"
        name = re.split(r"[\s<>=!~\[(]", spec.strip(), maxsplit=1)[0]
        if name != DISTRIBUTION and _applies(marker):
            groups.setdefault(group, []).append(name)
    return [_group(group, names) for group, names in groups.items() if names and group != "all"]


def _applies(marker: str) -> bool:
    """Whether the Python version in a requirement's marker is this one; other conditions count as met."""
    here = tuple(int(part) for part in platform.python_version_tuple()[:2])
    for operator, version in re.findall(r"python_version\s*(<|>=)\s*['\"](\d+\.\d+)['\"]", marker):
        bound = tuple(int(part) for part in version.split("."))
        if (here < bound) != (operator == "<"):
            return False
    return True


def _group(group: str, names: list[str]) -> Finding:
    versions: dict[str, str] = {}
    missing: list[str] = []
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    present = ", ".join(f"{name} {version}" for name, version in versions.items())
    cure = f'pip install "{DISTRIBUTION}[{group}]"' if group != "core" else f"pip install {DISTRIBUTION}"
    detail = f"without {', '.join(missing)}: {cure}" if missing else present
    return Finding("core" if group == "core" else f"[{group}]", not missing, detail, needed=group == "core")


def _gl() -> Finding:
    found = [name for name in ("OSMesa", "EGL") if ctypes.util.find_library(name)]
    chosen = os.environ.get("MUJOCO_GL", "not set")
    cure = "none; Debian: apt-get install libosmesa6 libegl1"
    return Finding("rendering", bool(found), f"{', '.join(found)} (MUJOCO_GL {chosen})" if found else cure)


def _ros() -> Finding:
    if importlib.util.find_spec("rclpy"):
        return Finding("ROS 2", True, os.environ.get("ROS_DISTRO", "rclpy without ROS_DISTRO"))
    return Finding("ROS 2", False, "no rclpy; --wire dds speaks to ROS 2 without it")


def _content() -> Finding:
    counts = (
        f"{len(zoo.names('hardware'))} robots, {len(zoo.names('sim', 'tasks'))} tasks, "
        f"{len(zoo.names('policies', 'recipes'))} recipes, {len(zoo.names('policies', 'released'))} policies"
    )
    return Finding("content", True, f"{counts} in {', '.join(map(str, zoo.roots()))}")


def _timing(ticks: int) -> Finding:
    """How late absolute deadlines are met on this machine, now."""
    late_s: list[float] = []
    due = time.monotonic() + TICK_S
    for _ in range(ticks):
        time.sleep(max(0.0, due - time.monotonic()))
        late_s.append(time.monotonic() - due)
        due = max(due + TICK_S, time.monotonic())
    p99_s = sorted(late_s)[min(ticks - 1, int(0.99 * ticks))]
    detail = f"wakes {1e6 * p99_s:.0f} us late (99th percentile of {ticks}), {1e6 * max(late_s):.0f} us at worst"
    return Finding("timing", p99_s <= LATE_WARNING_S, detail)


def _table(found: list[Finding]) -> Table:
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    for finding in found:
        table.add_row("ok" if finding.good else "no", escape(finding.about), escape(finding.detail))
    return table
