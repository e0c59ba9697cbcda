"""A task's world as one robot practises in it: goals in a round, nothing resets by itself.

A file ``sim/practices/<task>.py`` with a function ``practice() -> Practice`` says what the goals are. Satisfies
``robot_rl.learn.practice_loop.PracticeWorld``.

Knows: a ``World`` of one copy, whose episodes never end; terms. Does not know: learners, whose turn it is.

Shapes: A action · P phases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robot_rl import zoo
from robot_rl.sim.backends import make_physics
from robot_rl.sim.task import OutcomeTerm, Task
from robot_rl.sim.world import World

_FOREVER_S = 1e7


@dataclass(frozen=True, slots=True)
class Goal:
    """What one phase is about."""

    reached: OutcomeTerm
    """1 where the goal is reached, which ends the turn and pays 1."""
    reward: OutcomeTerm | None = None
    """Paid per step beside that; None pays nothing: a sparse goal."""


@dataclass(frozen=True, slots=True)
class Practice:
    """How a task is practised."""

    goals: dict[str, Goal]
    """By name, in the order of the phases; the first is the task itself."""
    stuck: OutcomeTerm | None = None
    """1 where robot or things must be put back by a person."""

    def __post_init__(self) -> None:
        if not self.goals:
            raise ValueError("practice: there is no goal; the first is the task itself")


class Moment(NamedTuple):
    """One control step; the fields and meanings of ``robot_rl.learn.practice_loop.Turn``."""

    obs: dict[str, Tensor]
    reward: float
    reached: bool
    stuck: bool


class PracticeWorld:
    """One robot that practises."""

    def __init__(self, task: Task, practice: Practice, *, seed: int) -> None:
        """Build the world; call ``reset`` first.

        Raises:
            ValueError: The task has constraints as terminations, or moves over a curriculum, which end episodes.
        """
        if task.constraints is not None or task.curriculum is not None:
            raise ValueError(f"task {task.name!r} has constraints or a curriculum; practice has no episodes for them")
        endless = dataclasses.replace(task, dones={}, episode_s=_FOREVER_S)
        self.world = World(endless, make_physics(endless, num_envs=1, threads=1), seed=seed)
        self.practice, self._goals = practice, list(practice.goals.values())
        self.obs_sizes, self.num_actions = self.world.obs_sizes, self.world.num_actions
        self.phases = len(self._goals)
        self._obs: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        """Put robot and things back, as a person would."""
        self._obs = self.world.reset()

    def observe(self, phase: int) -> dict[str, Tensor]:
        """Return what is seen now, the same in every phase, each (1, D_group)."""
        return {name: torch.from_numpy(x) for name, x in self._obs.items()}

    def step(self, action: Tensor, phase: int) -> Moment:
        """Apply a raw action (1, A) for one control period, judged by the goal of ``phase``."""
        step = self.world.step(action.numpy())
        self._obs, goal, outcome = step.next_obs, self._goals[phase], step.outcome
        reached = bool(goal.reached(outcome)[0] > 0.5)
        paid = 0.0 if goal.reward is None else float(goal.reward(outcome)[0])
        stuck = self.practice.stuck is not None and bool(self.practice.stuck(outcome)[0] > 0.5)
        return Moment(self.observe(phase), paid + float(reached), reached, stuck and not reached)

    def snapshot(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {"world": self.world.snapshot(), "obs": self._obs}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned, bit for bit."""
        arrays = _arrays(snapshot)
        self.world.restore(arrays["world"])
        self._obs = arrays["obs"]

    def close(self) -> None:
        """Free the physics."""
        self.world.close()


def make_practice(task: Task, *, seed: int) -> PracticeWorld:
    """Build the world of ``sim/practices/<task>.py``; an unknown name lists those that exist."""
    practice = zoo.load("sim", f"practices/{task.name}").practice()
    if not isinstance(practice, Practice):
        raise ValueError(f"sim/practices/{task.name} gives {practice!r}; expected a Practice")
    return PracticeWorld(task, practice, seed=seed)


def _arrays(tree: Any) -> Any:
    """Return a tree with arrays where it has tensors, as a checkpoint read from disk does."""
    if isinstance(tree, Mapping):
        return {name: _arrays(x) for name, x in tree.items()}
    return tree.numpy() if isinstance(tree, Tensor) else tree
