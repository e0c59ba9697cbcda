"""Start a robot: the policy node, configured and activated; `ros2 launch robot_rl_bringup robot.launch.py policy:=…`.

Works by path too: `ros2 launch launch/robot.launch.py policy:=go2_walk_ppo`.
"""

from __future__ import annotations

import lifecycle_msgs.msg
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

ARGUMENTS = (
    DeclareLaunchArgument("policy", description="A policy file (.onnx), or the name of a released policy."),
    DeclareLaunchArgument("robot", default_value="", description="Robot in hardware/; empty: the policy's own."),
    DeclareLaunchArgument("driver", default_value="hardware", description="hardware, twin (simulated) or mirror."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
    DeclareLaunchArgument(
        "record", default_value="", description="Folder of the episode store; empty records nothing."
    ),
    DeclareLaunchArgument("scene", default_value="flat", description="Scene of the twin."),
    DeclareLaunchArgument("stamped_cmd_vel", default_value="false", description="Whether cmd_vel is a TwistStamped."),
    DeclareLaunchArgument("on_command_loss", default_value="damp", description="damp or zero, when cmd_vel stops."),
    DeclareLaunchArgument("episode_s", default_value="60.0", description="Longest recorded episode [s]."),
    DeclareLaunchArgument("priority", default_value="0", description="SCHED_FIFO priority 1 to 99; 0: default."),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
    DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the node at once."),
)


def generate_launch_description() -> LaunchDescription:
    """Return the node and the two transitions that bring it up."""
    typed = {"stamped_cmd_vel": bool, "episode_s": float, "priority": int}
    names = ("policy", "robot", "driver", "record", "scene", "on_command_loss", *typed)
    node = LifecycleNode(
        package="robot_rl_nodes",
        executable="policy_node",
        name="policy_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[{n: ParameterValue(LaunchConfiguration(n), value_type=typed.get(n, str)) for n in names}],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, node, *_autostart(node)])


def _autostart(node: LifecycleNode) -> list[RegisterEventHandler | EmitEvent]:
    """Return what configures the node now and activates it once that worked; a refusal is said and stays."""
    asked = IfCondition(LaunchConfiguration("autostart"))
    configure = ChangeState(
        lifecycle_node_matcher=matches_action(node),
        transition_id=lifecycle_msgs.msg.Transition.TRANSITION_CONFIGURE,
    )
    activate = ChangeState(
        lifecycle_node_matcher=matches_action(node),
        transition_id=lifecycle_msgs.msg.Transition.TRANSITION_ACTIVATE,
    )
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[EmitEvent(event=activate)],
    )
    refused = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="unconfigured",
        entities=[LogInfo(msg="the policy was refused; the reason is in the node's log above")],
    )
    return [
        RegisterEventHandler(configured, condition=asked),
        RegisterEventHandler(refused),
        EmitEvent(event=configure, condition=asked),
    ]
