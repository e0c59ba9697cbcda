"""Unitree Go2 follows velocity commands over slopes, stairs, blocks, stones and gaps, blind: only the critic sees them.

The body, senses, commands and disturbances are go2_velocity's. Ground and curriculum are legged_gym's, in sizes for a
robot with hips 0.3 m high. Heights of the base are over the ground under it. A trunk may tilt with a slope, so no term
wants it level.
"""

from __future__ import annotations

import dataclasses

from robot_rl import zoo
from robot_rl.sim import terms as t
from robot_rl.sim.curriculum import Curriculum
from robot_rl.sim.task import Reward, Task
from robot_rl.sim.terrain import Terrain, height_scan, make_relief, scan_reflection

TERRAIN = Terrain(
    kinds=(
        "rough", "slope_up", "rough_slope_down", "stairs_up", "stairs_up",
        "stairs_down", "stairs_down", "blocks", "stones", "gaps",
    ),
    levels=10,
)  # fmt: skip


def task() -> Task:
    """Return the training task; evaluation holds each robot on its level."""
    relief = make_relief(TERRAIN)
    flat = zoo.load("sim", "tasks/go2_velocity").task()
    return dataclasses.replace(
        flat,
        name="go2_velocity_rough",
        terrain=TERRAIN,
        curriculum=Curriculum(start=(0, 1)),
        privileged={
            "base_lin_vel": t.base_lin_vel,
            "base_height": t.base_height_over(relief.ground),
            "foot_contact": t.foot_contact,
            "height_scan": height_scan(relief),
        },
        reflections={"height_scan": scan_reflection()},
        rewards=rewards(flat.rewards),
        dones={"fallen": t.fallen(max_tilt_rad=1.0, min_height_m=0.14, ground=relief.ground)},
    )


def rewards(flat: dict[str, Reward]) -> dict[str, Reward]:
    """Return the rewards of flat ground without those that want the trunk level, and less against going up."""
    kept = {name: reward for name, reward in flat.items() if name != "flat_orientation"}
    return {**kept, "lin_vel_z": Reward(t.lin_vel_z, -0.5)}
