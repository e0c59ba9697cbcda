"""Packed replay: every transition one float32 row of one matrix, so that a batch is a single gather.

Knows: named columns, a ring, random indices, which transition goes on where another ended (for returns of n steps).
Does not know: rewards, tasks (``feeder``), torch (``split`` slices tensors just as well).

Shapes: B batch · U updates · W width of a row.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.contract.arrays import Array
from robot_rl.data.atomic import write_whole

_SCHEMA = 1


def transition_columns(obs_size: int, num_actions: int) -> dict[str, int]:
    """Return the columns of off-policy learning: obs, action, reward, next_obs, terminated; 0 marks a scalar."""
    return {"obs": obs_size, "action": num_actions, "reward": 0, "next_obs": obs_size, "terminated": 0}


class Replay:
    """A ring of transitions.

    Args:
        capacity: Rows kept; the oldest make room.
        columns: Width by name, in order; 0 is a scalar column, sampled as (B,) instead of (B, 1).
        streams: Episodes that are written in turns, one row each: the next row of an episode is this far away.

    Raises:
        ValueError: The capacity, the streams or a width make no sense.
    """

    def __init__(self, capacity: int, columns: Mapping[str, int], *, streams: int = 1) -> None:
        if capacity < 1 or not columns or min(columns.values()) < 0:
            raise ValueError(f"replay needs a capacity and columns; got {capacity} and {dict(columns)}")
        if streams < 1:
            raise ValueError(f"replay has {streams} streams; at least 1")
        self.capacity, self.streams = capacity, streams
        self.columns = dict(columns)
        """Width by name; 0 is a scalar."""
        self.total = 0
        """Rows ever added."""
        self._parts: list[tuple[str, int | slice]] = []
        at = 0
        for name, width in columns.items():
            self._parts.append((name, slice(at, at + width) if width else at))
            at += width or 1
        self.rows = np.zeros((capacity, at), np.float32)  # (capacity, W); pages are taken as they are filled
        """The matrix itself; row ``total % capacity`` is written next."""
        self._goes_on = np.zeros(capacity, np.bool_)  # the row ``streams`` later begins where this one ended
        self._linked = 0  # rows of which ``_goes_on`` knows, out of ``total``

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def split(self, rows: Array) -> dict[str, Array]:
        """Return views of packed rows, (..., W), by column name: (..., width), or (...) for a scalar."""
        return {name: rows[..., part] for name, part in self._parts}

    def extend(self, columns: Mapping[str, Array]) -> None:
        """Add n transitions.

        Args:
            columns: Arrays by name, (n, width), or (n,) for a scalar column.

        Raises:
            ValueError: A column is missing, unknown, of another shape, or not finite.
        """
        if columns.keys() != self.columns.keys():
            raise ValueError(f"replay was given the columns {sorted(columns)}; it has {sorted(self.columns)}")
        n = len(next(iter(columns.values())))
        packed = np.empty((n, self.rows.shape[1]), np.float32)
        for name, part in self._parts:
            width, values = self.columns[name], np.asarray(columns[name])
            shape = (n, width) if width else (n,)
            if values.shape != shape:
                raise ValueError(f"replay column {name!r} has the shape {values.shape}; expected {shape}")
            packed[:, part] = values
        if not np.isfinite(packed).all():
            row, at = np.argwhere(~np.isfinite(packed))[0]
            raise ValueError(f"replay column {self._column_at(int(at))!r} is {packed[row, at]} in row {row} of {n}")
        self._append(packed)

    def sample_rows(self, shape: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Return transitions drawn uniformly, with replacement, packed: float32 (*shape, W).

        Raises:
            ValueError: The replay is empty.
        """
        return self.rows.take(self._draw(shape, rng), 0, mode="clip")  # clip: no bounds are checked twice

    def sample(self, batch: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return ``batch`` transitions by column, (B, width) or (B,), views of one fresh array."""
        return self.split(self.sample_rows(batch, rng))

    def sample_many(
        self, updates: int, batch: int, rng: np.random.Generator, *, steps: int = 1, discount: float = 1.0
    ) -> dict[str, np.ndarray]:
        """Return the minibatches of many updates in one gather, (U, B, width) or (U, B).

        Args:
            updates: U.
            batch: B.
            rng: Source of randomness.
            steps: Of the returns, see ``ahead``.
            discount: Per step.
        """
        slots = self._draw((updates, batch), rng)
        return self.split(self.ahead(slots.reshape(-1), steps, discount).reshape(updates, batch, -1))

    def ahead(self, slots: np.ndarray, steps: int, discount: float) -> np.ndarray:
        """Return transitions that look up to ``steps`` ahead, packed: float32 (n, W).

        ``reward`` is ``sum_k discount^k r_k`` over the m <= ``steps`` rows to the end of the episode or of the data,
        ``next_obs`` that of the last of them, and ``terminated`` is ``1 - discount^(m-1) (1 - its terminated)``, so
        that ``reward + discount (1 - terminated) V(next_obs)`` is the return of m steps. A time-out or the newest row
        bootstraps where it lies. A row goes on in the row of its stream behind it that begins in the observation in
        which it ended, bit for bit, unless it is terminal.

        Args:
            slots: Rows of ``rows`` to begin with, (n,).
            steps: At most; 1 returns the rows as they are.
            discount: Per step.
        """
        found = self.rows.take(slots, 0, mode="clip")  # clip: no bounds are checked twice
        if steps == 1:
            return found
        self._link()
        now, rows = self.split(found), self.split(self.rows)
        last, weight, alive = slots.copy(), np.ones(len(slots), np.float32), self._goes_on[slots]
        for _ in range(steps - 1):
            last[alive] = (last[alive] + self.streams) % self.capacity
            weight[alive] *= discount
            now["reward"][alive] += weight[alive] * rows["reward"][last[alive]]
            alive = alive & self._goes_on[last]
        now["next_obs"][:] = rows["next_obs"][last]
        now["terminated"][:] = 1.0 - weight * (1.0 - rows["terminated"][last])
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return everything: ``rows`` (len, W) in the order of the ring, ``total``, ``capacity``, ``columns``."""
        return {
            "schema": _SCHEMA,
            "rows": self.rows[: len(self)].copy(),
            "total": self.total,
            "capacity": self.capacity,
            "columns": dict(self.columns),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; sampling goes on exactly as it would have.

        Raises:
            ValueError: Another schema, capacity or set of columns, or rows that do not fit.
        """
        mine = {"schema": _SCHEMA, "capacity": self.capacity, "columns": self.columns}
        for name, value in mine.items():
            if state[name] != value:
                raise ValueError(f"replay state has the {name} {state[name]}; this replay has {value}")
        if list(state["columns"]) != list(self.columns):
            raise ValueError(f"replay state orders its columns {list(state['columns'])}, not {list(self.columns)}")
        rows, total = np.asarray(state["rows"]), int(state["total"])
        size = min(total, self.capacity)
        if rows.shape != (size, self.rows.shape[1]) or rows.dtype != np.float32:
            raise ValueError(f"replay state has rows {rows.dtype} {rows.shape} for a total of {total}")
        self.rows[:size] = rows
        self.total, self._linked = total, 0

    def save(self, folder: Path) -> None:
        """Write the state into ``folder``, so that a kill at any moment leaves the old state or the new one."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"rows-{self.total}-{secrets.token_hex(4)}.npy"
        write_whole(folder / name, _as_npy(self.rows[: len(self)]))
        state = {"schema": _SCHEMA, "rows": name, "total": self.total, "capacity": self.capacity}
        write_whole(folder / "replay.json", json.dumps(state | {"columns": self.columns}).encode())
        for old in folder.glob("rows-*.npy"):
            if old.name != name:
                old.unlink()

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: Nothing was saved there.
            ValueError: It does not fit this replay, or is damaged.
        """
        try:
            state = json.loads((folder / "replay.json").read_text())
            state["rows"] = np.load(folder / Path(state["rows"]).name, allow_pickle=False)
        except (KeyError, TypeError, EOFError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} holds no replay: {error!r}") from error
        self.load_state_dict(state)

    def _append(self, packed: np.ndarray) -> None:
        """Write rows behind the newest, around the end of the ring; of more than ``capacity``, the last stay."""
        skipped = max(0, len(packed) - self.capacity)
        at = (self.total + skipped) % self.capacity
        kept = packed[skipped:]
        first = min(len(kept), self.capacity - at)
        self.rows[at : at + first] = kept[:first]
        self.rows[: len(kept) - first] = kept[first:]
        self.total += len(packed)

    def _link(self) -> None:
        """Find out which of the rows that came since go on."""
        oldest, apart = max(0, self.total - self.capacity), self.streams
        for begin in range(max(oldest, self._linked - apart), self.total, 1 << 16):
            number = np.arange(begin, min(begin + (1 << 16), self.total))
            here = number % self.capacity
            self._goes_on[here] = False
            here = here[number + apart < self.total]
            now, then = self.rows[here], self.rows[(here + apart) % self.capacity]
            ends, begins = self.split(now), self.split(then)["obs"]
            self._goes_on[here] = (ends["terminated"] == 0.0) & (ends["next_obs"] == begins).all(-1)
        self._linked = self.total

    def _draw(self, shape: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        if not self.total:
            raise ValueError("cannot sample from an empty replay")
        return rng.integers(0, len(self), shape)

    def _column_at(self, at: int) -> str:
        for name, part in self._parts:
            if at == part or (isinstance(part, slice) and part.start <= at < part.stop):
                return name
        raise AssertionError(f"no column at {at}")


def sample_symmetric(
    prior: Replay,
    online: Replay,
    updates: int,
    batch: int,
    rng: np.random.Generator,
    *,
    steps: int = 1,
    discount: float = 1.0,
) -> dict[str, np.ndarray]:
    """Return minibatches of which each is half prior data and half online data (RLPD, arXiv 2302.02948, section 4.1).

    Args:
        prior: Demonstrations or earlier recordings; fills the first half of each minibatch.
        online: What the robot does now; fills the second half.
        updates: Number of minibatches U.
        batch: Even size B of each.
        rng: Source of randomness.
        steps: Of the returns, see ``Replay.ahead``.
        discount: Per step.

    Returns:
        Arrays by column, (U, B, width) or (U, B). Where one replay is empty the other fills both halves.

    Raises:
        ValueError: ``batch`` is odd, the columns differ, or both replays are empty.
    """
    if batch % 2:
        raise ValueError(f"a symmetric batch has two halves; {batch} is odd")
    if list(prior.columns.items()) != list(online.columns.items()):
        raise ValueError(f"the prior replay has the columns {prior.columns}; the online one {online.columns}")
    if not len(prior) or not len(online):
        return (online if len(online) else prior).sample_many(updates, batch, rng, steps=steps, discount=discount)
    rows = np.empty((updates, batch, online.rows.shape[1]), np.float32)
    half = batch // 2
    for source, start in ((prior, 0), (online, half)):
        index = rng.integers(0, len(source), (updates, half))
        if steps > 1:
            rows[:, start : start + half] = source.ahead(index.reshape(-1), steps, discount).reshape(updates, half, -1)
            continue
        for update in range(updates):  # straight into place: a gather into a contiguous half needs no second copy
            source.rows.take(index[update], 0, rows[update, start : start + half], "clip")
    return online.split(rows)


def _as_npy(rows: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    return file.getvalue()
