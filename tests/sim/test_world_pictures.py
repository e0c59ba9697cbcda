"""A world with cameras, rendered without a display: what each picture shows, determinism, refusals."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mujoco.batch")

CASES = (
    "pictures_show_the_state_of_their_moment",
    "only_the_copy_that_ended_is_drawn_anew",
    "the_same_seed_gives_the_same_pictures_and_a_restored_world_goes_on",
    "a_contract_carries_the_cameras_and_a_policys_own_are_rendered",
    "what_cannot_see_is_refused",
    "demonstrations_keep_the_pictures_of_their_transitions",
)


@pytest.mark.skipif(
    not any(ctypes.util.find_library(name) for name in ("OSMesa", "EGL")), reason="neither OSMesa nor EGL is installed"
)
def test_a_world_with_cameras() -> None:
    """In one process, which must find its GL by itself."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    code = "import sys; sys.path.insert(0, '.'); from tests.sim import seeing\n" + "".join(
        f"print({name!r}); seeing.{name}()\n" for name in CASES
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert run.stdout.split() == list(CASES)
