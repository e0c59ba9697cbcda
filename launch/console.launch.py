"""Open the operator's console in a terminal window of its own; without a screen run `robot-rl console` by hand."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the robot's topics."),
    DeclareLaunchArgument("wire", default_value="ros", description="ros, or dds without ROS."),
    DeclareLaunchArgument("terminal", default_value="xterm -e", description="Terminal that runs the console."),
)


def generate_launch_description() -> LaunchDescription:
    """Return the console; a launch file has no keyboard, so it runs in a terminal."""
    console = ExecuteProcess(
        cmd=[
            "robot-rl",
            "console",
            "--wire",
            LaunchConfiguration("wire"),
            "--namespace",
            LaunchConfiguration("namespace"),
        ],
        prefix=LaunchConfiguration("terminal"),
        name="console",
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, console])
