"""``robot-rl train`` from pictures: demonstrations, learning, a policy that passes ``robot-rl check``, resumption."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mujoco.batch")

TASK = '''
"""Seen by a very small camera."""
import dataclasses
from robot_rl import zoo
from robot_rl.contract.spec import ImageTerm


def task():
    lift = zoo.load("sim", "tasks/panda_lift_pixels").task()
    return dataclasses.replace(lift, name="panda_peep", cameras=(ImageTerm("wrist", 16, 16),))
'''
RECIPE = '''
"""Very small."""
from robot_rl.learn import encoder, pixels, rlpd
from robot_rl.learn.recipe import Prior, Recipe


def recipe():
    learner = rlpd.Config(
        critics=2, hidden=(16,), actor_hidden=(16,), utd=1, batch=8, start_steps=4, capacity=200, log_every=10,
        save_every=10,
    )
    eyes = encoder.Config(channels=(4, 4), strides=(2, 2), features=8)
    config = pixels.Config(rlpd=learner, encoder=eyes, offline_blocks=2, total_steps=20)
    prior = Prior(expert="panda_lift", demonstrations=1)
    return Recipe(task="panda_peep", config=config, algorithm="pixels", num_envs=2, threads=1, prior=prior)
'''


RUN = """
import sys
from robot_rl.cli.main import main
for words in {commands!r}:
    assert main(words) == 0, words
    print("--", flush=True)
"""


@pytest.mark.skipif(
    not any(ctypes.util.find_library(name) for name in ("OSMesa", "EGL")), reason="neither OSMesa nor EGL is installed"
)
@pytest.mark.timeout(1800)
def test_from_the_recipe_to_a_checked_policy(tmp_path: Path) -> None:
    """In one process of its own, which chooses a GL by itself."""
    for at, text in (("sim/tasks/panda_peep.py", TASK), ("policies/recipes/panda_peep_pixels.py", RECIPE)):
        (tmp_path / at).parent.mkdir(parents=True)
        (tmp_path / at).write_text(text)
    run = tmp_path / "run"
    train = ["train", "panda_peep_pixels", "--out", str(run), "--no-progress"]
    commands = [train, ["check", str(run / "policy.onnx"), "--json"], [*train, "--total-steps", "30", "--resume"]]
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(commands=commands)],
        env=environment | {"ROBOT_RL_PATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("policy:") == 2
    assert json.loads(done.stdout.split("--")[1])["accepted"]
    about = json.loads((run / "run.json").read_text())
    assert about["algorithm"] == "pixels" and list(about["prior"]) == ["1 demonstrations of panda_lift"]
    assert (run / "checkpoints" / "00000030.npz").is_file()
