"""A walking go2 adapts to its own changed body within minutes; RLPD from the released policy."""

import math

from robot_rl.learn import rlpd
from robot_rl.learn.learner import Config, FineTuning


def recipe() -> FineTuning:
    """Return the recipe; start it with ``robot-rl finetune go2_tune_rlpd --policy ... --episodes ... --inbox ...``."""
    learning = rlpd.Config(
        critics=4,
        subset=2,
        hidden=(128, 128),
        utd=4,
        batch=256,
        discount=0.96,
        backup_entropy=False,
        temperature=3e-4,
        actor_lr=2e-4,
        critic_lr=5e-4,
        start_std=0.12,
        std_range=(0.05, 0.25),
        warmup=4_000,
        target_entropy=-9.0,  # that of a deviation of 0.12 in twelve actions
        anchor=0.05,
        anchor_half_life=math.inf,
        scale_value=True,
        grad_clip=10.0,
    )
    return FineTuning(task="go2_velocity", config=Config(rlpd=learning, first_transitions=1_000, offer_every_s=5.0))
