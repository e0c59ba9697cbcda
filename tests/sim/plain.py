"""Plain MuJoCo C, one ``MjData`` per copy and nothing of the backends: what parity is measured against.

It needs no ``mujoco.batch``, so it runs beside engines that want an older MuJoCo.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robot_rl.contract.arrays import rotate_inverse
from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.addresses import CONTACT_N, Addresses, find_addresses
from robot_rl.sim.scene import build_model


def drive_plain(
    robot: Robot, start: dict[str, np.ndarray], pos: np.ndarray, effort: np.ndarray, substeps: int
) -> list[RobotState]:
    """Run targets (T, N, J) with the robot's own gains, and return the state after each tick."""
    model = build_model(robot)
    at = find_addresses(model, robot)
    _set_servos(model, robot, at)
    copies = [_placed(model, robot, at, {name: value[i] for name, value in start.items()}) for i in range(len(pos[0]))]
    states: list[RobotState] = []
    for p, f in zip(pos, effort, strict=True):
        for data, target, push in zip(copies, p, f, strict=True):
            data.ctrl[:] = target[at.motor_joint]
            data.qfrc_applied[at.qvel[at.motor_joint]] = push[at.motor_joint]  # these stay far from any limit
            for _ in range(substeps):
                mujoco.mj_step(model, data)
        states.append(_state(robot, at, copies))
    return states


def _set_servos(model: mujoco.MjModel, robot: Robot, at: Addresses) -> None:
    kp, kd = np.asarray(robot.stiffness)[at.motor_joint], np.asarray(robot.damping)[at.motor_joint]
    limit = np.asarray(robot.effort)[at.motor_joint]
    model.actuator_gainprm[:, 0] = kp
    model.actuator_biasprm[:, 1], model.actuator_biasprm[:, 2] = -kp, -kd
    model.actuator_forcerange[:, 0], model.actuator_forcerange[:, 1] = -limit, limit


def _placed(model: mujoco.MjModel, robot: Robot, at: Addresses, start: dict[str, np.ndarray]) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[at.qpos] = start.get("joint_pos", robot.default_pos)
    if robot.floating_base:
        data.qpos[:3] = start.get("base_pos_w", [0.0, 0.0, robot.default_height_m])
        data.qpos[3:7] = [1.0, 0.0, 0.0, 0.0]
        data.qvel[3:6] = start.get("ang_vel_b", np.zeros(3))
    return data


def _state(robot: Robot, at: Addresses, copies: list[mujoco.MjData]) -> RobotState:
    row = lambda name: np.stack([np.array(getattr(data, name)) for data in copies])
    qpos, qvel, zeros = row("qpos"), row("qvel"), np.zeros((len(copies), 3))
    state = RobotState(
        stamp_s=row("time"),
        joint_pos=qpos[:, at.qpos],
        joint_vel=qvel[:, at.qvel],
        joint_effort=np.zeros((len(copies), len(robot.joints))),
        quat_xyzw=np.tile([0.0, 0.0, 0.0, 1.0], (len(copies), 1)),
        ang_vel_b=zeros,
        lin_acc_b=zeros,
        command=zeros[:, :0],
        last_action=zeros[:, :0],
    )
    if robot.floating_base:
        state.base_pos_w, state.quat_xyzw, state.ang_vel_b = qpos[:, :3], qpos[:, [4, 5, 6, 3]], qvel[:, 3:6]
        state.lin_vel_b = rotate_inverse(state.quat_xyzw, qvel[:, :3])
    if robot.feet:
        state.foot_contact = (row("sensordata")[:, at.touch] > CONTACT_N).astype(np.float64)
    return state
