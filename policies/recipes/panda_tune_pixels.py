"""A Panda that lifts what its camera sees goes on learning; needs the run of ``panda_lift_pixels`` that it came from.

Beside the twin the task's own reward pays; a real arm measures no cube, and learns from keys (``--reward operator``) or
from a judge of pictures (``--reward judge.onnx``).
"""

import dataclasses

from robot_rl import zoo
from robot_rl.learn.tuning import Config, FineTuning


def recipe() -> FineTuning:
    """Return the recipe; start it with ``robot-rl finetune panda_tune_pixels --policy ... --critics RUN ...``."""
    learnt = zoo.load("policies", "recipes/panda_lift_pixels").recipe().config.rlpd
    config = Config(
        rlpd=dataclasses.replace(learnt, warmup=500),
        first_transitions=300,
        updates_per_transition=2.0,
        average=0.9,
        offer_every_s=20.0,
        save_every_s=60.0,
        window=40_000,
    )
    return FineTuning(task="panda_lift_pixels", config=config)
