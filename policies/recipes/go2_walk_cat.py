"""The go2 walks after velocity commands within limits of its joints, feet and trunk; PPO with CaT, as long as PPO."""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return go2_walk_ppo's recipe on go2_velocity_cat: same budget, same networks, updates that become smaller.

    Constraints press the noise to half of go2_walk_ppo's. Steps of the same KL are then half as long, and their noise
    weighs more.
    """
    walk = zoo.load("policies", "recipes/go2_walk_ppo").recipe()
    return dataclasses.replace(walk, task="go2_velocity_cat", config=dataclasses.replace(walk.config, final_kl=0.004))
