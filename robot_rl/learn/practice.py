"""Autonomous practice: policies take turns in a world that nobody resets, each undoing what the one before did.

Eysenbach et al. 2018, arXiv 1711.06782 (a forward and a reset policy; a person is asked where the reset policy fails
too often); Luo et al. 2024, arXiv 2401.16013 (SERL: two agents, two replays, turns at the ends of episodes); Stachowicz
et al. 2023, arXiv 2304.09831 (FastRLAP: checkpoints in a round, one policy for all). The price that counts is a
person's work: hard resets, told per 1000 steps.

A turn ends where its goal is reached, which is terminal and pays, where its time is up, which is neither, or where the
robot is stuck, which is terminal and needs a person. After the last phase comes the first.

Deviation: a failed reset is not judged by a learnt value of its state (section 4.2 of the first paper) but by its goal.

Knows: settings, whose turn it is, effort. Does not know: losses (``rlpd``), worlds and time (``practice_loop``).

Shapes: A action · P phases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.agent import Agent
from robot_rl.learn.squashed import Actor

WINDOW = 20
"""Turns that shares of success are over."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run."""

    rlpd: rlpd.Config = field(default_factory=rlpd.Config)
    """How each policy learns; its ``seed`` and ``total_steps`` come from here."""
    policies: tuple[int, ...] = (0, 1)
    """Which policy has the turn in each phase: (0, 1) is a forward and a reset policy; (0, 0, 0) one policy for three
    checkpoints, which sees where it should go."""
    turn_steps: int = 100
    """Longest turn."""
    patience: int = 3
    """Turns other than the first phase's that may fail in a row before a person resets; 0 lets a person reset after
    every turn of the first phase, which is learning by episodes: nobody else has a turn."""
    seed: int = 0
    """Of networks, minibatches and worlds."""
    total_steps: int = 20_000
    """Environment steps of all policies together."""

    def __post_init__(self) -> None:
        if sorted(set(self.policies)) != list(range(len(set(self.policies)))) or not self.policies:
            raise ValueError(f"practice: policies is {self.policies}; expected 0, 1, ... without a gap")
        if self.turn_steps < 1 or self.patience < 0 or self.total_steps < 1:
            raise ValueError(
                f"practice: turn_steps is {self.turn_steps}, patience {self.patience}, total_steps {self.total_steps}; "
                "at least 1, 0 and 1"
            )


def learner(cfg: Config, policy: int) -> rlpd.Config:
    """Return RLPD's settings of one policy; each has a seed of its own."""
    return replace(cfg.rlpd, seed=cfg.seed + 1000 * policy, total_steps=cfg.total_steps)


@dataclass(slots=True)
class Turns:
    """Whose turn it is, and what it took so far."""

    phases: int
    phase: int = 0
    age: int = 0
    """Steps in this turn."""
    failed: int = 0
    """Turns after the first phase's that failed in a row."""
    steps: int = 0
    hard_resets: int = 0
    """Times that a person had to put robot or world back."""
    ended: list[deque[bool]] = field(default_factory=list)
    """By phase, whether its last turns reached their goals."""

    def __post_init__(self) -> None:
        if not self.ended:
            self.ended = [deque(maxlen=WINDOW) for _ in range(self.phases)]

    def count(self, cfg: Config, *, reached: bool, stuck: bool) -> tuple[bool, bool]:
        """Count one step and choose who is next; return whether the turn is over and whether a person must reset.

        Args:
            cfg: Settings.
            reached: The phase's goal was reached.
            stuck: The robot cannot go on.
        """
        self.steps, self.age = self.steps + 1, self.age + 1
        over = reached or stuck or self.age >= cfg.turn_steps
        if not over:
            return False, False
        self.ended[self.phase].append(reached)
        if self.phase > 0:
            self.failed = 0 if reached else self.failed + 1
        hard = stuck or cfg.patience == 0 or self.failed >= cfg.patience
        self.age = 0
        self.phase = 0 if hard else (self.phase + 1) % self.phases
        if hard:
            self.hard_resets, self.failed = self.hard_resets + 1, 0
        return True, hard

    def watched(self) -> dict[str, float]:
        """Return effort and success: ``practice/resets_per_1000``, ``practice/success_<phase>``."""
        row = {
            "practice/hard_resets": float(self.hard_resets),
            "practice/resets_per_1000": 1000.0 * self.hard_resets / max(self.steps, 1),
        }
        for phase, turns in enumerate(self.ended):
            if turns:
                row[f"practice/success_{phase}"] = sum(turns) / len(turns)
        return row

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        names = ("phases", "phase", "age", "failed", "steps", "hard_resets")
        return {name: getattr(self, name) for name in names} | {"ended": [list(turns) for turns in self.ended]}

    @staticmethod
    def restored(tree: Mapping[str, Any]) -> Turns:
        """Return what ``snapshot`` was taken of."""
        ended = [deque(turns, maxlen=WINDOW) for turns in tree["ended"]]
        return Turns(**{name: x for name, x in tree.items() if name != "ended"}, ended=ended)


@dataclass(slots=True)
class Practised:
    """What a run has learnt."""

    agents: list[Agent]
    """One for each policy; the first does the task."""
    sizes: dict[str, int]
    """Widths of the observation groups and ``action``."""
    turns: Turns

    @property
    def actor(self) -> Actor:
        """The policy that does the task."""
        return self.agents[0].actor

    @property
    def steps(self) -> int:
        """Environment steps behind all policies."""
        return self.turns.steps


def make_practised(cfg: Config, sizes: Mapping[str, int]) -> Practised:
    """Build fresh policies; they see the group ``policy``, their critics all groups."""
    wide = sum(sizes.values()) - sizes["action"]
    agents = [
        rlpd.make_agent(
            learner(cfg, i), obs_size=sizes["policy"], num_actions=sizes["action"], critic_obs_size=wide
        )
        for i in range(max(cfg.policies) + 1)
    ]  # fmt: skip
    return Practised(agents, dict(sizes), Turns(len(cfg.policies)))


def pack(practised: Practised, cfg: Config) -> dict[str, Any]:
    """Return it as a tree for ``checkpoint.save``."""
    return {
        "algorithm": "practice", "config": asdict(cfg), "sizes": practised.sizes, "turns": practised.turns.snapshot(),
        "agents": [agent.snapshot() for agent in practised.agents],
    }  # fmt: skip


def unpack(tree: Mapping[str, Any], cfg: Config | None = None) -> tuple[Practised, Config]:
    """Rebuild it; ``cfg`` replaces the stored settings, where given."""
    if cfg is None:
        stored = checkpoint.settings(tree, Config)
        stored["rlpd"] = rlpd.Config(**checkpoint.settings({"config": stored["rlpd"]}, rlpd.Config))
        cfg = Config(**stored)
    practised = make_practised(cfg, tree["sizes"])
    for agent, state in zip(practised.agents, tree["agents"], strict=True):
        agent.restore(state)
    practised.turns = Turns.restored(tree["turns"])
    return practised, cfg
