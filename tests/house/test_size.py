"""Files and functions stay short; files are named after a noun of the domain and say what they are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("robot_rl", "hardware", "sim", "policies", "launch", "benchmarks", "tests", "ros2_ws")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
CONTENT = ("hardware", "sim", "policies", "launch")

FILE_LINES = 350
FUNCTION_LINES = 50
TRAIN_LINES = 90
VAGUE = {"utils", "util", "helpers", "helper", "common", "core", "base", "misc", "types", "manager"}
SHADOWING = {"mujoco", "torch", "launch", "zarr", "numpy", "onnxruntime", "gymnasium", "rclpy", "cyclonedds"}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_files_to_measure() -> None:
    assert len(FILES) > 50


def test_files_keep_the_line_budget() -> None:
    lines = {_id(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    too_long = {name: count for name, count in lines.items() if count > FILE_LINES}
    assert not too_long, f"split by noun what has more than {FILE_LINES} lines: {too_long}"


def test_functions_keep_the_line_budget() -> None:
    too_long = [
        f"{_id(path)}:{node.lineno} {node.name}() has {_length(node)} lines of code"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _length(node) > (TRAIN_LINES if node.name == "train" else FUNCTION_LINES)
    ]
    assert not too_long, too_long


def test_modules_say_what_they_are() -> None:
    texts = {_id(path): path.read_text(encoding="utf-8") for path in FILES}
    silent = [name for name, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
    assert not silent, f"no docstring in {silent}"


def test_library_modules_are_named_after_nouns_of_the_domain() -> None:
    library = [path.relative_to(ROOT).with_suffix("") for path in FILES if path.is_relative_to(ROOT / "robot_rl")]
    vague = [str(path) for path in library if VAGUE & set(path.parts)]
    assert not vague, f"a newcomer cannot guess what is in {vague}"
    shadowing = [str(path) for path in library if path.name in SHADOWING]
    assert not shadowing, f"shadow a package when run as a script: {shadowing}"


@pytest.mark.parametrize("room", CONTENT)
def test_a_content_folder_is_no_package(room: str) -> None:
    assert (ROOT / room).is_dir()
    assert not list((ROOT / room).rglob("__init__.py"))


def test_the_measure_leaves_the_docstring_out_and_counts_the_signature() -> None:
    source = 'def f(\n    a,\n):\n    """One\n\n    two.\n    """\n    b = a\n    return b\n'
    assert _length(ast.parse(source).body[0]) == 5


def _length(node: ast.stmt) -> int:
    """Lines of a function from ``def`` to its end, without its docstring."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    first = node.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    docstring = first.end_lineno - first.lineno + 1 if documented and first.end_lineno else 0
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1 - docstring
