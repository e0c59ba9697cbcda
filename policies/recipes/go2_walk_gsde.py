"""The go2 walks after velocity commands; go2_walk_ppo with noise that lasts, gSDE (arXiv:2005.05719)."""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return go2_walk_ppo's recipe, same budget and networks, its noise redrawn every 8 control steps (0.16 s).

    The deviation of an action is that of an entry of the matrix times the norm of the last hidden layer. Fresh
    networks have a norm of 6.5 (geometric mean over normalised observations, seeds 0 to 2), so that -0.7 - log 6.5
    starts with the noise of go2_walk_ppo.
    """
    gaussian = zoo.load("policies", "recipes/go2_walk_ppo").recipe()
    config = dataclasses.replace(gaussian.config, exploration="gsde", sde_every=8, log_std=-2.57)
    return dataclasses.replace(gaussian, config=config)
