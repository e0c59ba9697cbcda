"""A walking go2 learns from nothing but a person's take-overs; RLIF from the released policy.

Every take-over costs the step that led to it 1, an e-stop too, and a fall what being taken over once a second for ever
costs: otherwise falling would be a way to be left alone.
"""

import dataclasses

from robot_rl import zoo
from robot_rl.data.interventions import Labelling, lasting_cost
from robot_rl.learn.learner import FineTuning

DISCOUNT = 0.98
FALL = lasting_cost(DISCOUNT, takeover_steps=49)


def recipe() -> FineTuning:
    """Return go2_tune_rlpd's recipe with this reward and more critics.

    Start it with ``robot-rl finetune go2_tune_rlif --policy ... --episodes ... --inbox ...``.
    """
    tuning: FineTuning = zoo.load("policies", "recipes/go2_tune_rlpd").recipe()
    learning = dataclasses.replace(
        tuning.config.rlpd, critics=5, discount=DISCOUNT, target_range=(-1.0 / (1.0 - DISCOUNT), 0.0), actor_lr=3e-4
    )
    config = dataclasses.replace(tuning.config, rlpd=learning, first_transitions=500)
    return dataclasses.replace(tuning, config=config, reward="intervention", labelling=Labelling(end_reward=FALL))
