"""Who may import whom: the contracts in pyproject.toml, and what really gets loaded."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
ROBOT_SIDE = ("zoo", "contract", "hardware", "data", "runtime")
HEAVY = (
    "torch",
    "mujoco",
    "rclpy",
    "cyclonedds",
    "rosbags",
    "gymnasium",
    "onnx",
    "onnxscript",
    "matplotlib",
    "textual",
)
CONTENT = sorted(p for room in ("hardware", "sim", "policies") for p in (ROOT / room).rglob("*.py"))


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--config", str(folder / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_layers_hold() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("runtime", "import torch"),
        ("contract", "from robot_rl.hardware import robot"),
        ("hardware", "import mujoco"),
        ("learn", "from robot_rl.sim import physics"),
        ("wire", "import rclpy"),
        ("cli", "import pickle"),
    ],
)
def test_a_lazy_import_across_a_wall_is_caught(where: str, line: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "robot_rl", tmp_path / "robot_rl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "robot_rl" / where / "intruder.py").write_text(f"def f():\n    {line}\n", encoding="utf-8")
    done = _lint(tmp_path)
    assert done.returncode == 1
    assert f"robot_rl.{where}.intruder" in done.stdout


def test_the_robot_side_loads_nothing_heavy() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ROBOT_SIDE
        for path in sorted((ROOT / "robot_rl" / package).rglob("*.py"))
    ]
    assert len(modules) > 10
    code = f"import importlib, sys\nfor m in {modules}: importlib.import_module(m)\n"
    assert _run(code + f"print(sorted(set({HEAVY}) & set(sys.modules)))") == "[]"


def test_the_help_page_loads_nothing_heavy_and_no_parser() -> None:
    code = "import sys\nfrom robot_rl.cli.main import main\nassert main(['--help']) == 0\n"
    assert _run(code + f"print(sorted({{'tyro', 'numpy', *{HEAVY}}} & set(sys.modules)))").splitlines()[-1] == "[]"


def test_content_imports_the_library_but_no_other_content() -> None:
    rooms = ("hardware", "sim", "policies", "launch")
    crossings = [
        f"{path.relative_to(ROOT)} imports {name}; let it say the name instead"
        for path in CONTENT
        for name in _imports(path)
        if name.startswith("robot_rl.zoo.") or name.partition(".")[0] in rooms
    ]
    assert not crossings, crossings


def test_tasks_and_recipes_need_no_package_beyond_numpy_and_torch() -> None:
    allowed = {"robot_rl", "numpy", "torch", "tyro", *sys.stdlib_module_names}
    foreign = {
        str(path.relative_to(ROOT)): sorted(outside)
        for path in CONTENT
        if not path.is_relative_to(ROOT / "hardware")
        and (outside := {name.partition(".")[0] for name in _imports(path)} - allowed)
    }
    assert not foreign, foreign


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
