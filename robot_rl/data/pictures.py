"""Replay with pictures: each picture is kept once, as the uint8 that the camera gave, beside packed rows of numbers.

A row's last number of ``obs`` and of ``next_obs`` is the place of its picture. A picture is the successor of one row
and the start of the next; only the last one of an episode serves one row alone. So returns of n steps, time-outs and
symmetric batches are those of ``replay``, which compares places like any other number: a row goes on where the next
one of its stream begins with the very picture that it ended in.

Memory: one picture per transition kept and one per episode among them. 84 x 84 x 3 bytes are 21 kB, so that 30 000
transitions of one camera take 635 MB, of 64 x 64 pictures 370 MB. Memory is taken as it is filled.

Knows: places, when they are free again. Does not know: what draws, shifts or encodes pictures; any array of a fixed
shape will do, features of a frozen encoder too.

Shapes: N streams · B batch · U updates · H height · W width · C colours, of all cameras side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robot_rl.contract.arrays import Array
from robot_rl.data.replay import Replay, sample_symmetric, transition_columns

MOST = 1 << 24
"""Places beyond this are no exact float32."""
GROUP = "pixels/"
"""Groups of observations that begin so hold pictures, see ``contract.spec.ImageTerm``."""


class PictureReplay:
    """A ring of transitions with a picture before and after each.

    Args:
        capacity: Transitions kept; the oldest make room.
        obs_size: Width of the numbers beside a picture.
        num_actions: Width of an action.
        shape: Of a picture, (H, W, C).
        streams: N, episodes that are written in turns, a row each in every ``extend``.
        dtype: Of a picture.

    Raises:
        ValueError: The capacity does not hold a row of each stream, or is beyond what places can be told by.
    """

    def __init__(
        self, capacity: int, obs_size: int, num_actions: int, shape: tuple[int, ...], *, streams: int = 1,
        dtype: Any = np.uint8,
    ) -> None:  # fmt: skip
        places = 2 * (capacity + streams)  # were every episode one step long
        if not streams <= capacity or places > MOST:
            raise ValueError(
                f"replay of {streams} streams keeps {capacity} pictures; {streams} to {MOST // 2 - streams}"
            )
        self.rows = Replay(capacity, transition_columns(obs_size + 1, num_actions), streams=streams)
        """The numbers."""
        self.pictures = np.zeros((places, *shape), dtype)
        self._used = 0  # places that were ever taken
        self._free: list[int] = []
        self._now = np.full(streams, -1)  # place of the picture that each stream stands at
        self._newest = np.full(streams, -1)  # row that ended there; -1 where the stream has just begun
        self._ended = np.zeros(capacity, np.bool_)  # whether a row's successor begins no other row

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> int:
        """Transitions ever added."""
        return self.rows.total

    @property
    def begun(self) -> bool:
        """Whether every stream has a picture to go on from."""
        return bool((self._now >= 0).all())

    @property
    def nbytes(self) -> int:
        """Memory of the pictures so far [B]."""
        return self._used * self.pictures[:1].nbytes

    def begin(self, pictures: Array, ids: Array | None = None) -> None:
        """Let streams ``ids``, (n,), all by default, begin an episode with ``pictures``, (n, H, W, C)."""
        ids = np.arange(len(self._now)) if ids is None else np.asarray(ids)
        self._check("picture", pictures, len(ids))
        for stream in ids:
            if self._newest[stream] >= 0:
                self._ended[self._newest[stream]] = True
            elif self._now[stream] >= 0:  # nothing happened since it began
                self._free.append(int(self._now[stream]))
        self._now[ids], self._newest[ids] = self._keep(pictures), -1

    def extend(self, columns: Mapping[str, Array], next_pictures: Array) -> None:
        """Add a transition of every stream, from the picture it stands at to its successor.

        Args:
            columns: Arrays by the names of ``transition_columns``, (N, width), or (N,) for a scalar.
            next_pictures: The true successors, before any reset, (N, H, W, C); ``begin`` follows where one ended.

        Raises:
            ValueError: A stream has not begun, or something is missing, unknown, of another shape, or not finite.
        """
        n, rows = len(self._now), self.rows
        if not self.begun:
            raise ValueError(
                f"streams {np.flatnonzero(self._now < 0).tolist()} have no picture to start from; call begin"
            )
        self._check("next picture", next_pictures, n)
        at = (rows.total + np.arange(n)) % rows.capacity
        old = at[rows.total + np.arange(n) >= rows.capacity]
        parts = rows.split(rows.rows[old])
        gone = [*parts["obs"][:, -1], *parts["next_obs"][self._ended[old], -1]]
        places = self._upcoming(n)
        full = dict(columns)
        for name, place in (("obs", self._now), ("next_obs", places)):
            full[name] = np.concatenate((np.asarray(columns[name]), place[:, None]), -1)
        rows.extend(full)  # refuses what it must before anything here has changed
        self._now, self._newest = self._keep(next_pictures), at
        self._free += [int(place) for place in gone]
        self._ended[at] = False

    def at(self, places: Array) -> np.ndarray:
        """Return the pictures at ``places``, any shape: (..., H, W, C), fresh."""
        return self.pictures.take(np.asarray(places, np.int64), 0)

    def with_pictures(self, become: Callable[[np.ndarray], np.ndarray]) -> PictureReplay:
        """Return the same transitions with ``become``, (n, H, W, C) to (n, ...), of each picture, a few at a time."""
        first = become(self.pictures[:1])
        rows, streams = self.rows, len(self._now)
        other = PictureReplay(
            rows.capacity, rows.columns["obs"] - 1, rows.columns["action"], first.shape[1:], streams=streams,
            dtype=first.dtype,
        )  # fmt: skip
        state = self.state_dict()
        chunks = [become(state["pictures"][at : at + 64]) for at in range(0, self._used, 64)]
        other.load_state_dict(state | {"pictures": np.concatenate(chunks or [first[:0]])})
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as a tree for ``checkpoint.save``."""
        return {
            "rows": self.rows.state_dict(), "pictures": self.pictures[: self._used].copy(),
            "free": np.array(self._free, np.int64), "now": self._now.copy(), "newest": self._newest.copy(),
            "ended": self._ended.copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; adding and sampling go on exactly as they would have.

        Raises:
            ValueError: It is of other pictures, streams or rows.
        """
        pictures, now = np.asarray(state["pictures"]), np.asarray(state["now"]).copy()
        kind = self.pictures.shape[1:], self.pictures.dtype, len(self._now)
        found = pictures.shape[1:], pictures.dtype, len(now)
        if kind != found:
            raise ValueError(f"replay state has pictures, dtype and streams {found}; this replay has {kind}")
        self.rows.load_state_dict(state["rows"])
        self._used = len(pictures)
        self.pictures[: self._used] = pictures
        self._free = [int(place) for place in state["free"]]
        self._now, self._newest = now, np.asarray(state["newest"]).copy()
        self._ended = np.asarray(state["ended"]).copy()

    def _upcoming(self, n: int) -> np.ndarray:
        """Return the places that the next n pictures will get."""
        again = self._free[::-1][:n]
        return np.array([*again, *range(self._used, self._used + n - len(again))])

    def _keep(self, pictures: Array) -> np.ndarray:
        places = self._upcoming(len(pictures))
        del self._free[max(0, len(self._free) - len(places)) :]
        self._used = max(self._used, int(places.max(initial=-1)) + 1)
        self.pictures[places] = pictures
        return places

    def _check(self, what: str, pictures: Array, n: int) -> None:
        wanted, found = (n, *self.pictures.shape[1:]), tuple(pictures.shape)
        same = np.asarray(pictures[:0]).dtype == self.pictures.dtype
        if found != wanted or not same:
            raise ValueError(f"a {what} of each of {n} streams is {wanted} {self.pictures.dtype}; got {found}")


def sample_pictures(
    prior: PictureReplay | None, online: PictureReplay, updates: int, batch: int, rng: np.random.Generator, *,
    steps: int = 1, discount: float = 1.0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return minibatches with pictures, half of each prior where there is prior data.

    Args:
        prior: Demonstrations, the first half of each minibatch; None is none.
        online: What the robot does now.
        updates: U.
        batch: B, even where there is prior data.
        rng: Source of randomness.
        steps: Of the returns, see ``Replay.ahead``.
        discount: Per step.

    Returns:
        Arrays (U, B, ...) by the names of ``transition_columns``, and ``pictures`` and ``next_pictures``.

    Raises:
        ValueError: ``batch`` is odd, what is kept differs, or there is nothing to draw.
    """
    if prior is None or not len(prior) or not len(online):
        source = online if prior is None or len(online) else prior
        found = source.rows.sample_many(updates, batch, rng, steps=steps, discount=discount)
        parts = [(source, slice(None))]
    else:
        if prior.pictures.shape[1:] != online.pictures.shape[1:] or prior.pictures.dtype != online.pictures.dtype:
            kinds = [f"{x.pictures.shape[1:]} {x.pictures.dtype}" for x in (prior, online)]
            raise ValueError(f"the prior replay has pictures of {kinds[0]}; the online one of {kinds[1]}")
        found = sample_symmetric(prior.rows, online.rows, updates, batch, rng, steps=steps, discount=discount)
        parts = [(prior, slice(batch // 2)), (online, slice(batch // 2, None))]
    columns = dict(found)
    for numbers, name in (("obs", "pictures"), ("next_obs", "next_pictures")):
        columns[name] = np.concatenate([part.at(found[numbers][:, half, -1]) for part, half in parts], 1)
        columns[numbers] = found[numbers][..., :-1]
    return columns


def side_by_side(obs: Mapping[str, Array]) -> np.ndarray:
    """Return the pictures of all cameras in ``obs``, each (N, H, W, 3), as (N, H, W, 3 cameras).

    Raises:
        ValueError: There are none, or they differ in size.
    """
    seen = {name: np.asarray(x) for name, x in obs.items() if name.startswith(GROUP)}
    if not seen or len({x.shape[1:3] for x in seen.values()}) > 1:
        sizes = {name: x.shape[1:3] for name, x in seen.items()}
        raise ValueError(f"pictures side by side are of one size, at least one; got {sizes}")
    return np.concatenate(list(seen.values()), -1)
