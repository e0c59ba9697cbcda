"""A go2 learns to walk from nothing within 40 000 steps of 20 Hz, half an hour of its time, in a box that grows.

``robot-rl train go2_aprl``; the baselines are go2_aprl_restricted and go2_aprl_unrestricted.
"""

from robot_rl.learn import aprl
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe, with the numbers of the paper's launch script."""
    return Recipe(task="go2_aprl", config=aprl.Config(), algorithm="aprl", num_envs=1, threads=1)
