"""Whom the online learner teaches: a policy and its critics.

Two kinds: one whose observation is numbers, here, and one that sees (``pupil_seeing``). They differ in what a replay
keeps and in how a block of updates goes; when that happens, and what is offered, is the ``learner``'s.

Knows: rlpd. Does not know: stores, files of policies, time.

Shapes: D observation · A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from robot_rl.contract.golden import Bundle
from robot_rl.data.pictures import PictureReplay
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import rlpd
from robot_rl.learn.agent import Agent
from robot_rl.learn.graph import read_mlp
from robot_rl.learn.squashed import Actor
from robot_rl.learn.tuning import Config, Job
from robot_rl.learn.warm_start import adopt, read_critics


class Pupil(Protocol):
    """What the learner needs of whom it teaches."""

    algorithm: str
    agent: Agent
    """Critics, counts of updates, and at least the last layers of the actor."""
    origin: dict[str, Any]
    """What tells its checkpoints from those of others, JSON values."""

    @property
    def actor(self) -> nn.Module:
        """The whole policy, as ``export_policy`` takes it."""
        ...

    def see(self, rows: np.ndarray) -> np.ndarray:
        """Return what a replay keeps of the pictures in recorded rows (n,), (n, ...); nothing where there are none."""
        ...

    def new_replay(self) -> Any:
        """Return an empty replay of what it learns from."""
        ...

    def begin(self, replay: Any) -> None:
        """Fix what is fixed before the first update, from the transitions so far."""
        ...

    def step(self, replay: Any, prior: Any, rng: np.random.Generator) -> dict[str, float]:
        """Learn a block and return its metrics."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return everything that learning changes, as a tree for ``checkpoint.save``."""
        ...

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        ...


class PlainPupil:
    """A policy of numbers, with fresh critics or those of the run that it came from."""

    algorithm = "rlpd"

    def __init__(self, job: Job, cfg: Config, bundle: Bundle) -> None:
        """Begin at the released policy.

        Raises:
            ValueError: It is no plain MLP, or the critics are of another one.
        """
        contract = bundle.contract
        wide = contract.obs_size + job.num_features
        released = read_mlp(job.released)
        self.agent = rlpd.make_agent(
            cfg.rlpd, obs_size=contract.obs_size, num_actions=contract.num_actions, start=released, critic_obs_size=wide
        )
        if job.critics is not None:
            adopt(self.agent, read_critics(job.critics), released, discount=cfg.rlpd.discount)
        self.origin = {
            "parent": bundle.file_sha256, "features": job.num_features, "critics": list(self.agent.critics.shape),
        }  # fmt: skip
        self._cfg, self._fresh = cfg, job.critics is None
        self._columns = transition_columns(wide, contract.num_actions)

    @property
    def actor(self) -> Actor:
        """The policy."""
        return self.agent.actor

    def see(self, rows: np.ndarray) -> np.ndarray:
        """Return nothing of each row."""
        return np.zeros((len(rows), 0), np.uint8)

    def new_replay(self) -> Replay:
        """Return an empty replay of numbers."""
        return Replay(self._cfg.window, self._columns)

    def begin(self, replay: Replay) -> None:
        """Fix the normaliser of fresh critics."""
        if self._fresh:
            obs = torch.from_numpy(replay.split(replay.rows[: len(replay)])["obs"])
            rlpd.fix_statistics(self.agent, obs)

    def step(self, replay: Replay, prior: Replay | None, rng: np.random.Generator) -> dict[str, float]:
        """Learn a block of RLPD."""
        return rlpd.update(self.agent, rlpd.draw(replay, prior, self._cfg.rlpd, rng), self._cfg.rlpd)

    def snapshot(self) -> dict[str, Any]:
        """Return the agent."""
        return {"agent": self.agent.snapshot()}

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Continue from it."""
        self.agent.restore(tree["agent"])


def make_pupil(job: Job, cfg: Config, bundle: Bundle) -> Pupil:
    """Return whom the job is about.

    Raises:
        ValueError: The policy cannot be taught by this recipe; the reason is given.
    """
    if not bundle.contract.images:
        return PlainPupil(job, cfg, bundle)
    from robot_rl.learn.pupil_seeing import SeeingPupil

    return SeeingPupil(job, cfg, bundle)


Kept = Replay | PictureReplay
"""What ``new_replay`` returns."""
