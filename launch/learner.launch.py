"""Start a learner that follows a robot's episode store and offers improved policies over ROS."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

ARGUMENTS = (
    DeclareLaunchArgument("recipe", description="Recipe in policies/recipes, e.g. go2_tune_rlpd."),
    DeclareLaunchArgument("policy", description="The policy file (.onnx) to start from."),
    DeclareLaunchArgument("episodes", description="Episode store of the robot; followed while it grows."),
    DeclareLaunchArgument("inbox", description="Folder that gets the improved policies."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the robot's topics."),
    DeclareLaunchArgument("wire", default_value="ros", description="ros, or dds where the learner has no ROS."),
)


def generate_launch_description() -> LaunchDescription:
    """Return the learner as a process of its own; it needs robot-rl[train] in the shell's Python."""
    learner = ExecuteProcess(
        cmd=[
            "robot-rl",
            "finetune",
            LaunchConfiguration("recipe"),
            "--policy",
            LaunchConfiguration("policy"),
            "--episodes",
            LaunchConfiguration("episodes"),
            "--inbox",
            LaunchConfiguration("inbox"),
            "--namespace",
            LaunchConfiguration("namespace"),
            "--wire",
            LaunchConfiguration("wire"),
            "--no-progress",
        ],
        name="learner",
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, learner])
