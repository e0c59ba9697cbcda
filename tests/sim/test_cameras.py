"""Cameras render without a display: where they look, how many pictures, and what is said where there is no GL.

Each case runs in a process of its own, because MuJoCo chooses its GL when it is imported.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys

import pytest

pytest.importorskip("mujoco.batch")

GL = next((gl for gl, library in (("osmesa", "OSMesa"), ("egl", "EGL")) if ctypes.util.find_library(library)), "")
START = """
import numpy as np
from robot_rl import zoo
from robot_rl.sim.backends import make_physics
from robot_rl.sim.cameras import Cameras
task = zoo.load("sim", "tasks/panda_lift").task()
physics = make_physics(task, num_envs=2, threads=1)
"""


def run(code: str, gl: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MUJOCO_GL": gl}
    return subprocess.run([sys.executable, "-c", START + code], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(not GL, reason="neither OSMesa nor EGL is installed")
def test_every_copy_is_seen_by_every_camera_and_the_cube_moves_in_the_picture() -> None:
    """The cube is the only red thing; in copy 1 it stands 10 cm further left, which is right of the front camera."""
    found = run(
        """
pos = np.array([[[0.48, 0.0, 0.02]], [[0.48, 0.1, 0.02]]])
physics.reset(np.arange(2), {"object_pos": pos})
cameras = Cameras(physics, ("front", "wrist"), height=96, width=128)
seen = cameras.look()
assert {name: (x.shape, x.dtype.name) for name, x in seen.items()} == {
    name: ((2, 96, 128, 3), "uint8") for name in ("front", "wrist")}
red = lambda x: (x[..., 0].astype(int) > 2 * x[..., 1].astype(int) + 30)
columns = [np.nonzero(red(x))[1].mean() for x in seen["front"]]
assert red(seen["front"][0]).sum() > 10, red(seen["front"][0]).sum()
assert columns[1] > columns[0] + 5, columns
assert np.array_equal(cameras.look([1])["wrist"][0], seen["wrist"][1])
cameras.close()
""",
        GL,
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.skipif(not GL, reason="neither OSMesa nor EGL is installed")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("Cameras(physics, ('top',))", "no cameras ['top'] on robot 'panda'; it has ['front', 'side', 'wrist']"),
        ("Cameras(physics, ('front',), height=5000)", "pictures of 128 x 5000 do not fit; the scene allows 1280 x 720"),
    ],
)
def test_what_cannot_be_rendered_is_said(call: str, message: str) -> None:
    assert message in run(call, GL).stderr


def test_without_gl_the_cure_is_named() -> None:
    """GLFW needs a display, and there is none."""
    if sys.platform != "linux":
        pytest.skip("other platforms always have a GL")
    code = "import os; os.environ.pop('DISPLAY', None); os.environ.pop('WAYLAND_DISPLAY', None)\n"
    found = run(code + "Cameras(physics, ('front',))", "glfw")
    assert "no GL context for pictures can be opened" in found.stderr
    assert "MUJOCO_GL=osmesa or MUJOCO_GL=egl" in found.stderr
