"""``robot-rl eval`` of a policy that sees, in a process of its own: MuJoCo chooses its GL once."""

from __future__ import annotations

import ctypes.util
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco.batch")

from robot_rl.contract.spec import ImageTerm
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import encoder, rlpd
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.pixels import Config, make_seer
from robot_rl.zoo import load

GL = any(ctypes.util.find_library(name) for name in ("OSMesa", "EGL"))


@pytest.mark.skipif(not GL, reason="neither OSMesa nor EGL is installed")
def test_a_policy_that_sees_is_measured_on_a_task_without_cameras_whose_gl_nobody_chose(tmp_path: Path) -> None:
    task = dataclasses.replace(load("sim", "tasks/panda_lift_pixels").task(), cameras=(ImageTerm("front", 16, 24),))
    contract = task.contract(load_robot("panda"))
    eyes = encoder.Config(channels=(4, 4), strides=(2, 2), features=6)
    cfg = Config(rlpd=rlpd.Config(critics=2, hidden=(16,), actor_hidden=(16,)), encoder=eyes)
    actor = make_seer(cfg, obs_size=contract.obs_size, num_actions=8, shape=(16, 24, 3)).actor
    export_policy(actor, contract, tmp_path / "sees.onnx", provenance=Provenance(task.name, seed=0, steps=1))
    words = ["eval", str(tmp_path / "sees.onnx"), "--task", "panda_lift", "--episodes", "1", "--threads", "1", "--json"]
    hidden = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "robot_rl.cli.main", *words]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["episodes"] == 1
