"""Unitree Go2 follows velocity commands over rough ground; only what spares the robot is a constraint, not its style.

Ground, senses and disturbances are go2_velocity_rough's, rewards and limits go2_velocity_cat's: as in the paper's
recipes, style constraints hold on flat ground only, and on any ground the base keeps its height over it.
"""

from __future__ import annotations

import dataclasses

from robot_rl import zoo
from robot_rl.sim import constraints as c
from robot_rl.sim.task import Constraint, Task
from robot_rl.sim.terrain import Terrain, make_relief


def task() -> Task:
    """Return the training task; evaluation counts violations and enforces nothing."""
    rough, cat = (zoo.load("sim", f"tasks/{name}") for name in ("go2_velocity_rough", "go2_velocity_cat"))
    return dataclasses.replace(
        rough.task(),
        name="go2_velocity_rough_cat",
        rewards=cat.rewards(),
        constraints=dataclasses.replace(cat.task().constraints, terms=safety(cat.safety(), rough.TERRAIN)),
    )


def safety(flat: dict[str, Constraint], terrain: Terrain) -> dict[str, Constraint]:
    """Return the limits of flat ground with the base's height over the ground, which a stair halves at its edge."""
    ground = make_relief(terrain).ground
    return {**flat, "base_height": Constraint(c.base_height(0.16, 0.5, ground), p_max=1.0)}
