"""The cart swings its pole up; PPO with gSDE. Small and fast to start; measured to 0.3 M steps only."""

from robot_rl.learn import ppo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe."""
    config = ppo.Config(
        total_steps=4_000_000,
        num_steps=32,
        discount=0.995,
        actor_hidden=(64, 64),
        critic_hidden=(64, 64),
        entropy_coef=0.002,
        exploration="gsde",
        log_std=-2.0,
        threads=1,
    )
    return Recipe(task="cartpole_swingup", config=config, num_envs=64)
