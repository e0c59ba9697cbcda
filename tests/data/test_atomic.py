"""Files written whole: a failure leaves the old file and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.data.atomic import replacing, write_whole


def test_the_folder_is_made_and_text_is_utf8(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.txt", "±0.1")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "±0.1".encode()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    write_whole(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as hidden:
        hidden.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hidden_name_can_end_as_a_writer_wants(tmp_path: Path) -> None:
    with replacing(tmp_path / "film.mp4", suffix=".mp4") as hidden:
        assert hidden.suffix == ".mp4" and hidden.name.startswith(".")
        hidden.write_bytes(b"film")
    assert (tmp_path / "film.mp4").read_bytes() == b"film"
