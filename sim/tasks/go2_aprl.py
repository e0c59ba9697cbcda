"""Unitree Go2 learns to walk straight ahead in the real robot's time: 20 Hz, targets anywhere in the joints' range.

Smith et al. 2024, arXiv 2310.17634 (APRL), released code, adapted from a Go1: the rewards per step with their weights,
the rescale in which 0 is the stance and +-1 are the limits, the low-pass of 8 Hz, the ends at 30 degrees of roll. The
policy sees what a Go2 measures; the paper's saw its velocity too, from a tracking camera. Here the critic alone does:
the reward is made of it, so it is known wherever something is learnt. Of the heading error only its rate is left.

After a fall the robot stands again: an episode ends at 30 degrees, where the feet still reach the ground, and the
runtime's STAND (``robot_rl.runtime.stand``) is the way back; here that is a reset.
"""

from __future__ import annotations

from math import radians

from robot_rl.contract.spec import Command
from robot_rl.sim import shaping as s
from robot_rl.sim import terms as t
from robot_rl.sim.task import Commands, Obs, Range, Reward, Task

RATE_HZ = 20.0
SPEED = 3.0
"""What is asked for [m/s]: more than is reached, as of the paper's Go1, which was asked for 1.5 and came to 0.62. On
hard ground this go2, asked for 1.5, came to 1.4 to 1.7 with nothing but 30 % of its range."""
FREE = (0.2, 0.4, 0.4) * 4
"""How far joints may leave the stance for nothing, hip, thigh, calf [rad]."""


def task(speed: float = SPEED) -> Task:
    """Return the training task, ``speed`` ahead [m/s]; the whole range of every joint is within reach."""
    return Task(
        name="go2_aprl",
        robot="go2",
        obs={
            "base_ang_vel": Obs(scale=0.25, noise=0.2),
            "projected_gravity": Obs(noise=0.03),
            "joint_pos_rel": Obs(noise=0.01),
            "joint_vel_rel": Obs(scale=0.05, noise=0.5),
            "joint_effort": Obs(scale=0.05),
            "foot_contact": Obs(),
            "last_action": Obs(),
        },
        privileged={"base_lin_vel": t.base_lin_vel},
        rewards=rewards(speed),
        dones={"fallen": s.leaning(radians(30.0), radians(-25.0), radians(20.0))},
        action_range=1.0,
        action_lowpass_hz=8.0,
        rate_hz=RATE_HZ,
        commands=Commands(
            Command(("lin_vel_x", "lin_vel_y", "ang_vel_z"), (speed, 0.0, 0.0), (speed, 0.0, 0.0)), zero_fraction=0.0
        ),
        resets={"joint_pos": Range(-0.05, 0.05)},
        delay_substeps=(1, 1),
    )


def rewards(speed: float) -> dict[str, Reward]:
    """Return the reward terms; weights are per second, those of the paper per step of 20 Hz."""
    return {
        "forward": Reward(s.forward_speed(speed), 20.0 * speed * RATE_HZ),
        "heading": Reward(s.heading_kept(radians(45.0)), 4.0 * RATE_HZ),
        "pose": Reward(s.pose_lost(FREE), -2.0 * RATE_HZ),
        "torque_jump": Reward(s.torque_jump(150.0), -0.005 * RATE_HZ),
        "roll_rate": Reward(s.turn_rate(0, 0.2, 0.5), -RATE_HZ),
        "pitch_rate": Reward(s.turn_rate(1, 0.4, 0.5), -RATE_HZ),
    }
