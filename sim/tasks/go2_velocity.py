"""Unitree Go2 follows velocity commands on flat ground, seeing only what the real robot measures.

Rewards are legged_gym's and Isaac Lab's velocity terms; weights are per second.
"""

from __future__ import annotations

from robot_rl.contract.spec import Command
from robot_rl.sim import terms as t
from robot_rl.sim.task import Commands, Obs, Push, Range, Reward, Task

HIPS = (0, 3, 6, 9)
ALL = tuple(range(12))


def task() -> Task:
    """Return the training task; ``play`` and ``eval`` switch noise, pushes and randomisation off."""
    return Task(
        name="go2_velocity",
        robot="go2",
        obs={
            "base_ang_vel": Obs(scale=0.25, noise=0.2),
            "projected_gravity": Obs(noise=0.05),
            "velocity_commands": Obs(),
            "joint_pos_rel": Obs(noise=0.01),
            "joint_vel_rel": Obs(scale=0.05, noise=1.0),
            "last_action": Obs(),
        },
        privileged={"base_lin_vel": t.base_lin_vel, "base_height": t.base_height, "foot_contact": t.foot_contact},
        rewards=rewards(),
        dones={"fallen": t.fallen(max_tilt_rad=1.0, min_height_m=0.14)},
        action_scale=0.5,
        commands=Commands(
            Command(("lin_vel_x", "lin_vel_y", "ang_vel_z"), (-1.0, -0.5, -1.0), (1.0, 0.5, 1.0)),
            resample_s=(4.0, 8.0),
            zero_fraction=0.1,
        ),
        resets={
            "joint_pos": Range(-0.15, 0.15),
            "joint_vel": Range(-0.5, 0.5),
            "yaw": Range(-3.14, 3.14),
            "lin_vel_w": Range((-0.3, -0.3, 0.0), (0.3, 0.3, 0.0)),
            "ang_vel_b": Range(-0.3, 0.3),
        },
        push=Push(every_s=(5.0, 9.0), lin_vel=0.5, ang_vel=0.4),
        randomize={
            "payload_kg": Range(-1.0, 2.0),
            "com_offset_m": Range(-0.03, 0.03),
            "friction": Range(0.5, 1.25),
            "motor_strength": Range(0.85, 1.15),
            "joint_damping": Range(0.5, 2.0),
        },
        delay_substeps=(0, 2),
    )


def rewards() -> dict[str, Reward]:
    """Return the reward terms with their weights per second."""
    return {
        "track_lin_vel_xy": Reward(t.track_lin_vel_xy(sigma=0.45), 2.0),
        "progress": Reward(t.progress, 1.0),
        "track_ang_vel_z": Reward(t.track_ang_vel_z(sigma=0.45), 1.0),
        "alive": Reward(t.alive, 0.5),
        "lin_vel_z": Reward(t.lin_vel_z, -1.0),
        "ang_vel_xy": Reward(t.ang_vel_xy, -0.05),
        "flat_orientation": Reward(t.flat_orientation, -2.0),
        "joint_torques": Reward(t.joint_torques, -1e-4),
        "joint_acc": Reward(t.joint_acc, -2.5e-7),
        "action_rate": Reward(t.action_rate, -0.05),
        "joint_limits": Reward(t.joint_limits, -2.0),
        "hip_deviation": Reward(t.joint_deviation(HIPS), -0.15),
        "stand_still": Reward(t.joint_deviation(ALL, standing_only=True), -0.3),
        "feet_air_time": Reward(t.feet_air_time(threshold_s=0.1), 0.3, recorded=False),
        "feet_slip": Reward(t.feet_slip, -0.1, recorded=False),
    }
