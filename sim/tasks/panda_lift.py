"""A Panda grasps a 4 cm cube on the table and lifts it 10 cm; one reward of 1 where it is up, which ends the episode.

The cube stands anywhere in 16 by 24 cm, turned by up to 0.5 rad; the arm starts above the middle with its fingers open.
Actions as in ``panda_reach``. The cube's pose is perception (``robot_rl.sim.objects``); there is no command.
"""

from __future__ import annotations

from robot_rl.contract.spec import Command
from robot_rl.sim import manipulation as m
from robot_rl.sim.objects import Object, Shape
from robot_rl.sim.task import Commands, Obs, Range, Reward, Task

STEP = (0.1,) * 7 + (0.02,)
"""Largest move of a joint's target from where the joint is [rad], of the fingers' [m]."""
START = (0.0, 0.69826, 0.0, -0.18558, 0.0, 0.88384, 0.0, 0.0, 0.0)
"""From the default pose to one with the tool at (0.45, 0, 0.2) m, pointing down [rad]."""
JITTER = (0.05,) * 7 + (0.0, 0.0)
CUBE_M, LIFTED_M = 0.04, 0.1
RATE_HZ = 10.0


def task() -> Task:
    """Return the task; it fails where the cube is pushed out of reach."""
    up = m.held_above(0, 0.5 * CUBE_M + LIFTED_M)
    return Task(
        name="panda_lift",
        robot="panda",
        obs={
            "joint_pos_rel": Obs(noise=0.001),
            "joint_vel_rel": Obs(scale=0.5, noise=0.01),
            "tool_pos": Obs(scale=2.0, noise=0.001),
            "tool_axes": Obs(),
            "object_pos": Obs(scale=2.0, noise=0.001),
            "object_axes": Obs(),
            "tool_to_object": Obs(scale=5.0, noise=0.001),
        },
        rewards={"lifted": Reward(up, RATE_HZ)},
        dones={"lifted": up, "out_of_reach": m.out_of_reach(0, (0.25, -0.4, -0.1), (0.75, 0.4, 1.0))},
        success=up,
        objects={
            "cube": Object(
                shapes=(Shape("box", (0.5 * CUBE_M,) * 3),),
                mass_kg=0.1,
                pos=(0.48, 0.0, 0.5 * CUBE_M),
                spread=(0.08, 0.12, 0.0, 0.5),
            )
        },
        action_kind="joint_position_relative",
        action_scale=STEP,
        rate_hz=RATE_HZ,
        sim_rate_hz=200.0,
        episode_s=8.0,
        commands=Commands(Command((), (), ())),
        resets={
            "joint_pos": Range(
                tuple(a - b for a, b in zip(START, JITTER, strict=True)),
                tuple(a + b for a, b in zip(START, JITTER, strict=True)),
            )
        },
    )
