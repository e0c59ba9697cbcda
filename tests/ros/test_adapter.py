"""The rclpy adapter: its API against the other transports without ROS; its conversions with ROS."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from robot_rl.wire import layout
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.transport import Loopback, Transport

SOURCE = Path(__file__).parents[2] / "robot_rl" / "wire" / "ros.py"
TREE = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 10))
HAS_ROS = importlib.util.find_spec("rclpy") is not None

HUMBLE_AND_JAZZY = {
    "rclpy": {"init", "create_node"},
    "rclpy.context": {"Context"},
    "rclpy.duration": {"Duration"},
    "rclpy.executors": {"ExternalShutdownException", "SingleThreadedExecutor"},
    "rclpy.lifecycle": {"Node", "State", "TransitionCallbackReturn"},
    "rclpy.node": {"Node"},
    "rclpy.qos": {"DurabilityPolicy", "HistoryPolicy", "QoSProfile", "ReliabilityPolicy"},
}
"""What the adapter and the node may use: names that both distributions have."""


def _methods(tree: ast.AST, name: str) -> dict[str, list[str]]:
    cls = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name)
    return {n.name: [a.arg for a in n.args.args] for n in cls.body if isinstance(n, ast.FunctionDef)}


def test_the_adapter_has_the_methods_of_a_transport() -> None:
    """Names and arguments are those of the protocol, read from the source so that it needs no ROS."""
    wanted = {n: m for n, m in vars(Transport).items() if callable(m) and not n.startswith("_")}
    methods = _methods(TREE, "RosTransport")
    assert set(wanted) <= set(methods)
    for name, method in wanted.items():
        assert methods[name] == list(method.__code__.co_varnames[: method.__code__.co_argcount])
    assert set(wanted) <= set(dir(Loopback))


@pytest.mark.parametrize("path", [SOURCE, *SOURCE.parents[2].glob("ros2_ws/src/*/*/policy_node.py")])
def test_only_names_of_both_distributions_are_imported(path: Path) -> None:
    """A name that only one ROS distribution has must not creep in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rclpy"):
            assert {a.name for a in node.names} <= HUMBLE_AND_JAZZY[node.module or ""]


def test_every_array_type_has_a_typecode() -> None:
    """Each sequence of numbers in a declared message can be handed to rclpy whole."""
    assigned = next(
        n.value for n in TREE.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "_TYPECODES"
    )
    codes = ast.literal_eval(assigned)
    used = {f.base for cls in layout.MESSAGES.values() for f in layout.fields_of(cls) if f.is_array}
    assert used <= set(codes)


@pytest.mark.skipif(HAS_ROS, reason="ROS is installed")
def test_without_ros_the_error_says_what_to_do() -> None:
    """Asking for the wire 'ros' without ROS names the alternative."""
    from robot_rl.wire.transport import open_transport

    sys.modules.pop("robot_rl.wire.ros", None)
    with pytest.raises(ImportError, match=r"ROS 2.*sourced.*'dds'"):
        open_transport("ros", node="x")


@pytest.mark.skipif(not HAS_ROS, reason="rclpy is not installed")
@pytest.mark.parametrize("topic", msg.TOPICS, ids=lambda t: t.type.__name__)
def test_messages_survive_rclpys_classes(topic: msg.Topic[object]) -> None:
    """Ours to rclpy's and back is the same message, where its package is built."""
    from robot_rl.wire.ros import from_ros, to_ros

    try:
        there = to_ros(topic.type())
    except ImportError as error:
        pytest.skip(f"not built here: {error}")
    assert from_ros(there, topic.type) == topic.type()


@pytest.mark.skipif(not HAS_ROS, reason="rclpy is not installed")
def test_rclpy_gives_the_golden_bytes() -> None:
    """A message of ours, converted and serialised by rclpy itself, is what our own codec writes."""
    from rclpy.serialization import serialize_message

    from robot_rl.wire import cdr
    from robot_rl.wire.ros import to_ros

    message = std.JointState(std.stamped("base"), ("a", "b"), [1.0, 2.0], effort=[3.0])
    assert cdr.encode(message).startswith(bytes(serialize_message(to_ros(message))))
