"""List the robots, tasks, recipes and released policies that this installation finds.

Reads files as text and ONNX metadata only, so it needs no torch and no simulator.

Knows: what one line about each of them says.
Does not know: how any of them is built or run.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robot_rl import zoo
from robot_rl.contract.golden import read_bundle
from robot_rl.hardware.robot import read_robot


@dataclass(frozen=True)
class Args:
    """List robots, tasks, recipes and released policies."""

    json: bool = False
    """Print one JSON object instead of tables."""


def run(args: Args) -> int:
    """Print everything found; a file that cannot be read is listed with the reason, and the exit code is 1."""
    found = inventory()
    if args.json:
        print(json.dumps(found))
    else:
        console = Console(soft_wrap=True)
        for room, rows in found.items():
            console.print(_table(room, rows))
    return 1 if any("error" in row for rows in found.values() for row in rows) else 0


def inventory() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each room, each row with at least ``name`` and either ``about`` or ``error``."""
    return {
        "robots": [_robot(name) for name in zoo.names("hardware")],
        "tasks": [_module("sim", f"tasks/{name}") for name in zoo.names("sim", "tasks")],
        "recipes": [_module("policies", f"recipes/{name}") for name in zoo.names("policies", "recipes")],
        "policies": [_policy(f"released/{name}") for name in zoo.names("policies", "released")],
    }


def _robot(name: str) -> dict[str, Any]:
    try:
        robot = read_robot(zoo.find("hardware", name))
    except ValueError as error:
        return {"name": name, "error": str(error)}
    return {"name": name, "about": robot.title, "joints": len(robot.joints), "motors": len(robot.actuated)}


def _module(room: str, name: str) -> dict[str, Any]:
    path = zoo.find(room, name)
    row: dict[str, Any] = {"name": Path(name).name}
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))) or ""
    except SyntaxError as error:
        return {**row, "error": f"{path}, line {error.lineno}: {error.msg}"}
    return {**row, "about": text.partition("\n")[0].replace("``", "")}


def _policy(name: str) -> dict[str, Any]:
    path = zoo.find("policies", f"{name}.onnx")
    row: dict[str, Any] = {"name": Path(name).name}
    try:
        bundle = read_bundle(path)
    except ValueError as error:
        return {**row, "error": str(error)}
    contract = bundle.contract
    return {
        **row,
        "about": f"{contract.task} at {contract.rate_hz:g} Hz",
        "robot": contract.robot,
        "task": contract.task,
        "obs": contract.obs_size,
        "actions": contract.num_actions,
        "contract": contract.fingerprint,
        "sha256": bundle.file_sha256,
        "provenance": bundle.provenance,
    }


COLUMNS: dict[str, tuple[str, ...]] = {
    "robots": ("name", "joints", "motors", "about"),
    "tasks": ("name", "about"),
    "recipes": ("name", "about"),
    "policies": ("name", "robot", "obs", "actions", "sha256", "about"),
}
"""What the tables show of each row; ``--json`` has everything."""


def _table(room: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=room, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in COLUMNS[room]:
        table.add_column(column, overflow="fold")
    for row in rows:
        shown = {
            **row,
            "about": row.get("about") or f"unreadable: {row.get('error')}",
            "sha256": row.get("sha256", "")[:12],
        }
        table.add_row(*(Text(str(shown.get(column, ""))) for column in COLUMNS[room]))  # a unit in [] is no markup
    return table
