"""The cart goes on learning while it runs; its critics are those of ``cartpole_swingup_rlpd`` and ``_iql``.

So that ``--critics`` may name such a run; without it, critics begin anew and warm up on what is recorded first.
"""

from robot_rl.learn import rlpd
from robot_rl.learn.tuning import Config, FineTuning


def recipe() -> FineTuning:
    """Return the recipe; start it with ``robot-rl finetune cartpole_tune_rlpd --policy ... --episodes ...``."""
    learning = rlpd.Config(
        critics=3, hidden=(64, 64), utd=4, temperature=0.02, start_std=0.2, actor_lr=3e-4, critic_lr=1e-3,
        temperature_lr=1e-3, warmup=1_000,
    )  # fmt: skip
    config = Config(rlpd=learning, first_transitions=500, updates_per_transition=4.0, average=0.9)
    return FineTuning(task="cartpole_swingup", config=config)
