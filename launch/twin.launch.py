"""Start a simulated robot: robot.launch.py with the twin as its driver."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription

ARGUMENTS = (
    DeclareLaunchArgument("policy", description="A policy file (.onnx), or the name of a released policy."),
    DeclareLaunchArgument("robot", default_value="", description="Robot in hardware/; empty: the policy's own."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
    DeclareLaunchArgument(
        "record", default_value="", description="Folder of the episode store; empty records nothing."
    ),
    DeclareLaunchArgument("scene", default_value="flat", description="File of sim/scenes that the twin stands in."),
)


def generate_launch_description() -> LaunchDescription:
    """Return robot.launch.py, which lies beside this file, driven by the twin."""
    names = ("policy", "robot", "namespace", "record", "scene")
    robot = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "robot.launch.py"])),
        launch_arguments={"driver": "twin", **{name: LaunchConfiguration(name) for name in names}}.items(),
    )
    return LaunchDescription([*ARGUMENTS, robot])
