"""The go2 walks straight ahead from nothing within 40 000 steps of 50 Hz; SAC with noise that lasts (arXiv:2005.05719).

``robot-rl bench gsde_go2`` sets it beside the same learner with Gaussian noise.
"""

from robot_rl.learn import rlpd
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe: two critics with LayerNorm, two updates per step, a fresh noise matrix every 0.16 s.

    One seed was trained so far. In trials PPO did not take this noise well: while a matrix lasts, the policy feels its
    noise in the joints' velocities and in its own last action, learns to push back, and shakes.
    """
    config = rlpd.Config(
        total_steps=40_000,
        critics=2,
        subset=2,
        layer_norm=True,
        hidden=(128, 128),
        actor_hidden=(128, 128),
        utd=2,
        discount=0.996,
        start_steps=2_000,
        exploration="gsde",
        sde_every=8,
        mean_clip=2.0,
        log_every=1_000,
        save_every=10_000,
    )
    return Recipe(task="go2_forward", config=config, algorithm="rlpd", num_envs=4, threads=1)
