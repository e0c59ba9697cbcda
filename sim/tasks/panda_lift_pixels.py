"""``panda_lift`` seen through the camera on the hand, 64 x 64: nobody says where the cube is.

The hand's camera sees cube and fingers until the cube is up. The joints and the tool are measured as before; the reward
is the task's own, which in simulation may know more than the policy.
"""

from __future__ import annotations

import dataclasses

from robot_rl import zoo
from robot_rl.contract.spec import ImageTerm
from robot_rl.sim.task import Task

UNSEEN = ("object_pos", "object_axes", "tool_to_object")


def task() -> Task:
    """Return the task; it is rendered on the CPU."""
    lift: Task = zoo.load("sim", "tasks/panda_lift").task()
    return dataclasses.replace(
        lift,
        name="panda_lift_pixels",
        obs={name: obs for name, obs in lift.obs.items() if name not in UNSEEN},
        cameras=(ImageTerm("wrist", 64, 64),),
    )
