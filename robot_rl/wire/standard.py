"""The messages of ROS 2 that robot_rl speaks, field by field as ROS declares them.

Knows: names and units of std_msgs, geometry_msgs, sensor_msgs, nav_msgs, diagnostic_msgs.
Does not know: our own messages and the topics (``messages``), bytes, middleware.
"""

from __future__ import annotations

import time
from dataclasses import field

import numpy as np

from robot_rl.wire.layout import Byte, Float64, Float64Seq, Float64x9, Float64x36, Int32, UInt32, message


@message("builtin_interfaces/msg/Time")
class Time:
    """A point in Unix time."""

    sec: Int32 = 0
    nanosec: UInt32 = 0


@message("std_msgs/msg/Header")
class Header:
    """When and in which frame a message was measured."""

    stamp: Time = Time()
    frame_id: str = ""


def stamped(frame_id: str = "", *, wall_s: float | None = None) -> Header:
    """Return a header of the given Unix time [s], or of now."""
    ns = time.time_ns() if wall_s is None else round(wall_s * 1e9)
    return Header(Time(ns // 1_000_000_000, ns % 1_000_000_000), frame_id)


def seconds(stamp: Time) -> float:
    """Return a stamp as Unix time [s]."""
    return stamp.sec + stamp.nanosec * 1e-9


@message("std_msgs/msg/String")
class String:
    """A text."""

    data: str = ""


@message("std_msgs/msg/Bool")
class Bool:
    """A truth value."""

    data: bool = False


@message("geometry_msgs/msg/Vector3")
class Vector3:
    """A vector in the frame of its message."""

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0


@message("geometry_msgs/msg/Point")
class Point:
    """A position [m]."""

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0


@message("geometry_msgs/msg/Quaternion")
class Quaternion:
    """An orientation, xyzw, unit."""

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0
    w: Float64 = 1.0


@message("geometry_msgs/msg/Twist")
class Twist:
    """Linear [m/s] and angular [rad/s] velocity."""

    linear: Vector3 = Vector3()
    angular: Vector3 = Vector3()


@message("geometry_msgs/msg/TwistStamped")
class TwistStamped:
    """A twist with its time and frame."""

    header: Header = Header()
    twist: Twist = Twist()


@message("geometry_msgs/msg/Pose")
class Pose:
    """Position [m] and orientation."""

    position: Point = Point()
    orientation: Quaternion = Quaternion()


def _zeros(n: int) -> np.ndarray:
    return np.zeros(n)


@message("geometry_msgs/msg/PoseWithCovariance")
class PoseWithCovariance:
    """A pose and its row-major 6 x 6 covariance."""

    pose: Pose = Pose()
    covariance: Float64x36 = field(default_factory=lambda: _zeros(36))


@message("geometry_msgs/msg/TwistWithCovariance")
class TwistWithCovariance:
    """A twist and its row-major 6 x 6 covariance."""

    twist: Twist = Twist()
    covariance: Float64x36 = field(default_factory=lambda: _zeros(36))


@message("nav_msgs/msg/Odometry")
class Odometry:
    """Pose in ``header.frame_id``, twist in ``child_frame_id``."""

    header: Header = Header()
    child_frame_id: str = ""
    pose: PoseWithCovariance = field(default_factory=PoseWithCovariance)
    twist: TwistWithCovariance = field(default_factory=TwistWithCovariance)


@message("sensor_msgs/msg/JointState")
class JointState:
    """Joints by name; position [rad or m], velocity [rad/s or m/s], effort [N m or N], each (J,) or empty."""

    header: Header = Header()
    name: tuple[str, ...] = ()
    position: Float64Seq = field(default_factory=lambda: _zeros(0))
    velocity: Float64Seq = field(default_factory=lambda: _zeros(0))
    effort: Float64Seq = field(default_factory=lambda: _zeros(0))


@message("sensor_msgs/msg/Imu")
class Imu:
    """Orientation, angular velocity [rad/s] and specific force [m/s^2] with row-major 3 x 3 covariances."""

    header: Header = Header()
    orientation: Quaternion = Quaternion()
    orientation_covariance: Float64x9 = field(default_factory=lambda: _zeros(9))
    angular_velocity: Vector3 = Vector3()
    angular_velocity_covariance: Float64x9 = field(default_factory=lambda: _zeros(9))
    linear_acceleration: Vector3 = Vector3()
    linear_acceleration_covariance: Float64x9 = field(default_factory=lambda: _zeros(9))


@message("diagnostic_msgs/msg/KeyValue")
class KeyValue:
    """One named value, as text."""

    key: str = ""
    value: str = ""


@message("diagnostic_msgs/msg/DiagnosticStatus")
class DiagnosticStatus:
    """Health of one part: level 0 ok, 1 warn, 2 error, 3 stale."""

    level: Byte = 0
    name: str = ""
    message: str = ""
    hardware_id: str = ""
    values: tuple[KeyValue, ...] = ()


@message("diagnostic_msgs/msg/DiagnosticArray")
class DiagnosticArray:
    """Health of several parts."""

    header: Header = Header()
    status: tuple[DiagnosticStatus, ...] = ()
