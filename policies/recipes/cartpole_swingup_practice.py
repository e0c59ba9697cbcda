"""The cart swings its pole up and lets it hang still again, in turns, and nobody resets it (``sim/practices``).

What is exported is the policy of the way up. ``practice/resets_per_1000`` of the run says how often a person would have
had to come; by episodes of the same length it is 5.
"""

from robot_rl.learn import rlpd
from robot_rl.learn.practice import Config
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe."""
    learning = rlpd.Config(
        critics=3, hidden=(64, 64), actor_hidden=(64, 64), utd=4, blocks_per_step=0.25, temperature=0.02,
        actor_lr=1e-3, critic_lr=1e-3, temperature_lr=1e-3, start_steps=500, capacity=100_000, log_every=500,
        save_every=10_000, backup_entropy=False,
    )  # fmt: skip
    config = Config(rlpd=learning, turn_steps=200, patience=5, total_steps=40_000)
    return Recipe(task="cartpole_swingup", config=config, algorithm="practice", num_envs=1)
