"""How a robot's motors differ from ideal servos: the torque that speed leaves them, and a link that is late.

Torque-speed line, a DC motor at its highest voltage. Driving, the torque limit is the peak torque ``effort`` up to the
knee speed and falls along a line to 0 at the no-load speed; beyond it the motor brakes along the same line, for its
back-EMF exceeds the supply. Braking, the limit is the peak torque. With s = effort / (no_load - knee) and
tau0 = s no_load:

    -min(effort, tau0 + s v)  <=  torque  <=  min(effort, tau0 - s v), never beyond +-effort             [N m, rad/s]

These are the limits of ``DCMotor`` in Isaac Lab 2.3 (saturation_effort = tau0, velocity_limit = no_load); legged_gym
has the constant limit alone.

In MuJoCo it is exact in every substep without a line of Python. Both limits have one slope, so that

    clip(servo, -tau0 - s v, tau0 - s v)  =  clip(servo + s v, -tau0, tau0) - s v:

the servo gets s less damping and the force range tau0, a second actuator on the joint gives -s v, and the joint's
``actuatorfrcrange`` holds the sum to the peak torque. Motor strength scales effort, s and tau0 alike, not the speeds.

The delay of the link is MuJoCo's own delay of controls: a buffer of past controls per actuator, read some time back.

Knows: a robot's numbers, MuJoCo's model specification. Does not know: copies, tasks, states.

Shapes: M motors (joints less passive joints, in order).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.hardware.robot import Robot

LINE = "/line"
"""Ends the name of an actuator that makes a torque-speed line."""


@dataclass(frozen=True, slots=True)
class Motors:
    """What a task asks of the simulated motors; the default are servos with a constant torque limit."""

    torque_speed: bool = False
    """Whether torque is limited by the robot's torque-speed line."""
    max_delay: int = 0
    """Longest delay of the link that the backend can simulate [physics substeps]."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Torque limits of the motors, each (M,); see the module for their meaning."""

    effort: np.ndarray
    """Peak torque, of the sum on the joint [N m]."""
    servo: np.ndarray
    """Range of the servo: tau0, or the peak torque where there is no line [N m]."""
    slope: np.ndarray
    """s of the line, 0 where there is none [N m s/rad]."""

    def at(self, speed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest torque at the joints' speeds, (..., M) [rad/s]: (..., M) each [N m]."""
        fall, effort = self.slope * speed, self.effort
        return np.clip(-self.servo - fall, -effort, effort), np.clip(self.servo - fall, -effort, effort)


def motor_limits(robot: Robot, motors: Motors) -> Limits:
    """Return the limits of the robot's motors.

    Raises:
        ValueError: The line is asked for and robot.toml has none.
    """
    rows = [robot.index(name) for name in robot.actuated]
    effort = np.asarray(robot.effort)[rows]
    if not motors.torque_speed:
        return Limits(effort, effort, np.zeros(len(rows)))
    if not robot.no_load_speed:
        raise ValueError(
            f"robot {robot.name!r} has no torque-speed line; give [joints] of its robot.toml the keys 'knee_speed' and "
            "'no_load_speed', or leave torque_speed off"
        )
    knee, no_load = np.asarray(robot.knee_speed)[rows], np.asarray(robot.no_load_speed)[rows]
    slope = effort / (no_load - knee)
    return Limits(effort, slope * no_load, slope)


def fit_motors(spec: Any, robot: Robot, motors: Motors) -> None:
    """Put torque-speed lines and buffers for late controls into a specification of the robot's model.

    Raises:
        ValueError: The line is asked for and robot.toml has none, or a motor is geared in the MJCF.
    """
    import mujoco

    servos = list(spec.actuators)
    if motors.max_delay:
        for servo in servos:
            servo.nsample = motors.max_delay + 1
            servo.delay = spec.option.timestep  # buffers need one; every copy gets its own
    if not motors.torque_speed:
        return
    limits = motor_limits(robot, motors)
    effort, slope = (dict(zip(robot.actuated, x.tolist(), strict=True)) for x in (limits.effort, limits.slope))
    for servo in servos:
        joint = spec.joint(servo.target)
        if servo.gear[0] != 1.0:
            raise ValueError(f"actuator {servo.name!r} of {robot.mjcf} is geared {servo.gear[0]}; a line needs 1")
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.actfrcrange = [-effort[joint.name], effort[joint.name]]
        line = spec.add_actuator(name=servo.name + LINE, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        # everything is said, for the MJCF's default actuator would speak for what is not
        line.dyntype = mujoco.mjtDyn.mjDYN_NONE
        line.gaintype, line.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
        line.gainprm[:], line.biasprm[:], line.gear[:] = 0.0, 0.0, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        line.biasprm[2] = -slope[joint.name]
        line.forcelimited = line.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE


def delay_s(substeps: np.ndarray, dt_s: float) -> np.ndarray:
    """Return the delay that MuJoCo is told [s], for whole ``substeps``.

    Half a substep less than meant: then the newest control that is old enough is the right one for any rounding.
    """
    return np.where(substeps > 0, (substeps - 0.5) * dt_s, 0.0)
