"""go2_aprl with hard limits: targets reach 0.2, 0.4 and 0.4 rad to both sides of the stance, hip, thigh and calf.

The paper's restricted baseline, the action space of A Walk in the Park (Smith et al. 2022, arXiv 2208.07860), in that
robot's radians: some 30 % of a Go1's range, less of a go2's, whose thighs turn further. Within 30 % of its own range a
go2 on hard ground learns to run at 2.2 m/s: no limit worth the name.
"""

from __future__ import annotations

import dataclasses

from robot_rl import zoo
from robot_rl.sim.task import Task

REACH = (0.2, 0.4, 0.4) * 4
"""Of joint targets, hip, thigh, calf [rad]."""


def task() -> Task:
    """Return the training task."""
    whole = zoo.load("sim", "tasks/go2_aprl").task()
    return dataclasses.replace(whole, name="go2_aprl_restricted", action_range=None, action_scale=REACH)
