"""RLIF: a policy learns not to be taken over, whoever takes over and however well; and HIL-SERL beside it.

Luo et al. 2024, arXiv 2311.12996: RLPD in which the step before a take-over is worth -1 and any other 0. Luo et al.
2024, arXiv 2410.21845 (HIL-SERL): the task's own reward; what a person did fills half of every minibatch. The defaults
are those of RLIF's released code; minibatches are not symmetric there, and demonstrations lie with everything else.

Deviations from the released code: every step is learnt from, also of the expert and into terminal states (flags of
``Labelling``); targets are clipped to the values that such rewards allow; critics see observations normalised by what
the demonstrations show. The demonstrations are the overseer's own.

Knows: settings, what a run has learnt. Does not know: losses (``rlpd``), worlds (``rlif_loop``), labels (``data``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from robot_rl.data.interventions import RLIF, Labelling
from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.agent import Agent
from robot_rl.learn.overseer import Strategy
from robot_rl.learn.squashed import Actor

METHODS = ("rlif", "hil_serl")
LEARNER = rlpd.Config(
    critics=10, subset=2, hidden=(256, 256, 256), actor_hidden=(256, 256, 256), utd=1, discount=0.99, tau=0.005,
    backup_entropy=False, temperature=1.0, start_steps=256,
)  # fmt: skip
"""The released code's; its updates per step are 1 on Walker2d, 5 with the pen, 15 on Hopper."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run."""

    teacher: str = ""
    """Recipe whose newest run is the expert, where none is named."""
    method: str = "rlif"
    """One of ``METHODS``."""
    strategy: Strategy = field(default_factory=Strategy)
    """When the overseer takes over, and how often it errs."""
    labelling: Labelling = RLIF
    """rlif: what a take-over costs."""
    task_reward: float = 0.0
    """rlif: weight of the world's own reward beside the labels."""
    rlpd: rlpd.Config = LEARNER
    """How it learns; its ``seed``, ``total_steps`` and ``target_range`` come from here."""
    demos: int = 10
    """Episodes that the expert drives alone, before the policy does."""
    seed: int = 0
    """Of networks, minibatches and worlds."""
    total_steps: int = 1_000_000
    """Environment steps, over all environments, demonstrations included."""
    final_rate: float = 1.0
    """Share of the actor's and the critics' learning rates that is left at ``total_steps``; they fall linearly."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"no method {self.method!r}; the choices are {METHODS}")
        if self.rlpd.n_step != 1 or self.rlpd.exploration != "gaussian":
            raise ValueError(
                f"rlif: n_step is {self.rlpd.n_step} and exploration {self.rlpd.exploration!r}; steps of people lie "
                "between those of the policy, so that only n_step 1 and 'gaussian' fit"
            )
        if not 0.0 < self.final_rate <= 1.0:
            raise ValueError(f"rlif: final_rate is {self.final_rate}; it must lie in (0, 1], and 1 is constant rates")
        if self.demos < 0 or self.total_steps < 1:
            raise ValueError(f"rlif: demos is {self.demos} and total_steps {self.total_steps}; at least 0 and 1")

    @property
    def labels(self) -> Labelling:
        """The rules in force; HIL-SERL's rewards are the task's alone."""
        return self.labelling if self.method == "rlif" else Labelling(weight=0.0)


def learner(cfg: Config) -> rlpd.Config:
    """Return RLPD's settings of a run: with rewards of take-overs only, values lie in [-1/(1 - discount), 0]."""
    target_range = (-math.inf, math.inf)
    if cfg.method == "rlif" and cfg.task_reward == 0.0 and not cfg.rlpd.backup_entropy:
        rules = cfg.labelling
        target_range = (min(-rules.weight / (1.0 - cfg.rlpd.discount), rules.end_reward - rules.weight), 0.0)
    return replace(cfg.rlpd, seed=cfg.seed, total_steps=cfg.total_steps, target_range=target_range)


@dataclass(slots=True)
class Pupil:
    """What a run has learnt."""

    agent: Agent
    steps: int
    """Environment steps behind it."""
    sizes: dict[str, int]
    """Widths of the observation groups and ``action``."""

    @property
    def actor(self) -> Actor:
        """The policy."""
        return self.agent.actor


def make_pupil(cfg: Config, sizes: dict[str, int]) -> Pupil:
    """Build a fresh one; the policy sees the group ``policy``, the critics all groups."""
    wide = sum(sizes.values()) - sizes["action"]
    agent = rlpd.make_agent(
        learner(cfg), obs_size=sizes["policy"], num_actions=sizes["action"], critic_obs_size=wide
    )  # fmt: skip
    return Pupil(agent, 0, dict(sizes))


def pack(pupil: Pupil, cfg: Config) -> dict[str, Any]:
    """Return the pupil as a tree for ``checkpoint.save``."""
    return {
        "algorithm": "rlif", "config": asdict(cfg), "sizes": pupil.sizes, "steps": pupil.steps,
        "agent": pupil.agent.snapshot(),
    }  # fmt: skip


def unpack(tree: Mapping[str, Any], cfg: Config | None = None) -> tuple[Pupil, Config]:
    """Rebuild the pupil; ``cfg`` replaces the stored settings, where given."""
    cfg = cfg or _settings(tree)
    pupil = make_pupil(cfg, tree["sizes"])
    pupil.agent.restore(tree["agent"])
    pupil.steps = tree["steps"]
    return pupil, cfg


def load_pupil(path: Path) -> tuple[Pupil, Config]:
    """Read the pupil of a checkpoint.

    Raises:
        ValueError: The file is no whole checkpoint of this algorithm.
    """
    tree = checkpoint.load(path)
    if tree.get("algorithm") != "rlif":
        raise ValueError(f"{path} is a checkpoint of {tree.get('algorithm')!r}, not of 'rlif'")
    return unpack(tree)


def _settings(tree: Mapping[str, Any]) -> Config:
    stored = checkpoint.settings(tree, Config)
    for name, kind in (("strategy", Strategy), ("labelling", Labelling), ("rlpd", rlpd.Config)):
        stored[name] = kind(**checkpoint.settings({"config": stored[name]}, kind))
    return Config(**stored)
