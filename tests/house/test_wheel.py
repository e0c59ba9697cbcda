"""The wheel alone: built, installed with the light core into a clean environment, used far from any checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from robot_rl import zoo

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"robots": ("hardware", ""), "tasks": ("sim", "tasks"), "recipes": ("policies", "recipes")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _do(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment that holds the wheel and its core dependencies only."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    _do(sys.executable, "-m", "pip", "--python", str(folder), "install", "-qq", "--no-compile", str(wheel))
    return folder / "bin"


def test_the_wheel_ships_the_content_folders_inside_the_package(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in files}
    assert tops == {"robot_rl", next(top for top in tops if top.endswith(".dist-info"))}
    assert "robot_rl/zoo/hardware/go2/robot.toml" in files
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]
    assert [name for name in files if name.startswith("robot_rl/zoo/") and name.endswith("__init__.py")] == [
        "robot_rl/zoo/__init__.py"
    ]


def test_the_core_brings_no_torch_simulator_or_middleware(clean: Path) -> None:
    heavy = ("torch", "mujoco", "gymnasium", "cyclonedds", "onnx", "matplotlib", "textual")
    code = f"import importlib.util as u; print([m for m in {heavy} if u.find_spec(m)])"
    assert _do(str(clean / "python"), "-c", code).strip() == "[]"


def test_list_shows_what_the_checkout_has(clean: Path) -> None:
    found = json.loads(_do(str(clean / "robot-rl"), "list", "--json"))
    for kind, (room, folder) in ROOMS.items():
        assert [row["name"] for row in found[kind]] == zoo.names(room, folder)
        assert all(row["about"] for row in found[kind])


def test_content_imports_under_the_zoo(clean: Path) -> None:
    code = "import importlib.util as u; print(u.find_spec('robot_rl.zoo.sim.tasks.go2_velocity').origin)"
    assert "site-packages/robot_rl/zoo/sim/tasks" in _do(str(clean / "python"), "-c", code)


def test_a_users_robot_is_found_beside_the_wheels_own(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hardware" / "mule"
    folder.mkdir(parents=True)
    (folder / "robot.toml").write_text((ROOT / "hardware" / "cartpole" / "robot.toml").read_text(encoding="utf-8"))
    found = json.loads(_do(str(clean / "robot-rl"), "list", "--json", ROBOT_RL_PATH=str(tmp_path)))
    assert {"mule", "go2"} <= {row["name"] for row in found["robots"]}


def test_a_benchmark_is_refused_where_there_is_no_checkout(clean: Path) -> None:
    done = _call(str(clean / "robot-rl"), "bench", "env")
    assert done.returncode == 2
    assert "source checkout" in done.stderr


def test_training_names_the_extra_that_it_needs(clean: Path) -> None:
    done = _call(str(clean / "robot-rl"), "train", "go2_walk_ppo")
    assert done.returncode == 2
    assert 'pip install "robot-rl[' in done.stderr
    assert "Traceback" not in done.stderr


def test_check_accepts_the_released_policy_and_refuses_another_robots(clean: Path) -> None:
    policies = sorted((ROOT / "policies" / "released").glob("go2_*.onnx"))
    assert policies, "no go2 policy is released"
    for policy in policies:
        assert _call(str(clean / "robot-rl"), "check", str(policy), "--robot", "go2").returncode == 0
        refused = _call(str(clean / "robot-rl"), "check", str(policy), "--robot", "cartpole")
        assert refused.returncode == 1
        assert "FR_hip_joint" in refused.stdout + refused.stderr


def _call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("ROBOT_RL_PATH", "PYTHONPATH")} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=env, cwd="/")


def _do(*command: str, **environment: str) -> str:
    done = _call(*command, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
