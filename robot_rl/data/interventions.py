"""What interventions say of a policy: rewards from their onsets, sets to clone, and which buffer a step goes to.

RLIF (Luo et al. 2024, arXiv 2311.12996): the step of the policy right before a take-over is worth -1, any other 0,
whoever acts. HIL-SERL (Luo et al. 2024, arXiv 2410.21845): a person's steps go into a second buffer as well. HG-DAgger
(Kelly et al. 2019, arXiv 1810.02890): only what the expert did itself is cloned.

An *onset* is a tick that a person drives after a tick of the same episode that the policy drove alone. On the robot a
hand-back ramps from the person to the policy, and its ticks are the person's (``runtime.takeover``): who takes over
again inside the ramp goes on with the same take-over, for the policy alone did nothing in between. The clock or a fall
ends an episode, and no blame crosses that. An e-stop is an onset too: its step gets -1 where the policy drove.

Knows: who acted in each step, how episodes end, rows of the robot. Does not know: who decides to take over, learners.

Shapes: T steps in the order of time · N environments (all but the first axis: each is labelled for itself) · n rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.contract.arrays import Array
from robot_rl.data.feeder import Reward
from robot_rl.data.transition import Mode, Who


@dataclass(frozen=True, slots=True)
class Labelling:
    """How interventions become rewards; the defaults are RLIF's."""

    weight: float = 1.0
    """What a take-over costs; 0 leaves rewards as they are."""
    blame_window: int = 1
    """Steps of the policy that share the cost, the last one before the onset included: people react late."""
    end_reward: float = 0.0
    """Added where a step ends its episode for good. 0 suits episodes that end at the goal; where they end in falls, 0
    makes a fall the cheapest way to be left alone, and ``lasting_cost`` is a fit."""
    store_takeover_steps: bool = True
    """Whether what is done in take-overs is learnt from. It is never blamed: where a bad expert takes over on a good
    judge's behalf, the policy is blamed for what it was shown, and False is better, as in RLIF's released code.
    Demonstrations, and steps that end an episode for good, are learnt from in any case."""

    def __post_init__(self) -> None:
        if self.blame_window < 1:
            raise ValueError(f"labelling: blame_window is {self.blame_window}; at least 1 step")
        if self.weight < 0.0 or self.end_reward > 0.0:
            raise ValueError(
                f"labelling: weight is {self.weight} and end_reward {self.end_reward}; "
                "a take-over costs 0 or more, and an end is worth 0 or less"
            )


RLIF = Labelling()
"""The labels of the paper."""


def lasting_cost(discount: float, *, takeover_steps: int) -> float:
    """Return the value of being taken over as often as possible for ever: -1 every ``takeover_steps + 1`` steps."""
    return -1.0 / (1.0 - discount ** (takeover_steps + 1))


def rewards(
    human: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, *, stopped: np.ndarray | None = None,
    labelling: Labelling = RLIF,
) -> np.ndarray:  # fmt: skip
    """Return the rewards of a stream of steps, (T, ...) float32.

    Args:
        human: Whether a person acted in each step, bool (T, ...).
        terminated: Whether the step ended its episode for a reason of the task, bool (T, ...).
        truncated: Whether the clock ended it, bool (T, ...).
        stopped: Whether the overseer ended it (an e-stop), bool (T, ...); None is never.
        labelling: The rules.
    """
    ended = terminated | truncated
    hit = np.zeros_like(human)
    hit[:-1] = ~human[:-1] & human[1:] & ~ended[:-1]
    if stopped is not None:
        hit |= stopped & ~human
    follows = np.zeros_like(human)
    follows[1:] = ~ended[:-1]
    return labelling.weight * _blame(hit, ~human, follows, labelling.blame_window) + np.float32(
        labelling.end_reward
    ) * terminated.astype(np.float32)


def _blame(hit: np.ndarray, robot: np.ndarray, follows: np.ndarray, window: int) -> np.ndarray:
    """Share -1 of each hit among the last steps of the policy's run that it ends.

    Args:
        hit: Steps of the policy that led to an onset, bool (T, ...).
        robot: Steps of the policy.
        follows: Whether a step goes on from the one before it.
        window: Most steps that share.
    """
    before = np.zeros_like(robot)
    before[1:] = robot[:-1]
    time = np.arange(len(robot)).reshape(-1, *(1,) * (robot.ndim - 1))
    start = np.maximum.accumulate(np.where(robot & ~(before & follows), time, 0), axis=0)
    sharing = np.minimum(time - start + 1, window)  # steps of this run so far, (T, ...)
    share = np.where(hit, np.float32(-1.0) / sharing, np.float32(0.0)).astype(np.float32)
    reward = np.zeros_like(share)
    for age in range(min(window, len(reward))):
        reward[: len(reward) - age] += np.where(age < sharing, share, np.float32(0.0))[age:]
    return reward


def intervention_reward(labelling: Labelling = RLIF) -> Reward:
    """Return ``(rows_t, rows_t1) -> reward`` for recorded rows: what a ``Feeder`` learns from, and replays later.

    Each pair of rows is judged by itself. A blame window beyond 1 looks further, and is for whole episodes in one call:
    a feeder that follows a robot gets them in small portions.
    """

    def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
        policy = now["who"] == Who.POLICY
        ended = (then["terminated"] != 0) | (then["truncated"] != 0)
        driven = (then["mode"] == Mode.POLICY) | (then["mode"] == Mode.TAKEOVER)
        fatal = then["terminated"] != 0
        hit = policy & ((then["who"] == Who.HUMAN) | (fatal & ~driven))  # a terminal row nobody drives is an e-stop's
        follows = np.zeros_like(policy)
        follows[1:] = (now["tick"][1:] == then["tick"][:-1]) & ~ended[:-1]
        blamed = labelling.weight * _blame(hit, policy, follows, labelling.blame_window)
        return blamed + np.float32(labelling.end_reward) * fatal.astype(np.float32)

    return reward


def clone_rows(rows: np.ndarray, *, settle: int = 0, robot_steps: bool = False) -> dict[str, np.ndarray]:
    """Return HG-DAgger's set from recorded rows of one process: what a person did, in the order it was recorded.

    Ticks of a hand-back ramp are the person's but no longer what the person wants, so they are left out. At the
    beginning of a take-over the action ramps towards the person's.

    Args:
        rows: Structured array (n,).
        settle: Ticks at the beginning of every take-over to leave out, e.g. those of the ramp.
        robot_steps: Take the policy's own ticks too, as RLIF's released baselines do.

    Returns:
        ``obs`` (m, D) and ``action`` (m, A), as sent, float32.
    """
    usable = (rows["terminated"] == 0) & (rows["truncated"] == 0)
    usable &= np.isfinite(rows["obs"]).all(-1) & np.isfinite(rows["sent_action"]).all(-1)
    expert = (rows["who"] == Who.HUMAN) & (rows["mode"] == Mode.TAKEOVER)
    goes_on = np.zeros(len(rows), bool)
    goes_on[1:] = expert[1:] & expert[:-1] & (rows["tick"][1:] == rows["tick"][:-1] + np.uint64(1))
    time = np.arange(len(rows))
    start = np.maximum.accumulate(np.where(expert & ~goes_on, time, 0)) if len(rows) else time
    wanted = expert & (time - start >= settle)
    if robot_steps:
        wanted |= (rows["who"] == Who.POLICY) & (rows["mode"] == Mode.POLICY)
    return {"obs": rows["obs"][usable & wanted], "action": rows["sent_action"][usable & wanted]}


def ledger_onsets(who: Sequence[int], first: Sequence[int], ticks: Sequence[int]) -> np.ndarray:
    """Return the ticks that a ledger of take-overs blames, int64: each the policy's last before a person's span.

    Args:
        who: Who drove in each span, oldest first.
        first: First tick of each span.
        ticks: Length of each span.
    """
    who_, first_, ticks_ = np.asarray(who), np.asarray(first, np.int64), np.asarray(ticks, np.int64)
    joined = first_[:-1] + ticks_[:-1] == first_[1:]
    return first_[1:][(who_[:-1] == Who.POLICY) & (who_[1:] == Who.HUMAN) & joined] - 1


class Pending:
    """Steps of N environments that wait for their reward: whether a take-over follows is known only later.

    What comes out, over all calls, is what ``rewards`` gives for each environment, in the order of time.
    """

    def __init__(self, num_envs: int, labelling: Labelling = RLIF) -> None:
        """Begin with nothing; ``num_envs`` is N."""
        self.labelling = labelling
        self.onsets = 0
        """Take-overs, e-stops included, that were somebody's fault so far."""
        self._run = np.zeros(num_envs, np.int64)  # steps of the policy in a row, up to the newest
        self._slots: list[tuple[dict[str, np.ndarray], np.ndarray]] = []  # steps and who still waits, oldest first

    def push(
        self, columns: Mapping[str, Array], *, human: np.ndarray, terminated: np.ndarray, truncated: np.ndarray,
        stopped: np.ndarray | None = None, demonstrated: bool = False,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Take the newest step of every environment and return the steps whose reward is now known.

        Args:
            columns: Arrays (N, ...) by name; ``reward`` is the task's, or zeros, and the label is added to it.
            human: Whether a person acted, bool (N,).
            terminated: Whether the step ended the episode, bool (N,).
            truncated: Whether the clock did, bool (N,).
            stopped: Whether the overseer did, bool (N,); None is never.
            demonstrated: Whether the person drives alone, from the beginning of episodes.

        Returns:
            The columns, (m, ...), and ``human`` (m,) float32.
        """
        self._punish(human & (self._run > 0))
        out = self._slots[:1] if len(self._slots) == self.labelling.blame_window else []
        self._slots = self._slots[len(out) :]
        step = {name: np.array(np.asarray(x), np.float32) for name, x in columns.items()} | {
            "human": human.astype(np.float32)
        }
        step["reward"] += np.float32(self.labelling.end_reward) * terminated.astype(np.float32)
        stored = self.labelling.store_takeover_steps or demonstrated
        waits = np.ones_like(human) if stored else ~human | terminated
        self._slots.append((step, waits))
        self._run = np.where(human, 0, self._run + 1)
        if stopped is not None:
            self._punish(stopped & ~human)
        ended = terminated | truncated
        self._run[ended] = 0
        out += [(part, waiting & ended) for part, waiting in self._slots]
        self._slots = [(part, waiting & ~ended) for part, waiting in self._slots]
        return _joined(out)

    def flush(self) -> dict[str, np.ndarray]:
        """Return what still waits, with the rewards known so far; for the end of a run."""
        out, self._slots = self._slots, []
        self._run[:] = 0
        return _joined(out)

    def state_dict(self) -> dict[str, Any]:
        """Return arrays and numbers from which ``load_state_dict`` goes on exactly."""
        return {"run": self._run, "onsets": self.onsets, "slots": [[part, waits] for part, waits in self._slots]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; arrays may be anything that numpy reads."""
        self._run = np.array(np.asarray(state["run"]), np.int64)
        self.onsets = int(state["onsets"])
        self._slots = [
            ({name: np.array(np.asarray(x)) for name, x in part.items()}, np.array(np.asarray(waits)))
            for part, waits in state["slots"]
        ]

    def _punish(self, hit: np.ndarray) -> None:
        """Share the cost among the newest steps of the policy's run in each environment of ``hit``, (N,)."""
        self.onsets += int(hit.sum())
        sharing = np.minimum(np.maximum(self._run, 1), self.labelling.blame_window)
        for age, (part, _) in enumerate(reversed(self._slots)):
            cost = np.where(hit & (age < sharing), self.labelling.weight / sharing, 0.0)
            part["reward"] -= cost.astype(np.float32)


def _joined(parts: list[tuple[dict[str, np.ndarray], np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the chosen environments of each step one after the other; no key where there is no step."""
    if not parts:
        return {}
    return {name: np.concatenate([part[name][chosen] for part, chosen in parts]) for name in parts[0][0]}


def route(human: np.ndarray, method: str) -> dict[str, np.ndarray]:
    """Return which steps go to which buffer, bool (T,) by name: ``online``, ``demo`` and ``clone``.

    Args:
        human: Whether a person acted, bool (T,).
        method: ``rlif`` (everything online), ``hil_serl`` (everything online, the person's also as demonstrations) or
            ``hg_dagger`` (the person's to clone, nothing else).

    Raises:
        ValueError: There is no such method.
    """
    every, none = np.ones_like(human), np.zeros_like(human)
    routes = {"rlif": (every, none, none), "hil_serl": (every, human, none), "hg_dagger": (none, none, human)}
    if method not in routes:
        raise ValueError(f"no method {method!r}; the choices are {tuple(routes)}")
    return dict(zip(("online", "demo", "clone"), routes[method], strict=True))
