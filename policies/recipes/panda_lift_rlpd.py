"""A Panda learns to lift a cube from 20 scripted demonstrations and a sparse reward: IQL on them, then RLPD.

The demonstrations carry noise, so that they show the way back too. Rewards are 1 at the end, so that values lie in
[0, 1], to which targets are clipped. ``panda_lift_pixels`` is the same without being told where the cube is.
"""

from robot_rl.learn import iql, rlpd
from robot_rl.learn.offline_online import Config
from robot_rl.learn.recipe import Prior, Recipe


def recipe() -> Recipe:
    """Return the recipe."""
    offline = iql.Config(
        critics=4, hidden=(128, 128), layer_norm=True, actor_hidden=(128, 128), batch=128, discount=0.97, n_step=3,
        inverse_temperature=1.0, actor_lr=1e-3, critic_lr=6e-4, value_lr=6e-4, updates=3_000, log_every=500,
        save_every=3_000,
    )  # fmt: skip
    online = rlpd.Config(
        critics=4, hidden=(128, 128), actor_hidden=(128, 128), utd=2, batch=128, discount=0.97, n_step=3,
        target_range=(0.0, 1.0), backup_entropy=False, temperature=0.003, target_entropy=-6.0, start_std=0.2,
        std_range=(0.05, 0.4), critic_lr=6e-4, warmup=500, scale_value=True, anchor=0.1, anchor_half_life=3_000,
        start_steps=200, capacity=50_000, log_every=250, save_every=1_000,
    )  # fmt: skip
    return Recipe(
        task="panda_lift",
        config=Config(offline=offline, online=online, total_steps=25_000),
        algorithm="iql",
        num_envs=2,
        threads=1,
        prior=Prior(expert="panda_lift", demonstrations=20, noise=0.2),
    )
