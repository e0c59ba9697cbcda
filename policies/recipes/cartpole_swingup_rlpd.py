"""The cart swings its pole up; RLPD, which learns from earlier experiments too where ``--prior`` names some.

The first actions are uniform, 500 of them; then every step in one of four worlds pays for a critic update.
"""

from robot_rl.learn import rlpd
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe; it has no demonstrations of its own."""
    config = rlpd.Config(
        critics=3, hidden=(64, 64), actor_hidden=(64, 64), utd=4, blocks_per_step=0.25, temperature=0.1,
        actor_lr=1e-3, critic_lr=1e-3, temperature_lr=1e-3, total_steps=60_000, start_steps=500, capacity=100_000,
        log_every=500, save_every=10_000,
    )  # fmt: skip
    return Recipe(task="cartpole_swingup", config=config, algorithm="rlpd", num_envs=4)
