"""The go2 walks after velocity commands; go2_walk_ppo with noise that lasts, gSDE (arXiv:2005.05719)."""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return go2_walk_ppo's recipe, same budget and networks, its noise redrawn every 8 control steps (0.16 s).

    The deviation of an action is that of an entry of the matrix times the norm of the last hidden layer, which grows
    while the policy learns, from 6.5 to 13: begun at go2_walk_ppo's 0.5 and with its bonus for entropy the noise grew
    to 0.7. It begins at 0.2 here, without the bonus, and may shrink to 0.03. It does not learn to walk yet.
    """
    gaussian = zoo.load("policies", "recipes/go2_walk_ppo").recipe()
    config = dataclasses.replace(
        gaussian.config, exploration="gsde", sde_every=8, log_std=-3.2, log_std_range=(-6.0, 0.7), entropy_coef=0.0
    )
    return dataclasses.replace(gaussian, config=config)
