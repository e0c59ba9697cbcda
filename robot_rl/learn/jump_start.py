"""Jump-Start: somebody who knows the task acts first in every episode, and hands over sooner the better it goes.

Uchendu et al. 2023, arXiv 2204.02372 (JSRL). A guide, of any origin, acts for the first h steps of an episode, the
learner for the rest, and all steps are learnt from. While the mean return stays within ``tolerance`` of the best one,
h falls in equal parts, from the mean length of the guide's own episodes to 0. ``shuffled`` draws h for every episode
among these instead (JSRL-Random).

Deviation: returns are those of the learner's exploring episodes, as a robot has them; none are spent on tests.

Knows: whose turn it is. Does not know: worlds, losses; who guides, but that it maps observations to actions at once,
without memory, so that it can hand over at any step.

Shapes: N environments · A action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Guide = Callable[[Mapping[str, Tensor]], Tensor]
"""Maps the observations of N environments to raw actions (N, A)."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a guide hands over."""

    stages: int = 10
    """Equal parts in which its steps per episode fall to 0."""
    window: int = 20
    """Episodes that a mean is over."""
    tolerance: float = 0.05
    """Share of the best mean return that may be lost at the next stage."""
    shuffled: bool = False
    """Whether every episode draws its stage."""

    def __post_init__(self) -> None:
        if min(self.stages, self.window) < 1 or self.tolerance < 0.0:
            raise ValueError(f"jump start: {self}; stages and window at least 1, tolerance at least 0")


class JumpStart:
    """Whose turn it is in each environment, and how far the guide has stepped back."""

    def __init__(self, cfg: Config, guide: Guide, *, num_envs: int, seed: int) -> None:
        """Begin with whole episodes of the guide, from which its returns and lengths are known."""
        self._cfg, self._guide, self._rng = cfg, guide, np.random.default_rng((seed, 2))
        self._age, self._return = np.zeros(num_envs), np.zeros(num_envs)
        self._horizon = np.full(num_envs, np.inf)
        self._seen: deque[float] = deque(maxlen=cfg.window)
        self._lengths: list[float] = []
        self._longest = self._best = float("nan")
        self.stage = 0
        """Parts by which the guide has stepped back; 0 is whole episodes of its own."""

    @property
    def horizon(self) -> float:
        """Steps of an episode that begins now which are the guide's; infinite at stage 0."""
        return self._of(self.stage)

    def _of(self, stage: int) -> float:
        return np.inf if stage == 0 else float(round(self._longest * (1.0 - stage / self._cfg.stages)))

    def act(self, obs: Mapping[str, Tensor], action: Tensor) -> Tensor:
        """Return what is done: the guide's action where it leads, else the learner's ``action``, (N, A)."""
        leads = torch.from_numpy(self._age < self._horizon).to(action.device)
        if not bool(leads.any()):
            return action
        return torch.where(leads.unsqueeze(-1), self._guide(obs).to(action), action)

    def add(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> None:
        """Take one step of every environment in, each (N,)."""
        self._return += reward.double().cpu().numpy()
        self._age += 1.0
        for i in np.flatnonzero(((terminated >= 1.0) | truncated.bool()).cpu().numpy()):
            if self._horizon[i] == self.horizon:  # begun at this stage
                self._judge(float(self._return[i]), float(self._age[i]))
            self._age[i] = self._return[i] = 0.0
            shuffled = self._cfg.shuffled and self.stage > 0
            self._horizon[i] = self._of(int(self._rng.integers(1, self._cfg.stages + 1))) if shuffled else self.horizon

    def _judge(self, episode_return: float, length: float) -> None:
        """Step back where the returns allow it."""
        if self.stage == self._cfg.stages or (self._cfg.shuffled and self.stage > 0):
            return
        self._seen.append(episode_return)
        if self.stage == 0:
            self._lengths.append(length)
        if len(self._seen) < self._cfg.window:
            return
        mean = float(np.mean(self._seen))
        if self.stage == 0:
            self._longest, self._best = float(np.mean(self._lengths)), mean
        if mean >= self._best - self._cfg.tolerance * abs(self._best):
            self._best = max(self._best, mean)
            self.stage += 1
            self._seen.clear()

    def metrics(self) -> dict[str, float]:
        """Return ``guide/stage`` and, once its own episodes are over, ``guide/horizon`` [steps]."""
        known = {} if self.stage == 0 else {"guide/horizon": self.horizon}
        return {"guide/stage": float(self.stage)} | known

    def begin_episodes(self) -> None:
        """Forget the running episodes: the world begins new ones."""
        self._age[:], self._return[:], self._horizon[:] = 0.0, 0.0, self.horizon

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        return {
            "age": self._age, "return": self._return, "horizon": self._horizon,
            "seen": list(self._seen), "lengths": list(self._lengths), "longest": self._longest, "best": self._best,
            "stage": self.stage, "rng": self._rng.bit_generator.state,
        }  # fmt: skip

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self._age, self._return, self._horizon = (
            np.asarray(tree[name]).copy() for name in ("age", "return", "horizon")
        )
        self._seen, self._lengths = deque(tree["seen"], maxlen=self._cfg.window), list(tree["lengths"])
        self._longest, self._best, self.stage = tree["longest"], tree["best"], tree["stage"]
        self._rng.bit_generator.state = tree["rng"]
