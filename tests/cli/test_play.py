"""robot-rl play: a video without a display, and clear refusals."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli.play import Args, run, tour
from robot_rl.contract.spec import Command
from robot_rl.sim.display import choose_gl, write_video

GO2 = Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx"
needs_gl = pytest.mark.skipif(
    not (ctypes.util.find_library("OSMesa") or ctypes.util.find_library("EGL")), reason="no software GL here"
)


@needs_gl
def test_a_video_has_the_pictures_that_were_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import imageio.v2 as imageio

    out = tmp_path / "walk.mp4"
    args = Args(GO2, command=(0.5, 0.0, 0.0), seconds=0.4, out=out, fps=10.0, size=(64, 48))
    assert run(args) == 0
    assert "4 pictures" in capsys.readouterr().out
    with imageio.get_reader(out) as reader:
        pictures = [np.asarray(picture) for picture in reader]
    assert len(pictures) == 4 and pictures[0].shape == (48, 64, 3)
    assert pictures[0].std() > 5.0
    assert [p.name for p in tmp_path.iterdir()] == ["walk.mp4"]


def test_without_a_command_every_one_is_shown_up_and_down() -> None:
    command = Command(("x", "w"), (-1.0, -2.0), (1.5, 2.0))
    np.testing.assert_array_equal(tour(command, ()), [[1.5, 0], [-1, 0], [0, 2], [0, -2], [0, 0]])
    np.testing.assert_array_equal(tour(command, (0.1, 0.2)), [[0.1, 0.2]])
    with pytest.raises(ValueError, match=r"has 1 numbers; this policy takes 2: \['x', 'w'\]"):
        tour(command, (0.1,))
    assert tour(Command((), (), ()), ()).shape == (1, 0)


def test_without_display_or_gl_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(ValueError, match=r"neither OSMesa nor EGL.*apt-get install libosmesa6"):
        choose_gl()
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "libEGL.so" if name == "EGL" else None)
    assert choose_gl() == "egl"


def test_a_broken_recording_leaves_no_file(tmp_path: Path) -> None:
    def pictures():
        yield np.zeros((48, 64, 3), np.uint8)
        raise RuntimeError("the robot is gone")

    with pytest.raises(RuntimeError, match="gone"):
        write_video(tmp_path / "a.mp4", pictures(), fps=10.0)
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "b.mp4", [], fps=10.0)
    with pytest.raises(ValueError, match=r"is no \.mp4"):
        write_video(tmp_path / "c.gif", [], fps=10.0)
    with pytest.raises(ValueError, match="ffmpeg refuses 63x47 pictures"):
        write_video(tmp_path / "d.mp4", [np.zeros((47, 63, 3), np.uint8)], fps=10.0)
    assert not list(tmp_path.iterdir())


def test_impossible_times_are_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        run(Args(GO2, seconds=0.0))
