"""A walking go2 learns from nothing but a person's take-overs; RLIF from the released policy.

Every take-over costs the step that led to it 1, an e-stop too, and a fall what being taken over once a second for ever
costs: otherwise falling would be a way to be left alone.
"""

import math

from robot_rl.data.interventions import Labelling, lasting_cost
from robot_rl.learn import rlpd
from robot_rl.learn.learner import Config, FineTuning

DISCOUNT = 0.98
FALL = lasting_cost(DISCOUNT, takeover_steps=49)


def recipe() -> FineTuning:
    """Return the recipe; start it with ``robot-rl finetune go2_tune_rlif --policy ... --episodes ... --inbox ...``."""
    learning = rlpd.Config(
        critics=5,
        subset=2,
        hidden=(128, 128),
        utd=2,
        batch=256,
        discount=DISCOUNT,
        target_range=(-1.0 / (1.0 - DISCOUNT), 0.0),
        tau=0.02,
        backup_entropy=False,
        temperature=3e-4,
        actor_lr=3e-4,
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
    config = Config(rlpd=learning, first_transitions=500, offer_every_s=8.0)
    return FineTuning(task="go2_velocity", config=config, reward="intervention", labelling=Labelling(end_reward=FALL))
