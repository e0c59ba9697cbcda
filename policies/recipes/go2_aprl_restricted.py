"""go2_aprl's learner with hard limits of a narrow range, and no box within."""

from robot_rl.learn import aprl
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe; the limits are the task's."""
    config = aprl.Config(growth=aprl.UNLIMITED)
    return Recipe(task="go2_aprl_restricted", config=config, algorithm="aprl", num_envs=1, threads=1)
