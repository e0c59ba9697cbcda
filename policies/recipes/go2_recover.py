"""The go2 learns to get up from any attitude; PPO, half an hour of one core.

Not trained to its end yet: halfway, after 4.1 M steps, it stands at the end of 42 % of 200 episodes (seed 0).
"""

from robot_rl.learn import ppo
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe."""
    config = ppo.Config(
        total_steps=8_192_000,
        num_steps=32,
        epochs=4,
        minibatches=4,
        learning_rate=3e-4,
        target_kl=0.015,
        entropy_coef=0.003,
        log_std=-0.7,
        symmetry="augment",
        actor_hidden=(128, 128, 64),
        critic_hidden=(128, 128, 64),
        threads=1,
    )
    return Recipe(task="go2_recover", config=config, num_envs=256)
