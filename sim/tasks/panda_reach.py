"""A Panda brings its tool to a goal, which is its command: a point in the base frame [m].

Action law of the Panda tasks: every joint's target is its measured position plus at most 0.1 rad (fingers: 2 cm), ten
times a second. A deviation between target and joint, and with it the force on whatever stands in the way, can never
grow beyond what one action asks for: 0.1 rad at 600 N m/rad. Where a policy dies the arm stops within a tick. The price
is that a load makes the arm sink a little, which the policy sees and corrects. 10 Hz is what robot arms are taught at
(LeRobot, HIL-SERL): few decisions to learn, and half a step's response of the joints within each.
"""

from __future__ import annotations

from robot_rl.contract.spec import Command
from robot_rl.sim import manipulation as m
from robot_rl.sim import terms as t
from robot_rl.sim.task import Commands, Obs, Range, Reward, Task

STEP = (0.1,) * 7 + (0.02,)
"""Largest move of a joint's target from where the joint is [rad], of the fingers' [m]."""
WITHIN_M = 0.02
SPREAD = (0.3,) * 7 + (0.0, 0.0)


def task() -> Task:
    """Return the task; success is to be within 2 cm of the goal when the 5 s are over."""
    return Task(
        name="panda_reach",
        robot="panda",
        obs={
            "joint_pos_rel": Obs(noise=0.001),
            "joint_vel_rel": Obs(scale=0.5, noise=0.01),
            "tool_pos": Obs(scale=2.0, noise=0.001),
            "command": Obs(scale=2.0),
        },
        rewards={
            "near_goal": Reward(m.near_goal(scale_m=0.2), 1.0),
            "at_goal": Reward(m.at_goal(WITHIN_M), 1.0),
            "action_rate": Reward(t.action_rate, -0.01),
        },
        dones={},
        success=m.at_goal(WITHIN_M),
        action_kind="joint_position_relative",
        action_scale=STEP,
        rate_hz=10.0,
        sim_rate_hz=200.0,
        episode_s=5.0,
        commands=Commands(
            Command(("goal_x", "goal_y", "goal_z"), (0.35, -0.25, 0.1), (0.6, 0.25, 0.5)),
            resample_s=(1e6, 1e6),
            zero_fraction=0.0,
        ),
        resets={"joint_pos": Range(tuple(-x for x in SPREAD), SPREAD)},
    )
