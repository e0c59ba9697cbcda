"""Every launch file parses, and has the one function that ROS 2 looks for. Needs no ROS."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from robot_rl import zoo

FILES = [zoo.find("launch", name) for name in zoo.names("launch")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_has_its_entry_point(path: Path) -> None:
    assert path.name.endswith(".launch.py"), "ros2 launch completes only *.launch.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    entry = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "generate_launch_description"
    ]
    assert len(entry) == 1
    assert not entry[0].args.args


def test_the_robot_can_be_launched() -> None:
    assert "robot.launch" in zoo.names("launch")
