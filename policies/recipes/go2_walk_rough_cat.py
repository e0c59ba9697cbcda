"""The go2 walks blind over stairs, slopes, blocks, stones and gaps within limits of joints and feet; PPO with CaT."""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return go2_walk_ppo's recipe on go2_velocity_rough_cat, with twice the steps: there is more to learn."""
    flat = zoo.load("policies", "recipes/go2_walk_ppo").recipe()
    config = dataclasses.replace(flat.config, total_steps=2 * flat.config.total_steps, max_minutes=150.0)
    return dataclasses.replace(flat, task="go2_velocity_rough_cat", config=config)
