"""A walking go2 adapts to its own changed body within minutes; RLPD from the released policy."""

from robot_rl.learn import rlpd
from robot_rl.learn.learner import Config, FineTuning


def recipe() -> FineTuning:
    """Return the recipe; start it with ``robot-rl finetune go2_tune_rlpd --policy ... --episodes ... --inbox ...``."""
    learning = rlpd.Config(
        critics=2,
        subset=2,
        hidden=(256, 256),
        utd=4,
        batch=256,
        discount=0.97,
        backup_entropy=False,
        temperature=1e-3,
        actor_lr=1e-4,
        critic_lr=5e-4,
        start_std=0.12,
        std_range=(0.05, 0.25),
        warmup=2_000,
        anchor=1.0,
        anchor_half_life=3_000.0,
        scale_value=True,
        grad_clip=10.0,
    )
    return FineTuning(task="go2_velocity", config=Config(rlpd=learning, first_transitions=1_000, offer_every_s=5.0))
