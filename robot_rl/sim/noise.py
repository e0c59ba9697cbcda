"""Sensor noise in training: uniform on the raw terms, the critic sees the exact ones.

Where the noisy terms have neither clip nor history, noise on the raw term is noise times scale on the observation, and
the terms are computed once for both views; otherwise twice.

Knows: half widths per term, a contract. Does not know: physics, tasks.

Shapes: N environments · D observation · R columns that are noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.contract.apply import Observer
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState


class NoisyObserver:
    """Gives every observation twice: as the policy sees it, and exact."""

    def __init__(
        self,
        contract: Contract,
        joints: tuple[str, ...],
        half_widths: Mapping[str, float],
        num_envs: int,
        rng: np.random.Generator,
        *,
        once: bool = True,
    ) -> None:
        """Prepare for N environments.

        Args:
            contract: What is observed.
            joints: Order of the states' joints.
            half_widths: Of the uniform noise on each raw term that has any.
            num_envs: N.
            rng: Draws the noise.
            once: Compute the terms once where that gives the same; False is for comparison in tests.
        """
        self._rng, self._half = rng, {name: half for name, half in half_widths.items() if half}
        noisy = [term for term in contract.obs if term.name in self._half]
        self._once = once and all(term.clip is None and term.history == 1 for term in noisy)
        self._exact = Observer(contract, joints, (num_envs,))
        self._seen = Observer(contract, joints, (num_envs,))
        self._drawn = np.zeros((0, sum(term.size for term in noisy)), np.float32)
        starts = np.cumsum([0, *(term.size for term in noisy)])
        self._columns_of = {term.name: slice(a, a + term.size) for a, term in zip(starts, noisy, strict=False)}
        begins = dict(
            zip((t.name for t in contract.obs), np.cumsum([0, *(t.width for t in contract.obs)]), strict=False)
        )
        self._blocks = _join([(begins[t.name], self._columns_of[t.name]) for t in noisy])
        scaled = [np.asarray(t.scale) * self._half[t.name] for t in noisy]
        self._amplitude = np.concatenate([np.zeros(0), *scaled]).astype(np.float32)

    def reset(self) -> None:
        """Forget every history."""
        self._exact.reset()
        self._seen.reset()

    def __call__(self, state: RobotState, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the observation as seen and exact, each (N, D) float32; one array where there is no noise.

        With ``ids``, (n,), ``state`` holds these environments alone, which begin anew: (n, D).
        """
        exact = self._exact(state) if ids is None else self._exact.restart(state, ids)
        if not self._half:
            return exact, exact
        self._drawn = self._rng.random((len(exact), len(self._amplitude)), dtype=np.float32)
        self._drawn *= 2.0
        self._drawn -= 1.0
        if self._once:
            seen, noise = exact.copy(), np.multiply(self._drawn, self._amplitude, out=self._drawn)
            for where, columns in self._blocks:
                seen[:, where] += noise[:, columns]
        elif ids is None:
            seen = self._seen(state, self._noise)
        else:
            seen = self._seen.restart(state, ids, self._noise)
        return seen, exact

    def snapshot(self) -> dict[str, Any]:
        """Return the histories as a tree for ``checkpoint.save``."""
        return {"exact": self._exact.histories, "seen": self._seen.histories}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        for observer, frames in ((self._exact, snapshot["exact"]), (self._seen, snapshot["seen"])):
            observer.histories = {name: np.array(x) for name, x in frames.items()}

    def _noise(self, name: str, x: np.ndarray) -> np.ndarray:
        half = self._half.get(name)
        return x if half is None else x + half * self._drawn[:, self._columns_of[name]]


def _join(blocks: list[tuple[int, slice]]) -> list[tuple[slice, slice]]:
    """Return where columns of noise go in the observation, blocks that follow one another as one."""
    joined: list[tuple[slice, slice]] = []
    for begin, columns in blocks:
        where = slice(begin, begin + columns.stop - columns.start)
        if joined and joined[-1][0].stop == begin:
            first = joined.pop()
            where, columns = slice(first[0].start, where.stop), slice(first[1].start, columns.stop)
        joined.append((where, columns))
    return joined
