"""Finding content: names, errors that list what exists, folders of the user, spawned processes."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from robot_rl import zoo
from robot_rl.hardware.robot import load_robot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own content folder: the robot ``mule`` and the task ``mule_walk``."""
    folder = tmp_path / "mine"
    (folder / "hardware" / "mule").mkdir(parents=True)
    text = (ROOT / "hardware" / "cartpole" / "robot.toml").read_text(encoding="utf-8")
    (folder / "hardware" / "mule" / "robot.toml").write_text(text.replace('"cartpole"', '"mule"'), encoding="utf-8")
    (folder / "sim" / "tasks").mkdir(parents=True)
    (folder / "sim" / "tasks" / "mule_walk.py").write_text("LEGS = 4\n", encoding="utf-8")
    monkeypatch.setenv("ROBOT_RL_PATH", str(folder))
    return folder


def test_a_checkout_is_its_own_home() -> None:
    assert zoo.home() == ROOT
    assert zoo.find("hardware", "go2") == ROOT / "hardware" / "go2"


def test_every_name_listed_is_found() -> None:
    for room in zoo.ROOMS:
        for name in zoo.names(room):
            assert zoo.find(room, name).exists()


def test_an_unknown_name_lists_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no 'go3' in hardware; it has \['cartpole', 'go2'.*did you mean 'go2'"):
        zoo.find("hardware", "go3")


def test_an_unknown_name_in_a_folder_names_the_folder() -> None:
    with pytest.raises(ValueError, match=r"no 'x' in sim/nowhere; it has \[\]"):
        zoo.find("sim", "nowhere/x")


def test_an_unknown_scene_lists_the_scenes() -> None:
    with pytest.raises(ValueError, match=r"no 'flt\.xml' in sim/scenes; it has \['flat'.*did you mean 'flat'"):
        zoo.find("sim", "scenes/flt.xml")


def test_an_unknown_room_lists_the_rooms() -> None:
    with pytest.raises(
        ValueError, match=r"no room 'kitchen'; the rooms are \['sim', 'policies', 'hardware', 'launch'\]"
    ):
        zoo.names("kitchen")


@pytest.mark.parametrize("name", ["../pyproject.toml", "go2/../../README.md", "/etc/passwd", "", "."])
def test_a_name_cannot_leave_its_room(name: str) -> None:
    with pytest.raises(ValueError, match="must be a path below that folder"):
        zoo.find("hardware", name)


def test_a_robot_in_robot_rl_path_is_found_beside_our_own(extra: Path) -> None:
    assert {"mule", "go2"} <= set(zoo.names("hardware"))
    robot = load_robot("mule")
    assert robot.name == "mule"
    assert robot.mjcf.parent == extra / "hardware" / "mule"


def test_a_users_content_stands_before_our_own(extra: Path) -> None:
    (extra / "hardware" / "go2").mkdir()
    (extra / "hardware" / "go2" / "robot.toml").write_text("", encoding="utf-8")
    assert zoo.find("hardware", "go2") == extra / "hardware" / "go2"


def test_a_folder_without_robot_toml_is_no_robot(extra: Path) -> None:
    (extra / "hardware" / "drafts").mkdir()
    assert "drafts" not in zoo.names("hardware")


def test_a_module_loads_under_the_zoo_also_when_the_path_came_late(extra: Path) -> None:
    module = zoo.load("sim", "tasks/mule_walk")
    assert module.__name__ == "robot_rl.zoo.sim.tasks.mule_walk"
    assert module.LEGS == 4


def test_loading_what_is_no_python_file_says_so(extra: Path) -> None:
    with pytest.raises(ValueError, match="not a Python file"):
        zoo.load("hardware", "go2")


def test_a_module_loads_in_a_spawned_process(extra: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_legs) == 4


def test_a_missing_folder_in_robot_rl_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOT_RL_PATH", os.pathsep.join([str(tmp_path), str(tmp_path / "gone")]))
    with pytest.raises(ValueError, match="gone', which is no folder"):
        zoo.roots()


def _legs() -> int:
    from robot_rl.zoo.sim.tasks import mule_walk  # the import statement, as a pickled task would need it

    return mule_walk.LEGS
