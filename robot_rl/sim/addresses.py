"""Where a robot's joints, motors, feet and sensors stand in a compiled MuJoCo model, found by name.

Knows: names in MJCF, the order of the robot's joints. Does not know: backends, states.

Shapes: J joints (robot order) · M motors (J less passive joints) · F feet.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl.hardware.robot import Robot
from robot_rl.sim.actuator import LINE

CONTACT_N = 1.0
"""Normal force from which a foot counts as touching [N]."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Indices into the arrays of a model and its data."""

    qpos: np.ndarray
    """Of the joints' positions, (J,)."""
    qvel: np.ndarray
    """Of the joints' velocities, (J,)."""
    motor_joint: np.ndarray
    """Joint of each motor, (M,); the first M actuators are their servos."""
    model_joint: np.ndarray
    """The same joints by their index in the model, (M,)."""
    acc: np.ndarray
    """Columns of the accelerometer in ``sensordata``, (3,), or (0,) on a fixed base."""
    touch: np.ndarray
    """Columns of the feet's touch sensors in ``sensordata``, (F,)."""
    feet: np.ndarray
    """Geoms of the feet, (F,)."""
    ground: np.ndarray
    """Geoms whose friction is the ground's: those of the world, and the feet."""
    base: int = 1
    """Body that carries the rest."""


def find_addresses(model: mujoco.MjModel, robot: Robot) -> Addresses:
    """Find them all.

    Raises:
        ValueError: A joint that is not passive has no actuator, or the actuators are in another order.
    """
    joints = [model.joint(name) for name in robot.joints]
    servos = [i for i in range(model.nu) if not model.actuator(i).name.endswith(LINE)]
    by_joint = {int(model.actuator_trnid[i, 0]): i for i in servos}
    motors = [(j, by_joint[joint.id]) for j, joint in enumerate(joints) if joint.id in by_joint]
    missing = [name for j, name in enumerate(robot.joints) if j not in dict(motors) and name not in robot.passive]
    if missing:
        raise ValueError(f"{robot.mjcf} has no actuator for the joints {missing} of robot {robot.name!r}")
    if [actuator for _, actuator in motors] != list(range(len(servos))):
        raise ValueError(f"{robot.mjcf} must list its actuators in the order of the joints in robot.toml")
    feet = np.array([model.geom(foot).id for foot in robot.feet], dtype=int)
    floor = [i for i in range(model.ngeom) if model.geom_bodyid[i] == 0]
    return Addresses(
        qpos=np.array([int(j.qposadr[0]) for j in joints]),
        qvel=np.array([int(j.dofadr[0]) for j in joints]),
        motor_joint=np.array([j for j, _ in motors]),
        model_joint=np.array([joints[j].id for j, _ in motors]),
        acc=_sensor_columns(model, "imu_acc") if robot.floating_base else np.zeros(0, int),
        touch=np.array([int(model.sensor(f"{f}_touch").adr[0]) for f in robot.feet], dtype=int),
        feet=feet,
        ground=np.array([*floor, *feet], dtype=int),
    )


def _sensor_columns(model: mujoco.MjModel, name: str) -> np.ndarray:
    sensor = model.sensor(name)
    start = int(sensor.adr[0])
    return np.arange(start, start + int(sensor.dim[0]))
