"""The go2 walks after velocity commands within limits of its joints, feet and trunk; PPO with CaT, as long as PPO."""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return go2_walk_ppo's recipe on go2_velocity_cat: same budget, same networks."""
    return dataclasses.replace(zoo.load("policies", "recipes/go2_walk_ppo").recipe(), task="go2_velocity_cat")
