"""go2_aprl with hard limits: actions reach 30 % of the way from the stance to each joint's limits, and no further.

The paper's restricted baseline, the action space of A Walk in the Park (Smith et al. 2022, arXiv 2208.07860).
"""

from __future__ import annotations

import dataclasses

from robot_rl import zoo
from robot_rl.sim.task import Task


def task() -> Task:
    """Return the training task."""
    whole = zoo.load("sim", "tasks/go2_aprl").task()
    return dataclasses.replace(whole, name="go2_aprl_restricted", action_range=0.3)
