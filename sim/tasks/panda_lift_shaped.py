"""``panda_lift`` with a reward that leads to it: near the cube, cube high, cube up; the episode runs its time."""

from __future__ import annotations

import dataclasses

from robot_rl import zoo
from robot_rl.sim import manipulation as m
from robot_rl.sim import terms as t
from robot_rl.sim.task import Reward, Task


def task() -> Task:
    """Return the task; success is to hold the cube up when the 8 s are over."""
    lift = zoo.load("sim", "tasks/panda_lift")
    sparse: Task = lift.task()
    top = 0.5 * lift.CUBE_M + lift.LIFTED_M
    return dataclasses.replace(
        sparse,
        name="panda_lift_shaped",
        rewards={
            "near_cube": Reward(m.near_object(0, scale_m=0.1), 1.0),
            "height": Reward(m.height(0, 0.5 * lift.CUBE_M, top), 3.0),
            "lifted": Reward(m.held_above(0, top), 3.0),
            "action_rate": Reward(t.action_rate, -0.01),
        },
        dones={"out_of_reach": sparse.dones["out_of_reach"]},
    )
