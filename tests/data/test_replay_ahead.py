"""Returns of n steps: hand-computed ones, and the fast gather against a walk along every episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.replay import Replay, sample_symmetric, transition_columns

COLUMNS = transition_columns(2, 1)


def rows(
    obs: list[float], next_obs: list[float], reward: list[float], terminated: list[float]
) -> dict[str, np.ndarray]:
    n = len(obs)
    wide = [np.repeat(np.array(x, np.float32)[:, None], 2, 1) for x in (obs, next_obs)]
    return {
        "obs": wide[0], "action": np.arange(n, dtype=np.float32)[:, None], "reward": np.array(reward, np.float32),
        "next_obs": wide[1], "terminated": np.array(terminated, np.float32),
    }  # fmt: skip


def episodes(terminal: float) -> Replay:
    """Three steps 0-1-2-3 that pay 1, 2, 4 and end (terminal or by time), then one step 10-11 that pays 8."""
    replay = Replay(10, COLUMNS)
    replay.extend(rows([0, 1, 2, 10], [1, 2, 3, 11], [1, 2, 4, 8], [0, 0, terminal, 0]))
    return replay


@pytest.mark.parametrize(
    ("steps", "terminal", "reward", "next_obs", "weight"),
    [
        # weight is what the value of next_obs counts, discount included
        (1, 1.0, [1, 2, 4, 8], [1, 2, 3, 11], [0.5, 0.5, 0, 0.5]),
        (2, 1.0, [1 + 1, 2 + 2, 4, 8], [2, 3, 3, 11], [0.25, 0, 0, 0.5]),
        (3, 1.0, [1 + 1 + 1, 2 + 2, 4, 8], [3, 3, 3, 11], [0, 0, 0, 0.5]),
        (9, 1.0, [1 + 1 + 1, 2 + 2, 4, 8], [3, 3, 3, 11], [0, 0, 0, 0.5]),
        (2, 0.0, [1 + 1, 2 + 2, 4, 8], [2, 3, 3, 11], [0.25, 0.25, 0.5, 0.5]),
        (9, 0.0, [1 + 1 + 1, 2 + 2, 4, 8], [3, 3, 3, 11], [0.125, 0.25, 0.5, 0.5]),
    ],
)
def test_returns_are_those_worked_out_by_hand(
    steps: int, terminal: float, reward: list[float], next_obs: list[float], weight: list[float]
) -> None:
    """Discount 1/2; a time-out bootstraps from where it cut, a terminal state not at all."""
    replay = episodes(terminal)
    found = replay.split(replay.ahead(np.arange(4), steps, 0.5))
    assert found["reward"].tolist() == reward
    assert found["next_obs"][:, 0].tolist() == found["next_obs"][:, 1].tolist() == next_obs
    assert (0.5 * (1.0 - found["terminated"])).tolist() == weight
    assert found["obs"][:, 0].tolist() == [0, 1, 2, 10] and found["action"][:, 0].tolist() == [0, 1, 2, 3]


def test_the_newest_row_goes_on_once_its_successor_is_there() -> None:
    replay = Replay(10, COLUMNS)
    replay.extend(rows([0], [1], [1], [0]))
    assert replay.split(replay.ahead(np.array([0]), 2, 0.5))["reward"].tolist() == [1.0]
    replay.extend(rows([1], [2], [6], [0]))
    assert replay.split(replay.ahead(np.array([0]), 2, 0.5))["reward"].tolist() == [4.0]


def test_the_rows_themselves_stay_as_they_are() -> None:
    replay = episodes(1.0)
    before = replay.rows.copy()
    replay.ahead(np.arange(4), 3, 0.9)
    replay.sample_many(2, 4, np.random.default_rng(0), steps=3, discount=0.9)["reward"][:] = -1.0
    assert (replay.rows == before).all()


class Story:
    """Episodes of several streams, written in turns; remembers what belongs together."""

    def __init__(self, capacity: int, streams: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.replay = Replay(capacity, COLUMNS, streams=streams)
        self.state = np.arange(streams, dtype=np.float32) * 1000.0
        self.open: list[int | None] = [None] * streams
        self.rows: list[dict[str, float]] = []
        self.successor: dict[int, int] = {}

    def step(self) -> None:
        n = len(self.state)
        reward, end = self.rng.normal(size=n), self.rng.choice([0, 1, 2], n, p=[0.7, 0.15, 0.15])
        then = self.state + 1.0
        self.replay.extend(rows(list(self.state), list(then), list(reward), list((end == 1).astype(float))))
        for i in range(n):
            number, before = len(self.rows), self.open[i]
            self.rows.append({"reward": float(np.float32(reward[i])), "next": float(then[i]), "end": float(end[i])})
            if before is not None:
                self.successor[before] = number
            self.open[i] = None if end[i] else number
        self.state = np.where(end > 0, then + 1.0, then)  # the next episode begins elsewhere

    def walk(self, number: int, steps: int, discount: float) -> tuple[float, float, float]:
        """Return, last observation and weight of its value without the first discount."""
        total, weight = self.rows[number]["reward"], 1.0
        for _ in range(steps - 1):
            if number not in self.successor:
                break
            number, weight = self.successor[number], weight * discount
            total += weight * self.rows[number]["reward"]
        return total, self.rows[number]["next"], weight * (self.rows[number]["end"] != 1.0)


@settings(deadline=None, max_examples=40)
@given(
    capacity=st.integers(1, 25), streams=st.integers(1, 4), steps=st.integers(1, 5), seed=st.integers(0, 999),
    bursts=st.lists(st.integers(0, 12), min_size=1, max_size=4),
)  # fmt: skip
def test_the_gather_is_a_walk_along_each_episode(
    capacity: int, streams: int, steps: int, seed: int, bursts: list[int]
) -> None:
    """Over the seam of the ring, with several streams, looked at between bursts of writing."""
    story = Story(capacity, streams, seed)
    for burst in bursts:
        for _ in range(burst):
            story.step()
        total, size = story.replay.total, len(story.replay)
        numbers = np.arange(total - size, total)
        found = story.replay.split(story.replay.ahead(numbers % capacity, steps, 0.9))
        for k, number in enumerate(numbers):
            reward, last, weight = story.walk(int(number), steps, 0.9)
            assert found["reward"][k] == pytest.approx(reward, abs=1e-5)
            assert found["next_obs"][k, 0] == last
            assert 1.0 - found["terminated"][k] == pytest.approx(weight, abs=1e-6)


def test_sampling_draws_the_same_rows_for_any_number_of_steps() -> None:
    replay = episodes(1.0)
    one, many = (replay.sample_many(3, 4, np.random.default_rng(0), steps=s, discount=0.5) for s in (1, 3))
    assert (one["obs"] == many["obs"]).all()
    returns = np.array([3.0, 4.0, 4.0, 8.0], np.float32)
    assert (many["reward"] == returns[many["action"][..., 0].astype(int)]).all()


def test_prior_data_looks_ahead_in_its_own_episodes() -> None:
    prior, online = episodes(0.0), Replay(8, COLUMNS, streams=2)
    online.extend(rows([100, 200], [101, 201], [16, 32], [0, 0]))
    online.extend(rows([101, 201], [102, 202], [64, 128], [0, 0]))
    batch = sample_symmetric(prior, online, 50, 8, np.random.default_rng(0), steps=2, discount=0.5)
    for half, expected in (
        (slice(0, 4), {0: 2.0, 1: 4.0, 2: 4.0, 10: 8.0}), (slice(4, 8), {100: 48.0, 200: 96.0, 101: 64.0, 201: 128.0})
    ):  # fmt: skip
        obs, reward = batch["obs"][:, half, 0].ravel(), batch["reward"][:, half].ravel()
        assert dict(zip(obs.tolist(), reward.tolist(), strict=True)) == expected


def test_a_loaded_replay_knows_its_episodes(tmp_path: Path) -> None:
    replay = episodes(0.0)
    replay.save(tmp_path)
    again = Replay(10, COLUMNS)
    again.extend(rows([5, 6], [6, 7], [0, 0], [0, 0]))
    again.ahead(np.arange(2), 2, 0.5)  # has linked rows that the load replaces
    again.load(tmp_path)
    assert (again.ahead(np.arange(4), 3, 0.5) == replay.ahead(np.arange(4), 3, 0.5)).all()


def test_a_replay_without_streams_is_refused() -> None:
    with pytest.raises(ValueError, match="0 streams"):
        Replay(10, COLUMNS, streams=0)
