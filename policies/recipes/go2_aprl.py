"""A go2 learns to walk from nothing within 40 000 steps of 20 Hz, half an hour of its time, in a box that grows.

``robot-rl train go2_aprl``; the baselines are go2_aprl_restricted and go2_aprl_unrestricted.

The gate's threshold is on normalised observations: after the random steps of this task a linear model's error on new
ones is 0.27 and that of expecting no change 1.4; the same linear model is off by 1.4 where actions span the whole
range.
"""

from robot_rl.learn import aprl
from robot_rl.learn.aprl_box import Penalty
from robot_rl.learn.aprl_dynamics import Gate
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe, with the numbers of the paper's launch script but for threshold and penalty.

    The penalty is 0.4 times the largest reward of a step as there, 60 at 3 m/s.
    """
    config = aprl.Config(gate=Gate(threshold=1.0), penalty=Penalty(linear=24.0))
    return Recipe(task="go2_aprl", config=config, algorithm="aprl", num_envs=1, threads=1)
