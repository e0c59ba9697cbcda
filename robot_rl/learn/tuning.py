"""What is fine-tuned, how and when, as data: a recipe for the online learner, its job, and what it tells of itself.

Knows: names, numbers, paths. Does not know: how learning works (``learner``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from robot_rl.data.feeder import Features, Reward
from robot_rl.data.interventions import RLIF, Labelling
from robot_rl.hardware.robot import Robot
from robot_rl.learn import rlpd
from robot_rl.learn.limits import check_range, check_whole


@dataclass(frozen=True, slots=True)
class Config:
    """When the learner does what; ``rlpd`` says how it learns."""

    rlpd: rlpd.Config = field(default_factory=rlpd.Config)
    start_event: str = ""
    """Ignore what was recorded before an event of this name, e.g. ``explore``; empty takes everything."""
    average: float = 0.99
    """Share of the past that the offered policy keeps per block: an average of the actor's weights trembles less."""
    first_transitions: int = 500
    """Transitions before learning starts; the critics' normaliser is taken from them."""
    updates_per_transition: float = 20.0
    """Most critic updates per recorded transition."""
    updates_per_s: float = 0.0
    """Most critic updates per second, to leave a core to others; 0 is no limit."""
    offer_every_s: float = 5.0
    """Time between exports."""
    save_every_s: float = 20.0
    """Shortest time between checkpoints."""
    log_every: int = 10
    """Blocks between rows of ``metrics.jsonl``."""
    keep_offers: int = 20
    """Policy files kept in the inbox."""
    max_minutes: float = 0.0
    """Stop after this much learning, earlier lives included; 0 never stops."""
    max_updates: int = 0
    """Stop after this many critic updates; 0 never stops."""
    window: int = 200_000
    """Newest transitions kept."""

    def __post_init__(self) -> None:
        check_whole("fine-tuning", self, "first_transitions", "log_every", "keep_offers", "window", least=1)
        check_whole("fine-tuning", self, "max_updates", least=0)
        check_range("fine-tuning", self, "average", high=1.0)
        times = ("offer_every_s", "save_every_s", "max_minutes")
        check_range("fine-tuning", self, "updates_per_transition", "updates_per_s", *times)


REWARDS = ("task", "intervention", "operator")
"""What ``FineTuning.reward`` may be, beside the file of a judge."""


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A recipe for fine-tuning: what ``policies/recipes/<name>.py`` returns."""

    task: str
    """Name of the task in ``sim/tasks`` that the policy was trained for."""
    config: Config
    reward: str = "task"
    """``task``: the task's own, dense or sparse; ``intervention``: what a person's take-overs cost (RLIF);
    ``operator``: the labels that a person's keys, or a judge beside the policy, gave; or a judge's ``.onnx`` file."""
    labelling: Labelling = RLIF
    """intervention: the rules."""

    def __post_init__(self) -> None:
        if self.reward not in REWARDS and not self.reward.endswith(".onnx"):
            raise ValueError(f"no reward {self.reward!r}; the choices are {REWARDS} and a judge's .onnx file")
        if self.labelling.blame_window != 1 or not self.labelling.store_takeover_steps:
            raise ValueError(
                f"fine-tuning: labelling is {self.labelling}; a step is judged with the next alone (blame_window 1) "
                "and every step is learnt from (store_takeover_steps)"
            )


@dataclass(frozen=True, slots=True)
class Job:
    """What is fine-tuned, from which data, to where."""

    released: Path
    """The policy to start from."""
    robot: Robot
    episodes: Path
    """The robot's store; need not exist yet."""
    inbox: Path
    """Folder that gets the policies."""
    out: Path
    """Folder of the run: checkpoints and metrics."""
    reward: Reward
    recipe: str
    features: Features | None = None
    """What the critics see beside the observation."""
    num_features: int = 0
    prior: Path | None = None
    """A store of earlier episodes of the same contract, half of every minibatch."""
    announce: Callable[[Offer], None] = lambda offer: None
    critics: Path | None = None
    """Checkpoint of the run that ``released`` was exported from; its critics go on learning. None begins with fresh
    ones."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A policy file that the robot may take."""

    path: Path
    sha256: str
    parent: str
    """SHA-256 of the released policy."""
    recipe: str
    updates: int
    final: bool
    """The last one, without exploration."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the learner stands."""

    transitions: int
    updates: int
    offers: int
    learning_s: float
    metrics: dict[str, float]


Watch: TypeAlias = Callable[[Progress], None]
