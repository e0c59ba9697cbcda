"""A Panda learns to lift a cube that only the camera on its hand sees, from 20 scripted demonstrations; sparse reward.

Small convolutions from the first step on, so that a CPU renders, looks and learns some twenty steps a second. The actor
is pulled towards the demonstrations while the critics, and with them the encoder, know little; that fades.
"""

from robot_rl.learn import encoder, pixels, rlpd
from robot_rl.learn.recipe import Prior, Recipe


def recipe() -> Recipe:
    """Return the recipe; numbers but for the pictures are those of ``panda_lift_rlpd``."""
    learner = rlpd.Config(
        critics=4, hidden=(128, 128), actor_hidden=(128, 128), utd=1, batch=128, discount=0.97, n_step=3,
        target_range=(0.0, 1.0), backup_entropy=False, temperature=0.003, target_entropy=-6.0, start_std=0.2,
        std_range=(0.05, 0.4), actor_lr=6e-4, critic_lr=6e-4, scale_value=True, start_steps=200, capacity=40_000,
        log_every=250, save_every=5_000,
    )  # fmt: skip
    config = pixels.Config(
        rlpd=learner,
        encoder=encoder.Config(channels=(16, 32, 32, 32), strides=(2, 2, 2, 2)),
        encoder_lr=6e-4,
        imitation=1.0,
        imitation_half_life=4_000,
        offline_blocks=1_500,
        total_steps=30_000,
    )
    return Recipe(
        task="panda_lift_pixels",
        config=config,
        algorithm="pixels",
        num_envs=2,
        threads=1,
        prior=Prior(expert="panda_lift", demonstrations=20, noise=0.2),
    )
