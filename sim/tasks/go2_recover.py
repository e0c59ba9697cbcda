"""Unitree Go2 gets up: dropped in any attitude with its legs anywhere, it stands in its default pose.

The reset policy of Smith et al. 2024 (arXiv 2310.17634, released code): five seconds, a reward for being upright and,
that given, for standing still in the stance, little for the effort. Nothing ends an episode early.
"""

from __future__ import annotations

from math import pi, radians

from robot_rl.contract.spec import Command
from robot_rl.sim import shaping as s
from robot_rl.sim import terms as t
from robot_rl.sim.task import Commands, Obs, Range, Reward, Task

STANCE_M = 0.29
"""Height of the base in the default pose."""
UP_M = 0.18
"""Where a robot stands; its springs let it sink to 0.20 m where the default pose is all that is asked."""


def task() -> Task:
    """Return the training task; success is to stand, level and still, when the time is up."""
    return Task(
        name="go2_recover",
        robot="go2",
        obs={
            "base_ang_vel": Obs(scale=0.25, noise=0.2),
            "projected_gravity": Obs(noise=0.05),
            "joint_pos_rel": Obs(noise=0.01),
            "joint_vel_rel": Obs(scale=0.05, noise=1.0),
            "last_action": Obs(),
        },
        privileged={"base_lin_vel": t.base_lin_vel, "base_height": t.base_height, "foot_contact": t.foot_contact},
        rewards={
            "upright": Reward(s.upright, 1.0),
            "standing": Reward(s.standing(STANCE_M), 2.0, recorded=False),
            "joint_power": Reward(t.joint_power, -5e-4),
            "action_rate": Reward(t.action_rate, -0.02),
            "joint_limits": Reward(t.joint_limits, -1.0),
        },
        dones={},
        success=s.stood(radians(15.0), UP_M, 1.0),
        action_range=0.9,
        episode_s=5.0,
        commands=Commands(Command((), (), ())),
        resets={
            "joint_pos": Range(-1.0, 1.0),
            "roll": Range(-pi, pi),
            "pitch": Range(-0.5 * pi, 0.5 * pi),
            "yaw": Range(-pi, pi),
            "height": Range(0.1, 0.25),
        },
        randomize={
            "payload_kg": Range(-1.0, 2.0),
            "friction": Range(0.5, 1.25),
            "motor_strength": Range(0.85, 1.15),
        },
        delay_substeps=(0, 2),
    )
