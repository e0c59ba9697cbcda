"""The cart learns to swing its pole up from what others recorded (IQL), then goes on by itself (RLPD).

``robot-rl train cartpole_swingup_iql --prior runs/cartpole_swingup_rlpd/...`` takes a run's replay, or a store of
episodes that ``robot-rl run --record`` wrote; ``--total-steps 0`` stays with the data.
"""

from robot_rl.learn import iql, rlpd
from robot_rl.learn.offline_online import Config
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe; its data comes from the command line."""
    offline = iql.Config(
        critics=3, hidden=(64, 64), layer_norm=True, actor_hidden=(64, 64), updates=20_000, save_every=5_000,
        actor_lr=1e-3, critic_lr=1e-3, value_lr=1e-3, expectile=0.8,
    )  # fmt: skip
    online = rlpd.Config(
        critics=3, hidden=(64, 64), utd=4, blocks_per_step=0.25, temperature=0.02, start_std=0.2, actor_lr=3e-4,
        critic_lr=1e-3, temperature_lr=1e-3, start_steps=500, capacity=100_000, log_every=500,
        save_every=10_000,
    )  # fmt: skip
    config = Config(offline=offline, online=online, total_steps=20_000)
    return Recipe(task="cartpole_swingup", config=config, algorithm="iql", num_envs=4)
