"""A Panda puts the square peg in its gripper into a square hole with 1.5 mm of room on each side, 3 cm deep.

One reward of 1, where it is in, which ends the episode; a dropped peg ends it too. The peg is 2 by 2 by 10 cm, the hole
stands anywhere in 8 by 12 cm. Actions as in ``panda_reach``, but half as large. Peg and hole are perception
(``robot_rl.sim.objects``); there is no command.
"""

from __future__ import annotations

from robot_rl.contract.spec import Command
from robot_rl.sim import manipulation as m
from robot_rl.sim.objects import Object, Shape
from robot_rl.sim.task import Commands, Obs, Range, Reward, Task

STEP = (0.05,) * 7 + (0.02,)
"""Largest move of a joint's target from where the joint is [rad], of the fingers' [m]."""
PEG, HOLE = 0, 1
PEG_M, HALF_LENGTH_M = 0.02, 0.05
ROOM_M = 0.0015
"""Between peg and hole on each side."""
WALL_M, DEPTH_M = 0.015, 0.05
GRASP_M = 0.02
"""Of the tool over the peg's centre."""
START = (0.0, 0.69826, 0.0, -0.18558, 0.0, 0.88384, 0.0, -0.0253, -0.0253)
"""From the default pose to one with the tool at (0.45, 0, 0.2) m, pointing down, fingers on the peg [rad, m]."""
IN_M = 0.03
"""What has to be inside."""
RATE_HZ = 10.0


def task() -> Task:
    """Return the task; all episodes start from one pose of the arm, for the peg has to fit between the fingers."""
    done = m.inserted(PEG, HOLE, below_m=DEPTH_M + HALF_LENGTH_M - IN_M, aside_m=0.004)
    return Task(
        name="panda_peg",
        robot="panda",
        obs={
            "joint_pos_rel": Obs(noise=0.0005),
            "joint_vel_rel": Obs(scale=0.5, noise=0.01),
            "tool_pos": Obs(scale=2.0, noise=0.0005),
            "tool_axes": Obs(),
            "object_pos": Obs(scale=2.0, noise=0.0005),
            "tool_to_object": Obs(scale=5.0, noise=0.0005),
        },
        rewards={"inserted": Reward(done, RATE_HZ)},
        dones={"inserted": done, "dropped": m.let_go(PEG, within_m=0.05)},
        success=done,
        objects={"peg": peg(), "hole": hole()},
        action_kind="joint_position_relative",
        action_scale=STEP,
        rate_hz=RATE_HZ,
        sim_rate_hz=200.0,
        episode_s=10.0,
        commands=Commands(Command((), (), ())),
        resets={"joint_pos": Range(START, START)},
    )


def peg() -> Object:
    """Return the peg, upright between the fingers."""
    half = 0.5 * PEG_M
    return Object((Shape("box", (half, half, HALF_LENGTH_M)),), 0.05, (0.45, 0.0, 0.2 - GRASP_M))


def hole() -> Object:
    """Return four walls on the table around a square hole; the origin is on its axis at the bottom."""
    inner, wall, up = 0.5 * PEG_M + ROOM_M, 0.5 * WALL_M, 0.5 * DEPTH_M
    side, grey = inner + wall, (0.55, 0.6, 0.65)
    walls = (
        Shape("box", (wall, inner + 2.0 * wall, up), (side, 0.0, up), grey),
        Shape("box", (wall, inner + 2.0 * wall, up), (-side, 0.0, up), grey),
        Shape("box", (inner, wall, up), (0.0, side, up), grey),
        Shape("box", (inner, wall, up), (0.0, -side, up), grey),
    )
    return Object(walls, 0.0, (0.5, 0.0, 0.0), spread=(0.04, 0.06, 0.0, 0.0), friction=0.3)
