"""go2_aprl's learner with the whole range of every joint from the first step on."""

from robot_rl.learn import aprl
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe."""
    return Recipe(task="go2_aprl", config=aprl.Config(growth=aprl.UNLIMITED), algorithm="aprl", num_envs=1, threads=1)
