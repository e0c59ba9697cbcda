"""The cart learns from being taken over alone: RLIF with a poor copy of cartpole_swingup_ppo as the overseer.

First ``robot-rl train cartpole_swingup_ppo``, then ``robot-rl train cartpole_swingup_rlif``: the newest run of the
first takes over, or the one that ``--teacher`` names. It takes over where the policy did something else than it would,
and a third of its own actions are random.
"""

from dataclasses import replace

from robot_rl.learn import rlif
from robot_rl.learn.overseer import Strategy
from robot_rl.learn.recipe import Recipe


def recipe() -> Recipe:
    """Return the recipe; its task's own reward is never looked at."""
    learner = replace(
        rlif.LEARNER, critics=3, hidden=(64, 64), actor_hidden=(64, 64), utd=4, blocks_per_step=0.25, temperature=0.02,
        actor_lr=1e-3, critic_lr=1e-3,
    )  # fmt: skip
    config = rlif.Config(
        teacher="cartpole_swingup_ppo",
        strategy=Strategy("distance", threshold=0.5, hindsight=True, errors=1 / 3),
        rlpd=learner,
        demos=4,
        total_steps=60_000,
    )
    return Recipe(task="cartpole_swingup", config=config, algorithm="rlif", num_envs=4)
