"""The packed replay equals a slow list of transitions, and resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.data.replay import Replay, sample_symmetric, transition_columns

COLUMNS = transition_columns(3, 2)


def columns(first: int, count: int) -> dict[str, np.ndarray]:
    """Transitions numbered from ``first``; every value of one tells its number."""
    number = np.arange(first, first + count, dtype=np.float32)
    return {
        name: number[:, None] + np.arange(width, dtype=np.float32) / 8 if width else number + 0.5
        for name, width in COLUMNS.items()
    }


def filled(count: int, capacity: int = 100) -> Replay:
    replay = Replay(capacity, COLUMNS)
    replay.extend(columns(0, count))
    return replay


@given(capacity=st.integers(1, 9), counts=st.lists(st.integers(0, 20), max_size=8), seed=st.integers(0, 99))
def test_a_ring_holds_and_samples_what_a_list_would(capacity: int, counts: list[int], seed: int) -> None:
    replay = Replay(capacity, COLUMNS)
    slow: dict[int, int] = {}  # slot -> number of the transition
    total = 0
    for count in counts:
        replay.extend(columns(total, count))
        for number in range(total, total + count):
            slow[number % capacity] = number
        total += count
    assert (len(replay), replay.total) == (min(total, capacity), total)
    if total == 0:
        return
    batch = replay.sample(16, np.random.default_rng(seed))
    drawn = np.random.default_rng(seed).integers(0, len(replay), 16)
    for i, slot in enumerate(drawn):
        expected = columns(slow[int(slot)], 1)
        assert {name: values[i].tolist() for name, values in batch.items()} == {
            name: values[0].tolist() for name, values in expected.items()
        }


def test_a_batch_has_the_shapes_of_its_columns_and_shares_one_array() -> None:
    batch = filled(50).sample(7, np.random.default_rng(0))
    shapes = {"obs": (7, 3), "action": (7, 2), "reward": (7,), "next_obs": (7, 3), "terminated": (7,)}
    assert {name: values.shape for name, values in batch.items()} == shapes
    assert all(values.dtype == np.float32 for values in batch.values())
    assert len({id(values.base) for values in batch.values()}) == 1


def test_a_batch_is_a_copy() -> None:
    replay = filled(50)
    before = replay.rows.copy()
    replay.sample(7, np.random.default_rng(0))["obs"][:] = -1
    assert (replay.rows == before).all()


def test_many_minibatches_are_the_draws_of_one_generator() -> None:
    replay = filled(50)
    many = replay.sample_many(4, 6, np.random.default_rng(3))
    drawn = np.random.default_rng(3).integers(0, 50, (4, 6))
    assert many["obs"].shape == (4, 6, 3)
    assert (many["reward"] == drawn + 0.5).all()


def test_every_transition_is_drawn_equally_often() -> None:
    drawn = filled(10).sample(100_000, np.random.default_rng(0))["reward"]
    share = np.bincount(drawn.astype(int), minlength=10) / 100_000
    assert np.abs(share - 0.1).max() < 0.005  # 5 standard deviations


def numbers(values: np.ndarray) -> set[float]:
    return set(values.ravel().tolist())


@pytest.mark.parametrize(("prior_size", "online_size"), [(30, 1), (1, 30), (20, 20)])
def test_each_minibatch_is_half_prior_and_half_online(prior_size: int, online_size: int) -> None:
    prior, online = filled(prior_size), Replay(100, COLUMNS)
    online.extend(columns(1000, online_size))
    batch = sample_symmetric(prior, online, 5, 8, np.random.default_rng(0))
    assert batch["obs"].shape == (5, 8, 3)
    assert (batch["reward"][:, :4] < 500).all()
    assert (batch["reward"][:, 4:] >= 1000).all()
    for name, width in COLUMNS.items():  # every column of a row belongs to the same transition
        first = batch[name][..., 0] if width else batch[name] - 0.5
        assert (first == batch["reward"] - 0.5).all()


def test_symmetric_halves_are_drawn_equally_often() -> None:
    prior, online = filled(4), Replay(100, COLUMNS)
    online.extend(columns(1000, 4))
    drawn = sample_symmetric(prior, online, 100, 1000, np.random.default_rng(0))["reward"]
    for number in (*range(4), *range(1000, 1004)):
        assert abs((drawn == number + 0.5).mean() - 0.125) < 0.005


def test_where_one_replay_is_empty_the_other_fills_the_batch() -> None:
    empty, full = Replay(10, COLUMNS), filled(5)
    for pair in ((empty, full), (full, empty)):
        assert numbers(sample_symmetric(*pair, 2, 64, np.random.default_rng(0))["reward"]) == {0.5, 1.5, 2.5, 3.5, 4.5}
    with pytest.raises(ValueError, match="empty"):
        sample_symmetric(empty, empty, 1, 2, np.random.default_rng(0))


def test_symmetric_sampling_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="7 is odd"):
        sample_symmetric(filled(5), filled(5), 1, 7, np.random.default_rng(0))
    other = Replay(5, transition_columns(4, 2))
    with pytest.raises(ValueError, match="prior replay has the columns"):
        sample_symmetric(other, filled(5), 1, 8, np.random.default_rng(0))


@pytest.mark.parametrize("count", [0, 3, 10, 13, 27])
def test_a_saved_replay_goes_on_exactly(tmp_path: Path, count: int) -> None:
    replay = filled(count, capacity=10)
    replay.save(tmp_path / "replay")
    replay.save(tmp_path / "replay")  # over an older one
    again = Replay(10, COLUMNS)
    again.load(tmp_path / "replay")
    for one in (replay, again):
        one.extend(columns(count, 4))
    assert again.rows.tobytes() == replay.rows.tobytes()
    assert again.total == replay.total == count + 4
    assert sorted(path.suffix for path in (tmp_path / "replay").iterdir()) == [".json", ".npy"]


def test_a_state_does_not_change_with_the_replay_it_came_from() -> None:
    replay = filled(5, capacity=10)
    state = replay.state_dict()
    replay.extend(columns(5, 10))
    again = Replay(10, COLUMNS)
    again.load_state_dict(state)
    assert again.rows[:5].tobytes() == filled(5, capacity=10).rows[:5].tobytes()


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    filled(5, capacity=10).save(tmp_path)
    with pytest.raises(ValueError, match="capacity 10; this replay has 11"):
        Replay(11, COLUMNS).load(tmp_path)
    with pytest.raises(ValueError, match="columns"):
        Replay(10, transition_columns(4, 2)).load(tmp_path)
    with pytest.raises(ValueError, match="orders its columns"):
        Replay(10, dict(reversed(COLUMNS.items()))).load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Replay(10, COLUMNS).load(tmp_path / "elsewhere")


def test_a_pickle_in_place_of_the_rows_is_never_loaded(tmp_path: Path) -> None:
    filled(5, capacity=10).save(tmp_path)
    name = json.loads((tmp_path / "replay.json").read_text())["rows"]
    np.save(tmp_path / name, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Replay(10, COLUMNS).load(tmp_path)


def test_what_does_not_fit_the_columns_is_refused() -> None:
    replay = Replay(10, COLUMNS)
    good = columns(0, 4)
    with pytest.raises(ValueError, match="was given the columns"):
        replay.extend({name: good[name] for name in ("obs", "action")})
    with pytest.raises(ValueError, match=r"'reward' has the shape \(4, 1\); expected \(4,\)"):
        replay.extend(good | {"reward": good["reward"][:, None]})
    good["next_obs"][2, 1] = np.nan
    with pytest.raises(ValueError, match="'next_obs' is nan in row 2 of 4"):
        replay.extend(good)
    assert len(replay) == 0
    with pytest.raises(ValueError, match="empty"):
        replay.sample(4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity and columns"):
        Replay(0, COLUMNS)
