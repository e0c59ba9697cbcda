"""What a robot measures and what it accepts, the same for every driver, simulator and policy.

Knows: names, units and frames of the measured quantities.
Does not know: which robot, which policy, where the numbers come from.

Shapes: ... batch (nothing for one robot, N for N environments) · J joints · A action · K command · O objects.
All arrays are NumPy on a robot, NumPy or torch in simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.contract.arrays import Array


@dataclass(slots=True)
class RobotState:
    """One measurement of a robot; joints in the robot's own order."""

    stamp_s: Array
    """Monotonic time of the measurement [s], float, or shape (...)."""
    joint_pos: Array
    """Joint positions [rad or m], shape (..., J)."""
    joint_vel: Array
    """Joint velocities [rad/s or m/s], shape (..., J)."""
    joint_effort: Array
    """Measured joint torques [N m or N], shape (..., J)."""
    quat_xyzw: Array
    """Orientation of the base (IMU) in a gravity-aligned world, shape (..., 4)."""
    ang_vel_b: Array
    """Angular velocity in the body frame [rad/s], shape (..., 3)."""
    lin_acc_b: Array
    """Specific force in the body frame [m/s^2], +9.81 on z at rest, shape (..., 3)."""
    command: Array
    """The command in force, e.g. (v_x, v_y, yaw rate) [m/s, m/s, rad/s], shape (..., K)."""
    last_action: Array
    """The previous raw action of the policy, zeros after a reset, shape (..., A)."""
    foot_contact: Array | None = None
    """Whether each foot touches the ground, 0 or 1, shape (..., F); None where not measured."""
    base_pos_w: Array | None = None
    """Base position in the world or odometry frame [m], shape (..., 3); None where not measured."""
    lin_vel_b: Array | None = None
    """Base linear velocity in the body frame [m/s], shape (..., 3); None where not measured."""
    tool_pos_b: Array | None = None
    """Tool position in the base frame [m], shape (..., 3); None where there is no tool."""
    tool_quat_xyzw: Array | None = None
    """Tool orientation in the base frame, shape (..., 4); None where there is no tool."""
    object_pos_b: Array | None = None
    """Positions of the task's objects in the base frame, as perception tells them [m], shape (..., O, 3), in the order
    of the contract's ``extra["objects"]``; None where nobody looks."""
    object_quat_xyzw: Array | None = None
    """Orientations of the task's objects in the base frame, shape (..., O, 4); None where nobody looks."""


@dataclass(slots=True)
class JointTarget:
    """What is asked of the joints: ``tau = kp (pos - q) + kd (vel - qd) + effort_ff``, robot order."""

    pos: Array
    """Target positions [rad or m], shape (..., J)."""
    vel: Array
    """Target velocities [rad/s or m/s], shape (..., J)."""
    effort_ff: Array
    """Feed-forward torque [N m or N], shape (..., J)."""
    stiffness: Array
    """Proportional gain kp [N m/rad], shape (..., J)."""
    damping: Array
    """Derivative gain kd [N m s/rad], shape (..., J)."""
