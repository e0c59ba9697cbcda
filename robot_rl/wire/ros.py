"""ROS 2 itself: rclpy behind ``Transport``, for robots, where ROS is installed. Runs unchanged on Humble and Jazzy.

Knows: rclpy, how its generated messages hold numbers (arrays, bytes, exact floats).
Does not know: topics, loops. The only file that imports rclpy.
"""

# rclpy comes with ROS 2, from no package index.
# pyright: reportMissingImports=false
from __future__ import annotations

import array
import importlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np

try:
    import rclpy
    from rclpy.context import Context
    from rclpy.duration import Duration
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
except ImportError as error:
    raise ImportError(
        f"the wire 'ros' needs ROS 2 (Humble or later) sourced in this shell: {error}; without ROS use the wire 'dds'"
    ) from error

from robot_rl.wire.layout import MESSAGES, Field, fields_of
from robot_rl.wire.messages import Qos, Topic
from robot_rl.wire.transport import check_type, deliver

M = TypeVar("M")

_TYPECODES = {"uint8": "B", "int32": "i", "float32": "f", "float64": "d"}


class RosTransport:
    """One rclpy node as a ``Transport``: one of its own with a spinning thread, or one that somebody else spins."""

    def __init__(self, *, node: str | Node, namespace: str = "") -> None:
        """Make a node called ``node``, or use a node that is spun elsewhere, such as a lifecycle node.

        Raises:
            ConnectionError: rclpy cannot start.
        """
        self._closed = False
        self._lock = threading.RLock()
        self._publishers: dict[tuple[str, Qos], Any] = {}
        self._subscriptions: list[Any] = []
        self._executor: Any = None
        self._context: Any = None
        if not isinstance(node, str):
            self.node = node
            return
        self._context = Context()
        try:
            rclpy.init(args=None, context=self._context)
            self.node = rclpy.create_node(node, namespace=namespace.strip("/") or None, context=self._context)
        except RuntimeError as error:
            raise ConnectionError(f"cannot start the ROS node {node!r}: {error}") from error
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=f"ros-{node}", daemon=True)
        self._thread.start()

    def advertise(self, topic: Topic[Any]) -> None:
        """See ``Transport``."""
        self._publisher(topic)

    def publish(self, topic: Topic[M], message: M) -> None:
        """See ``Transport``."""
        check_type(topic, message)
        publisher = self._publisher(topic)
        try:
            publisher.publish(to_ros(message))
        except RuntimeError as error:  # rclpy's errors of a context that was shut down derive from it
            raise ConnectionError(f"ROS did not take a message of {topic.name!r}: {error}") from error

    def subscribe(self, topic: Topic[M], on_message: Callable[[M], None]) -> Callable[[], None]:
        """See ``Transport``."""

        def receive(message: Any) -> None:
            if not self._closed:
                deliver(lambda m: on_message(from_ros(m, topic.type)), message, topic.name)

        with self._lock:
            self._check_open()
            kind, profile = _ros_class(topic.type.ROS_TYPE), _profile(topic.reader_qos)  # type: ignore[attr-defined]
            subscription = self.node.create_subscription(kind, topic.name, receive, profile)
            self._subscriptions.append(subscription)
        return lambda: self._forget(subscription)

    def readers(self, topic: Topic[Any]) -> int:
        """See ``Transport``."""
        return int(self._publisher(topic).get_subscription_count())

    def close(self) -> None:
        """See ``Transport``. A node given by the caller stays the caller's, without our publishers."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._executor is None:
                for subscription in self._subscriptions:
                    self.node.destroy_subscription(subscription)
                for publisher in self._publishers.values():
                    self.node.destroy_publisher(publisher)
        if self._executor is None:
            return
        self._executor.shutdown()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        try:
            while not self._closed and self._context.ok():
                self._executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            return  # SIGINT reached rclpy first

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionError("this ROS transport is closed")

    def _publisher(self, topic: Topic[Any]) -> Any:
        with self._lock:
            self._check_open()
            key = (topic.name, topic.offered)
            if key not in self._publishers:
                kind, profile = _ros_class(topic.type.ROS_TYPE), _profile(topic.offered)
                self._publishers[key] = self.node.create_publisher(kind, topic.name, profile)
            return self._publishers[key]

    def _forget(self, subscription: Any) -> None:
        with self._lock:
            if not self._closed and subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                self.node.destroy_subscription(subscription)


def _profile(qos: Qos) -> Any:
    lifespan = {} if qos.lifespan_s is None else {"lifespan": Duration(seconds=qos.lifespan_s)}
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=qos.depth,
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.latched else DurabilityPolicy.VOLATILE,
        **lifespan,
    )


@cache
def _ros_class(ros_type: str) -> Any:
    """Return rclpy's class of a type, e.g. ``sensor_msgs.msg.JointState``.

    Raises:
        ImportError: The package is not built or not sourced.
    """
    package, _, name = ros_type.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def to_ros(message: Any) -> Any:
    """Return a message as rclpy's class of it; sequences of numbers as ``array.array``, which rclpy takes whole."""
    out = _ros_class(message.ROS_TYPE)()
    for field in fields_of(type(message)):
        setattr(out, field.name, _to_ros(getattr(message, field.name), field))
    return out


def _to_ros(value: Any, field: Field) -> Any:
    if field.is_array:
        return value.copy() if field.length else array.array(_TYPECODES[field.base], value.tobytes())
    if field.length is not None:
        return [to_ros(v) if "/" in field.base else v for v in value]
    if "/" in field.base:
        return to_ros(value)
    if field.base == "byte":
        return bytes([value])
    if field.base == "string":
        return str(value)
    if field.base == "bool":
        return bool(value)
    return float(value) if field.base.startswith("float") else int(value)


def from_ros(message: Any, cls: type[M]) -> M:
    """Return rclpy's message as ours; its arrays are read-only copies."""
    return cls(*(_from_ros(getattr(message, f.name), f) for f in fields_of(cls)))


def _from_ros(value: Any, field: Field) -> Any:
    if field.is_array:
        numbers = np.array(value, field.base)
        numbers.flags.writeable = False
        return numbers
    if field.length is not None:
        return tuple(from_ros(v, MESSAGES[field.base]) if "/" in field.base else v for v in value)
    if "/" in field.base:
        return from_ros(value, MESSAGES[field.base])
    return value[0] if field.base == "byte" else value
