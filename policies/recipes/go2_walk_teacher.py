"""The go2 walks with privileged senses (true velocity, height, contacts, no noise): a teacher for go2_walk_student.

No robot can run it, so it is not exported: train it, then its student.
"""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return go2_walk_ppo's recipe with an actor that sees what the critic sees."""
    walk = zoo.load("policies", "recipes/go2_walk_ppo").recipe()
    return dataclasses.replace(walk, config=dataclasses.replace(walk.config, actor_obs="critic"))
