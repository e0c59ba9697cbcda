"""From recorded rows to replay: transitions of consecutive ticks, rewards from the task, fed while the robot records.

A transition needs two rows of consecutive ticks of one process and one episode, the first of them commanded by a
policy or a person. The action is the one that was *sent*. The row that ends an episode is only a successor: where it
says ``terminated`` the transition into it does not bootstrap; where it says ``truncated`` it does.

Knows: the meaning of rows. Does not know: how a reward is computed (a callable of the task), files (``follow``).

Shapes: n rows or transitions · D observation · A action.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from robot_rl.contract.spec import Contract
from robot_rl.data.follow import EpisodeReader, Item, Rows
from robot_rl.data.pictures import PictureReplay
from robot_rl.data.replay import Replay
from robot_rl.data.transition import Mode, Who

_ROWS_AT_ONCE = 1 << 16  # of a store of many hours
Reward: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(rows_t, rows_t1) -> reward``: structured arrays (n,) in, float (n,) out, of the steps from each t to its t1."""

Features: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""``(rows) -> numbers``: structured array (n,) in, (n, k) out."""


def as_transitions(rows: np.ndarray, reward: Reward, features: Features | None = None) -> dict[str, np.ndarray]:
    """Return the transitions in rows of one process, in the order they were recorded.

    Args:
        rows: Structured array (n,), possibly of several episodes, possibly with gaps.
        reward: The task's reward.
        features: What the critics see beside the policy's observation, appended to ``obs`` and ``next_obs``.

    Returns:
        The columns of ``replay.transition_columns``, float32; empty where no two rows belong together.

    Raises:
        ValueError: The reward has another shape than (n,).
    """
    first = beginnings(rows)
    now, then = rows[first], rows[first + 1]
    rewards = np.asarray(reward(now, then), np.float32)
    if rewards.shape != (first.size,):
        raise ValueError(f"the reward of {first.size} transitions has the shape {rewards.shape}; expected one each")
    return {
        "obs": _widened(now, features),
        "action": now["sent_action"],
        "reward": rewards,
        "next_obs": _widened(then, features),
        "terminated": then["terminated"].astype(np.float32),
    }


def beginnings(rows: np.ndarray) -> np.ndarray:
    """Return the places (m,) in ``rows`` (n,) that begin a transition, which the next row ends."""
    ended = (rows["terminated"] != 0) | (rows["truncated"] != 0)
    mode, who = rows["mode"], rows["who"]
    commanded = ((mode == Mode.POLICY) | (mode == Mode.TAKEOVER)) & ((who == Who.POLICY) | (who == Who.HUMAN))
    seen = np.asarray(np.isfinite(rows["obs"]).all(-1))
    commanded &= ~ended & seen & np.isfinite(rows["sent_action"]).all(-1)
    consecutive = rows["tick"][1:] == rows["tick"][:-1] + np.uint64(1)
    return np.flatnonzero(commanded[:-1] & consecutive & seen[1:])


def _widened(rows: np.ndarray, features: Features | None) -> np.ndarray:
    return rows["obs"] if features is None else np.concatenate((rows["obs"], features(rows)), -1)


class Feeder:
    """Keeps a replay filled from a store that grows.

    Args:
        folder: The store, which need not exist yet.
        contract: Rows of other contracts are left out and listed as set aside.
        replay: Takes the transitions; its columns are those of ``replay.transition_columns``. A ``PictureReplay`` of
            one stream takes their pictures too.
        reward: The task's reward.
        features: What the critics see beside the policy's observation; None is nothing.
        see: What a ``PictureReplay`` keeps of the pictures in rows, (n,) to (n, ...).
        state: What ``state_dict`` returned in an earlier life; None starts at the beginning of the store.

    Raises:
        ValueError: The state is not one.
    """

    def __init__(
        self,
        folder: Path,
        contract: Contract,
        replay: Replay | PictureReplay,
        reward: Reward,
        *,
        features: Features | None = None,
        see: Features | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.replay = replay
        self.events: list[dict[str, Any]] = []
        """Events seen by the last ``poll``."""
        self._reward, self._features, self._see = reward, features, see
        self._reader = EpisodeReader.follow(folder, contract=contract, cursor=state["cursor"] if state else None)
        self._last: dict[str, bytes] = {}  # newest row per writer: the first half of a transition to come
        self._stands: tuple[str, int] | None = None  # writer and tick of the picture that the replay stands at
        if state:
            self._stands = None if state.get("stands") is None else (state["stands"][0], int(state["stands"][1]))
            self._last = {writer: base64.b64decode(row) for writer, row in state["last"].items()}

    def poll(self, max_rows: int | None = None) -> int:
        """Move what is new in the store into the replay; return the number of transitions added.

        Args:
            max_rows: Most rows to read now; None for all there are.
        """
        before = self.replay.total
        self.events = []
        if max_rows is not None:
            self._take(self._reader.poll(max_rows))
        else:
            while items := self._reader.poll(_ROWS_AT_ONCE):
                self._take(items)
        return self.replay.total - before

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values from which another feeder goes on without losing or doubling a transition."""
        last = {writer: base64.b64encode(row).decode() for writer, row in self._last.items()}
        return {"cursor": self._reader.cursor, "last": last, "stands": self._stands}

    def _take(self, items: list[Item]) -> None:
        """Rows come in records of a few ticks; all between two boundaries of episodes are worked on at once."""
        waiting: list[Rows] = []
        for item in items:
            if isinstance(item, Rows):
                if waiting and waiting[-1].source.writer != item.source.writer:
                    self._take_rows(waiting)
                    waiting = []
                waiting.append(item)
                continue
            self.events.append(item.content)
            if item.content["event"] in ("episode_start", "episode_end"):
                self._take_rows(waiting)
                waiting = []
                self._last.pop(item.source.writer, None)
        self._take_rows(waiting)

    def _take_rows(self, items: list[Rows]) -> None:
        """Take rows of one writer, in order."""
        if not items:
            return
        writer, rows = items[0].source.writer, [item.rows for item in items]
        last = np.frombuffer(self._last.get(writer, b""), rows[0].dtype)
        whole = np.concatenate([last, *rows])
        columns = as_transitions(whole, self._reward, self._features)
        if isinstance(self.replay, PictureReplay):
            self._extend_seeing(self.replay, writer, whole, columns)
        elif len(columns["reward"]):
            self.replay.extend(columns)
        self._last[writer] = rows[-1][-1:].tobytes()

    def _extend_seeing(
        self, replay: PictureReplay, writer: str, rows: np.ndarray, columns: dict[str, np.ndarray]
    ) -> None:
        """Add transitions one by one, so that a picture between two of them is kept once."""
        assert self._see is not None, "who keeps pictures says what of them"
        first = beginnings(rows)
        needed = np.unique(np.concatenate((first, first + 1)))
        shown = dict(zip(needed.tolist(), self._see(rows[needed]), strict=True)) if needed.size else {}
        for k, i in enumerate(first.tolist()):
            at = int(rows["tick"][i])
            if self._stands != (writer, at) or not replay.begun:  # another replay may have taken its place
                replay.begin(shown[i][None])
            replay.extend({name: x[k : k + 1] for name, x in columns.items()}, shown[i + 1][None])
            self._stands = (writer, at + 1)

    def close(self) -> None:
        """Close the files held open."""
        self._reader.close()
