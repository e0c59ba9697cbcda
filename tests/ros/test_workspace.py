"""The ROS workspace without ROS: messages equal the dataclasses, packages and launch files are whole."""

from __future__ import annotations

import ast
import dataclasses
import py_compile
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags")
from rosbags.typesys import get_types_from_msg

from robot_rl.data.transition import Mode, Who
from robot_rl.wire import cdr, layout

ROOT = Path(__file__).parents[2]
SRC = ROOT / "ros2_ws" / "src"
LAUNCH = ROOT / "launch"
MSGS = sorted((SRC / "robot_rl_msgs" / "msg").glob("*.msg"))
OURS = {name for name in layout.MESSAGES if name.startswith("robot_rl_msgs/")}
PACKAGES = sorted(p.parent for p in SRC.glob("*/package.xml"))
FILES = sorted(LAUNCH.glob("*.launch.py"))


def test_every_message_has_a_file_and_is_built() -> None:
    """One .msg per declared message of ours, each listed for the generator."""
    assert {f"robot_rl_msgs/msg/{p.stem}" for p in MSGS} == OURS
    listed = re.findall(r'"msg/(\w+)\.msg"', (SRC / "robot_rl_msgs" / "CMakeLists.txt").read_text())
    assert listed == sorted(p.stem for p in MSGS)


@pytest.mark.parametrize("path", MSGS, ids=lambda p: p.stem)
def test_message_files_equal_the_dataclasses(path: Path) -> None:
    """Names, types and order of the fields are those that the codec uses, so bytes and type hashes are too."""
    ros_type = f"robot_rl_msgs/msg/{path.stem}"
    text = path.read_text(encoding="ascii")
    parsed = get_types_from_msg(text, ros_type)[ros_type][1]
    ours = get_types_from_msg(layout.as_msg_text(layout.MESSAGES[ros_type]), ros_type)[ros_type][1]
    assert parsed == ours
    assert [name for name, _ in parsed] == [f.name for f in cdr.fields(ros_type)]


@pytest.mark.parametrize(("prefix", "enum"), [("MODE_", Mode), ("WHO_", Who)])
def test_constants_equal_the_enums(prefix: str, enum: Any) -> None:
    """What a ROS user compares `mode` and `who` with is what the runtime means."""
    text = (SRC / "robot_rl_msgs" / "msg" / "PolicyStatus.msg").read_text()
    found = {name: int(value) for name, value in re.findall(rf"^uint8 {prefix}(\w+)=(\d+)$", text, re.MULTILINE)}
    assert found == {member.name: int(member) for member in enum}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_packages_are_described_by_format_3(package: Path) -> None:
    """Name, version, description, maintainer, licence and build type are there; the build files fit the type."""
    root = ET.parse(package / "package.xml").getroot()
    assert root.get("format") == "3"
    assert root.findtext("name") == package.name
    assert re.fullmatch(r"\d+\.\d+\.\d+", root.findtext("version") or "")
    assert root.findtext("license") == "Apache-2.0"
    maintainer = root.find("maintainer")
    assert maintainer is not None
    assert "@" in maintainer.attrib["email"]
    assert (root.findtext("description") or "").endswith(".")
    build = root.findtext("export/build_type")
    if build == "ament_python":
        assert (package / "resource" / package.name).is_file()
        assert (package / "setup.py").is_file()
        assert f"$base/lib/{package.name}" in (package / "setup.cfg").read_text()
    else:
        assert build == "ament_cmake"
        text = (package / "CMakeLists.txt").read_text()
        assert f"project({package.name})" in text
        assert text.rstrip().endswith("ament_package()")


def test_messages_depend_on_what_they_use() -> None:
    """Every package that a .msg names is declared, found and passed to the generator."""
    used = {m for p in MSGS for m in re.findall(r"^(\w+)/\w+", p.read_text(), re.MULTILINE)}
    manifest = ET.parse(SRC / "robot_rl_msgs" / "package.xml").getroot()
    assert {d.text for d in manifest.findall("depend")} == used
    cmake = (SRC / "robot_rl_msgs" / "CMakeLists.txt").read_text()
    assert all(f"find_package({name} REQUIRED)" in cmake for name in used)
    assert set(re.search(r"DEPENDENCIES (.*)", cmake).group(1).split()) == used  # pyright: ignore[reportOptionalMemberAccess]


def test_nodes_depend_on_every_package_they_speak() -> None:
    """The node's manifest names rclpy and the package of every message that is declared."""
    manifest = ET.parse(SRC / "robot_rl_nodes" / "package.xml").getroot()
    declared = {d.text for d in manifest.findall("exec_depend")}
    assert {name.split("/")[0] for name in layout.MESSAGES} - {"builtin_interfaces"} <= declared
    assert {"rclpy", "lifecycle_msgs"} <= declared


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_launch_files_declare_and_describe_their_arguments(path: Path) -> None:
    """Every argument used is declared, every one declared is used and described; nothing here imports a neighbour."""
    py_compile.compile(str(path), doraise=True)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in imported} <= {"__future__", "launch", "launch_ros", "lifecycle_msgs"}
    assert any(isinstance(n, ast.FunctionDef) and n.name == "generate_launch_description" for n in tree.body)
    declared = _calls(tree, "DeclareLaunchArgument")
    for call in declared:
        description = next(k.value for k in call.keywords if k.arg == "description")
        assert isinstance(description, ast.Constant)
        assert str(description.value).endswith(".")
    names = {_text(call.args[0]) for call in declared}
    used = {_text(c.args[0]) for c in _calls(tree, "LaunchConfiguration") if isinstance(c.args[0], ast.Constant)}
    for node in ast.walk(tree):  # tuples of names that a comprehension turns into LaunchConfigurations
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "names":
            used |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)}
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "typed":
            assert isinstance(node.value, ast.Dict)
            used |= {_text(key) for key in node.value.keys if key is not None}
    assert used == names


def test_the_node_declares_what_the_launch_file_sets() -> None:
    """Parameters of robot.launch.py and of the defaults file are those that the node declares, no fewer."""
    node = ast.parse((SRC / "robot_rl_nodes" / "robot_rl_nodes" / "policy_node.py").read_text())
    declared = {_text(c.args[0]) for c in _calls(node, "declare_parameter")}
    launch = ast.parse((LAUNCH / "robot.launch.py").read_text())
    arguments = {_text(c.args[0]) for c in _calls(launch, "DeclareLaunchArgument")}
    assert declared == arguments - {"namespace", "log_level", "autostart"}
    yaml = (SRC / "robot_rl_bringup" / "config" / "policy_node.yaml").read_text()
    assert set(re.findall(r"^ {4}(\w+):", yaml, re.MULTILINE)) <= declared


def test_twin_launch_passes_on_arguments_that_exist() -> None:
    """What twin.launch.py gives to robot.launch.py is declared there."""
    robot = {
        _text(c.args[0]) for c in _calls(ast.parse((LAUNCH / "robot.launch.py").read_text()), "DeclareLaunchArgument")
    }
    twin = {
        _text(c.args[0]) for c in _calls(ast.parse((LAUNCH / "twin.launch.py").read_text()), "DeclareLaunchArgument")
    }
    assert twin <= robot
    assert "driver" in robot


@pytest.mark.parametrize(("launch", "verb"), [("learner", "finetune"), ("console", "console")])
def test_commands_in_launch_files_exist(launch: str, verb: str) -> None:
    """Flags that a launch file gives to `robot-rl` are fields of that verb's arguments."""
    import importlib

    module = importlib.import_module(f"robot_rl.cli.{verb}")
    flags = {f.name for f in dataclasses.fields(module.Args)}
    tree = ast.parse((LAUNCH / f"{launch}.launch.py").read_text())
    command = next(k.value for c in _calls(tree, "ExecuteProcess") for k in c.keywords if k.arg == "cmd")
    assert isinstance(command, ast.List)
    words = [e.value for e in command.elts if isinstance(e, ast.Constant)]
    assert words[:2] == ["robot-rl", verb]
    given = {str(w)[2:].removeprefix("no-").replace("-", "_") for w in words if str(w).startswith("--")}
    assert given <= flags


def test_bringup_installs_every_launch_file() -> None:
    """The package globs the folder where the launch files are."""
    text = (SRC / "robot_rl_bringup" / "CMakeLists.txt").read_text()
    folder = re.search(r'\$\{CMAKE_CURRENT_SOURCE_DIR\}/([./\w]+)"', text)
    assert folder is not None
    assert (SRC / "robot_rl_bringup" / folder.group(1)).resolve() == LAUNCH
    assert {p.name for p in FILES} == {f"{n}.launch.py" for n in ("robot", "twin", "learner", "console")}


def _calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Every call of a function or method called ``name``."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
    ]


def _text(node: ast.AST) -> str:
    assert isinstance(node, ast.Constant)
    return str(node.value)
