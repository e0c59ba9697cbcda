"""Replay with pictures: every transition gets its own two pictures back, each of which is kept once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.pictures import PictureReplay, sample_pictures, side_by_side
from robot_rl.data.replay import Replay, transition_columns

SHAPE = (2, 3, 3)


def picture(stream: int, episode: int, step: int) -> np.ndarray:
    """Return one that tells where it belongs."""
    shown = np.zeros(SHAPE, np.uint8)
    shown[0, 0], shown[1, 2] = (stream, episode, step), (step, stream, episode)
    return shown


class Story:
    """Episodes of several streams; the numbers of an observation are (stream, episode, step), as is its picture."""

    def __init__(self, capacity: int, streams: int, seed: int, *, share_ended: float = 0.3) -> None:
        self.rng, self.streams, self.share = np.random.default_rng(seed), streams, share_ended
        self.replay = PictureReplay(capacity, 3, 1, SHAPE, streams=streams)
        self.plain = Replay(capacity, transition_columns(3, 1), streams=streams)
        self.episode, self.step = np.zeros((2, streams), int)
        self.replay.begin(self.pictures())

    def numbers(self) -> np.ndarray:
        return np.stack((np.arange(self.streams), self.episode, self.step), 1).astype(np.float32)

    def pictures(self) -> np.ndarray:
        return np.stack([picture(*map(int, row)) for row in self.numbers()])

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            obs = self.numbers()
            self.step += 1
            ended = self.rng.random(self.streams) < self.share
            columns = {
                "obs": obs, "action": self.rng.random((self.streams, 1)), "reward": self.rng.random(self.streams),
                "next_obs": self.numbers(), "terminated": ended * (self.rng.random(self.streams) < 0.5),
            }  # fmt: skip
            self.replay.extend(columns, self.pictures())
            self.plain.extend(columns)
            self.episode[ended] += 1
            self.step[ended] = 0
            ids = np.flatnonzero(ended)
            if ids.size:
                self.replay.begin(self.pictures()[ids], ids)


def check(found: dict[str, np.ndarray]) -> None:
    for numbers, shown in ((found["obs"], found["pictures"]), (found["next_obs"], found["next_pictures"])):
        rows = numbers.reshape(-1, 3).astype(int)
        assert (shown.reshape(-1, *SHAPE) == np.stack([picture(*map(int, row)) for row in rows])).all()


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(4, 40), streams=st.integers(1, 4), steps=st.integers(1, 60), seed=st.integers(0, 9),
    ahead=st.integers(1, 4), share=st.sampled_from((0.0, 0.3, 1.0)),
)  # fmt: skip
def test_each_transition_has_the_pictures_of_its_moments(
    capacity: int, streams: int, steps: int, seed: int, ahead: int, share: float
) -> None:
    """Also where rows were overwritten, and for returns of n steps, which equal those of a replay without pictures."""
    story = Story(capacity, streams, seed, share_ended=share)
    story.advance(steps)
    found = sample_pictures(None, story.replay, 2, 16, np.random.default_rng(1), steps=ahead, discount=0.9)
    check(found)
    plain = story.plain.sample_many(2, 16, np.random.default_rng(1), steps=ahead, discount=0.9)
    for name, x in plain.items():
        assert np.array_equal(found[name], x), name


def test_a_picture_is_kept_once_and_its_place_is_used_again() -> None:
    """One episode of 10 steps is 11 pictures; a ring of 20 rows in episodes of 5 needs 24 and the two of the newest."""
    story = Story(20, 1, 0, share_ended=0.0)
    story.advance(10)
    assert story.replay.nbytes == 11 * 18
    for _ in range(40):
        story.step[:] = 0
        story.episode += 1
        story.replay.begin(story.pictures())
        story.advance(5)
    assert len(story.replay) == 20 and story.replay.total == 210
    assert story.replay.nbytes <= 26 * 18


def test_beginning_twice_keeps_nothing_of_the_first() -> None:
    replay = PictureReplay(4, 3, 1, SHAPE)
    for step in range(9):
        replay.begin(picture(0, 0, step)[None])
    assert replay.nbytes <= 2 * 18


def test_halves_come_from_their_own_pictures() -> None:
    prior, online = Story(30, 1, 0), Story(30, 3, 1)
    prior.episode += 100
    prior.replay.begin(prior.pictures())
    prior.advance(20)
    online.advance(8)
    found = sample_pictures(prior.replay, online.replay, 3, 8, np.random.default_rng(0), steps=2, discount=0.9)
    check(found)
    assert (found["obs"][:, :4, 1] >= 100).all() and (found["obs"][:, 4:, 1] < 100).all()
    assert found["pictures"].shape == (3, 8, *SHAPE) and found["pictures"].dtype == np.uint8
    empty = PictureReplay(4, 3, 1, SHAPE)
    assert (sample_pictures(prior.replay, empty, 1, 4, np.random.default_rng(0))["obs"][..., 1] >= 100).all()
    assert (sample_pictures(empty, online.replay, 1, 4, np.random.default_rng(0))["obs"][..., 1] < 100).all()


def test_a_state_goes_on_exactly_as_it_would_have() -> None:
    one, two = Story(15, 2, 3), Story(15, 2, 3)
    one.advance(12)
    two.advance(12)
    again = PictureReplay(15, 3, 1, SHAPE, streams=2)
    again.load_state_dict(two.replay.state_dict())
    two.replay = again
    one.advance(20)
    two.advance(20)
    draws = [sample_pictures(None, s.replay, 2, 9, np.random.default_rng(5), steps=3, discount=0.5) for s in (one, two)]
    for name, x in draws[0].items():
        assert np.array_equal(x, draws[1][name]), name
    assert one.replay.nbytes == two.replay.nbytes
    check(draws[1])


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    story = Story(6, 2, 0)
    story.advance(4)
    before = story.replay.state_dict()
    columns = {
        "obs": story.numbers(), "action": np.zeros((2, 1)), "reward": np.array([0.0, np.nan]),
        "next_obs": story.numbers(), "terminated": np.zeros(2),
    }  # fmt: skip
    with pytest.raises(ValueError, match="'reward' is nan in row 1"):
        story.replay.extend(columns, story.pictures())
    with pytest.raises(ValueError, match=r"a next picture of each of 2 streams is \(2, 2, 3, 3\) uint8"):
        story.replay.extend(columns, story.pictures()[:, :1])
    after = story.replay.state_dict()
    assert np.array_equal(after["pictures"], before["pictures"]) and np.array_equal(after["free"], before["free"])
    fresh = PictureReplay(6, 3, 1, SHAPE, streams=2)
    with pytest.raises(ValueError, match=r"streams \[0, 1\] have no picture to start from"):
        fresh.extend(columns, story.pictures())
    with pytest.raises(ValueError, match="pictures, dtype and streams"):
        PictureReplay(6, 3, 1, (4, 4, 3), streams=2).load_state_dict(before)
    with pytest.raises(ValueError, match="keeps 1 pictures"):
        PictureReplay(1, 3, 1, SHAPE, streams=2)


def test_cameras_stand_side_by_side() -> None:
    front, wrist = np.full((1, 2, 2, 3), 1, np.uint8), np.full((1, 2, 2, 3), 2, np.uint8)
    both = side_by_side({"policy": np.zeros((1, 4)), "pixels/front": front, "pixels/wrist": wrist})
    assert both.shape == (1, 2, 2, 6) and both[0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="of one size"):
        side_by_side({"pixels/front": front, "pixels/wrist": wrist[:, :1]})
    with pytest.raises(ValueError, match="at least one"):
        side_by_side({"policy": np.zeros((1, 4))})
