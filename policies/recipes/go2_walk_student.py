"""The go2 learns from go2_walk_teacher to walk with what it can measure; minutes, where the teacher took an hour.

First ``robot-rl train go2_walk_teacher``, then ``robot-rl train go2_walk_student``: the newest run of the teacher
teaches, or the one that ``--teacher`` names. The student is a normal policy with its contract.
"""

from robot_rl.learn import distill
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe of the student, with go2_walk_ppo's network."""
    config = distill.Config(teacher="go2_walk_teacher", total_steps=2_000_000, actor_hidden=(128, 128, 64), threads=1)
    return Recipe(task="go2_velocity", config=config, algorithm="distill", num_envs=256)
