"""A walking go2 adapts to its own changed body within minutes; RLPD from the released policy.

The targets follow quickly (tau) and the critics warm up before the actor moves in large steps: from a walking start a
stale critic costs more than a noisy one. The robot explores with the runtime's probe.
"""

import math

from robot_rl.learn import rlpd
from robot_rl.learn.learner import Config, FineTuning


def recipe() -> FineTuning:
    """Return the recipe; start it with ``robot-rl finetune go2_tune_rlpd --policy ... --episodes ... --inbox ...``."""
    learning = rlpd.Config(
        critics=2,
        subset=2,
        hidden=(128, 128),
        utd=2,
        batch=256,
        discount=0.95,
        tau=0.02,
        backup_entropy=False,
        temperature=3e-4,
        actor_lr=6e-4,
        critic_lr=1e-3,
        start_std=0.12,
        std_range=(0.05, 0.25),
        warmup=3_000,
        target_entropy=-9.0,  # that of a deviation of 0.12 in twelve actions
        anchor=0.01,
        anchor_half_life=math.inf,
        scale_value=True,
        grad_clip=10.0,
    )
    config = Config(rlpd=learning, first_transitions=1_000, offer_every_s=8.0)
    return FineTuning(task="go2_velocity", config=config)
