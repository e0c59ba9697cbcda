"""Rewards that recorded rows tell by themselves: the operator's label, or a judge of success.

Knows: rows, labels, judges. Does not know: tasks (``sim.recorded``), take-overs (``interventions``), learners.

Shapes: n rows or transitions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot_rl.contract.judge import STATE, Judge
from robot_rl.contract.spec import Contract
from robot_rl.data.transition import picture_field

Reward = Callable[[np.ndarray, np.ndarray], np.ndarray]


def operator_reward(failure: float = -1.0) -> Reward:
    """Return ``(rows_t, rows_t1) -> reward`` (n,): what an operator's key said in the moment it was pressed.

    1 in the step into the row where the label became success, ``failure`` where it became failure, else 0. A judge that
    runs beside the policy presses the same key (``runtime.verdict``).
    """

    def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
        given = np.where(then["label"] != now["label"], then["label"], 0)
        return np.where(given < 0, failure, given).astype(np.float32)

    return reward


def judged_reward(judge: Judge, contract: Contract) -> Reward:
    """Return ``(rows_t, rows_t1) -> reward`` (n,): 1 in steps that lead to what the judge calls success, else 0.

    Raises:
        ValueError: The judge looks at pictures that rows do not hold, or was taught under another contract.
    """
    field = "obs" if judge.spec.source == STATE else picture_field(judge.spec.source)
    sizes = {term.group: term.shape for term in contract.images}
    if judge.spec.source != STATE and sizes.get(judge.spec.source) != judge.spec.shape:
        raise ValueError(f"{judge.path} looks at {judge.spec.source!r}, {judge.spec.shape}; recorded rows hold {sizes}")
    if judge.spec.source == STATE and judge.spec.contract not in ("", contract.fingerprint):
        raise ValueError(
            f"{judge.path} was taught under contract {judge.spec.contract[:12]}…; the policy has "
            f"{contract.fingerprint[:12]}…"
        )

    def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
        return judge.success(np.ascontiguousarray(then[field])).astype(np.float32) if len(then) else np.zeros(0, "f4")

    return reward
