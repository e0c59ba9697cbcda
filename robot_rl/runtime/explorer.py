"""gSDE on a robot: the noise matrix that each tick explores with.

The matrix follows from a seed and the tick's number alone, so that neither a lost row nor a swapped policy shifts what
comes after. Every episode of the log begins with the seed and the interval, so that it can be repeated (``repeat``).

Knows: seed, interval, the shape that a policy wants.
Does not know: deviations (they are weights of the policy), the shield, files.

Shapes: F features · A action.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.contract.exploration import check_interval, check_seed, draw, draw_index
from robot_rl.runtime.policy import Policy

ABOUT = "exploration"
"""Key of the event that begins an episode, under which ``Explorer.about`` stands; absent where nothing explored."""


class Explorer:
    """The noise matrices of one run. Control thread only."""

    def __init__(self, policy: Policy, *, seed: int, every: int | None = None) -> None:
        """Explore with ``policy``, and later with those swapped in.

        Args:
            policy: The first policy.
            seed: In [0, 2^64).
            every: Ticks between draws; None is what the policy was trained with. It holds for later policies too.

        Raises:
            ValueError: The policy was trained without gSDE, or a number is out of its range.
        """
        trained = self.check(policy)
        self.seed = check_seed(seed)
        self.every = check_interval(trained if every is None else every)
        self._drawn = (-1, (0, 0))
        self._xi = np.zeros((0, 0), np.float32)

    @staticmethod
    def check(policy: Policy) -> int:
        """Return the interval that ``policy`` was trained with; raise ValueError where it cannot explore."""
        if policy.exploration is None:
            raise ValueError(
                f"{policy.path} cannot explore: it was trained without gSDE and takes no input 'exploration'; "
                "train one with 'robot-rl train RECIPE --exploration gsde', or let the runtime's own noise explore "
                "(request 'explore' with a deviation)"
            )
        return policy.exploration.interval

    @property
    def about(self) -> dict[str, Any]:
        """What a recording must say to repeat every action, JSON values."""
        return {ABOUT: {"seed": self.seed, "every": self.every}}

    def __call__(self, policy: Policy, tick: int) -> np.ndarray:
        """Return the matrix of a tick, (F, A); drawn anew where its index, or the shape that the policy wants, is."""
        assert policy.exploration is not None, "every policy was checked when it was loaded"
        wanted = draw_index(tick, self.every), policy.exploration.shape
        if wanted != self._drawn:
            self._xi, self._drawn = draw(self.seed, *wanted), wanted
        return self._xi
