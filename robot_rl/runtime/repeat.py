"""The same actions again from a recording: what a policy answered is a function of what the store holds.

Every episode begins with the seed of its exploration and every row has its tick, observation and pictures. Before the
first row of a policy with a memory, in each episode and after each exchange, stands an event with what it remembered
then; from there on the rows alone tell what it remembers, also while a person drove.

Knows: rows, the events that begin an episode and a memory.
Does not know: files, the shield.

Shapes: n rows · D observation · A action · W memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot_rl.data.transition import picture_field
from robot_rl.runtime.explorer import ABOUT, Explorer
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.recorder import REMEMBERED


def repeat_actions(policy: Policy, rows: np.ndarray, events: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return what ``policy`` answered in recorded rows, (n, A), to the bit on the same machine.

    Args:
        policy: The policy that drove; its file is named by the rows.
        rows: Rows of one episode in which it or a person drove, (n,); with a memory without gaps where it drove.
        events: Those of the episode, the one that begins it first.

    Raises:
        ValueError: Another policy drove in some row, or what it remembered is not recorded.
    """
    others = set(rows["policy"].tolist()) - {policy.fingerprint}
    if others:
        raise ValueError(f"rows of the policies {sorted(others)} are not of {policy.path} ({policy.fingerprint})")
    explorer = Explorer(policy, **events[0][ABOUT]) if ABOUT in events[0] else None
    starts, memory, after = _starts(policy, events), np.zeros(0, np.float32), -1
    answers: list[np.ndarray] = []
    for row in rows:
        tick = int(row["tick"])
        if policy.memory is not None and tick in starts:
            memory = starts[tick].copy()
        elif policy.memory is not None and tick != after:
            raise ValueError(f"the record does not say what {policy.path} remembered before tick {tick}")
        pictures = {term.group: row[picture_field(term.group)] for term in policy.contract.images}
        xi = explorer and explorer(policy, tick)
        answers.append(policy.infer(row["obs"], xi, memory=memory, pictures=pictures))
        after = tick + 1
    return np.stack(answers)


def _starts(policy: Policy, events: Sequence[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Return by tick what the policy remembered, each (W,)."""
    name = f"{policy.fingerprint:016x}"
    found = [event for event in events if event["event"] == REMEMBERED and event["policy"] == name]
    return {int(event["tick"]): np.array(event["state"], np.float32) for event in found}
