"""The physics backends by name, each imported when it is asked for.

Knows: which name means which file, and which extra brings what it needs.
Does not know: engines, tasks beyond robot and scene.
"""

from __future__ import annotations

from robot_rl.hardware.robot import load_robot
from robot_rl.sim.physics import Physics
from robot_rl.sim.task import Task

PHYSICS = ("mujoco_cpu",)
"""Backends that ``make_physics`` builds."""


def make_physics(task: Task, *, num_envs: int, physics: str = "mujoco_cpu", threads: int = 0) -> Physics:
    """Build the backend called ``physics`` for the task's robot and scene; ValueError lists the choices."""
    if physics not in PHYSICS:
        raise ValueError(f"no physics backend {physics!r}; the choices are {PHYSICS}")
    from robot_rl.sim.mujoco_cpu import MujocoCpu

    return MujocoCpu(load_robot(task.robot), num_envs, scene=task.scene, threads=threads)
