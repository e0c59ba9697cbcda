"""Recorded rows become the transitions that a slow reading of them gives, however they arrive."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.episodes import EpisodeWriter
from robot_rl.data.feeder import Feeder, as_transitions
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.data.transition import Mode, Who
from tests.data.recording import CONTRACT, ROBOT, make_contract, make_rows, make_writer

COLUMNS = transition_columns(CONTRACT.obs_size, CONTRACT.num_actions)


def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    return now["joint_pos"][:, 0] + 2.0 * then["joint_pos"][:, 1]


def slow_transitions(rows: np.ndarray) -> list[dict[str, Any]]:
    """The definition, row by row."""
    found = []
    for now, then in pairwise(rows):
        ended = now["terminated"] or now["truncated"]
        commanded = now["mode"] in (Mode.POLICY, Mode.TAKEOVER) and now["who"] in (Who.POLICY, Who.HUMAN)
        if ended or not commanded or int(then["tick"]) != int(now["tick"]) + 1:
            continue
        found.append(
            {
                "obs": now["obs"].tolist(),
                "action": now["sent_action"].tolist(),
                "reward": float(np.float32(now["joint_pos"][0] + 2.0 * then["joint_pos"][1])),
                "next_obs": then["obs"].tolist(),
                "terminated": float(then["terminated"]),
            }
        )
    return found


def as_list(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [{name: columns[name][i].tolist() for name in COLUMNS} for i in range(len(columns["reward"]))]


def of_replay(replay: Replay) -> list[dict[str, Any]]:
    assert replay.total <= replay.capacity
    return as_list(replay.split(replay.rows[: replay.total]))


ROW = st.tuples(
    st.sampled_from([Mode.POLICY] * 6 + list(Mode)),
    st.sampled_from([Who.POLICY] * 6 + list(Who)),
    st.sampled_from([(0, 0)] * 8 + [(1, 0), (0, 1)]),
    st.sampled_from([1] * 9 + [2, 5]),
)


def draw_rows(kinds: list[tuple[Mode, Who, tuple[int, int], int]]) -> np.ndarray:
    tick, rows = 0, []
    for mode, who, (terminated, truncated), step in kinds:
        tick += step
        row = make_rows(tick, 1)
        row["mode"], row["who"], row["terminated"], row["truncated"] = mode, who, terminated, truncated
        rows.append(row)
    return np.concatenate([make_rows(0, 0), *rows])


@given(st.lists(ROW, max_size=25))
def test_transitions_are_those_of_the_definition(kinds: list) -> None:
    rows = draw_rows(kinds)
    assert as_list(as_transitions(rows, reward)) == slow_transitions(rows)


def test_a_fall_ends_the_value_and_the_clock_does_not() -> None:
    rows = make_rows(0, 6)
    rows["terminated"][2] = 1
    rows["truncated"][5] = 1
    columns = as_transitions(rows, reward)
    assert columns["terminated"].tolist() == [0, 1, 0, 0]
    assert columns["obs"].tolist() == rows["obs"][[0, 1, 3, 4]].tolist()
    assert columns["next_obs"].tolist() == rows["obs"][[1, 2, 4, 5]].tolist()


def test_the_action_is_the_one_that_was_sent() -> None:
    rows = make_rows(0, 3)
    rows["sent_action"] = 0.25
    assert (as_transitions(rows, reward)["action"] == 0.25).all()


def test_rows_that_cannot_be_learnt_from_are_left_out() -> None:
    rows = make_rows(0, 5)
    rows["mode"][3:], rows["who"][3:] = Mode.DAMP, Who.RUNTIME
    rows["obs"][4] = np.nan  # nobody observed while the robot damped
    assert len(as_transitions(rows, reward)["reward"]) == 3
    rows["obs"][3] = np.nan
    assert len(as_transitions(rows, reward)["reward"]) == 2


def test_a_reward_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reward of 3 transitions has the shape \(3, 1\)"):
        as_transitions(make_rows(0, 4), lambda now, then: np.zeros((now.size, 1)))


@settings(max_examples=40)  # each records a store
@given(kinds=st.lists(ROW, min_size=1, max_size=20), cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_feeding_in_any_portions_and_resuming_between_them_changes_nothing(
    kinds: list, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    rows = draw_rows(kinds)
    replay = Replay(100, COLUMNS)
    state: dict[str, Any] | None = None
    with EpisodeWriter(folder, CONTRACT, ROBOT, segment_bytes=4500, sync_s=10) as writer:
        at = turn = added = 0
        while at < rows.size:
            writer.append(rows[at : at + cuts[turn % len(cuts)]])
            at += cuts[turn % len(cuts)]
            turn += 1
            feeder = Feeder(folder, CONTRACT, replay, reward, state=state)
            added += feeder.poll()
            state = json.loads(json.dumps(feeder.state_dict()))
            feeder.close()
    assert of_replay(replay) == slow_transitions(rows)
    assert added == replay.total


def test_a_long_store_is_read_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot_rl.data.feeder._ROWS_AT_ONCE", 3)
    with make_writer(tmp_path, segment_bytes=3000) as writer:
        for tick in range(0, 40, 2):
            writer.append(make_rows(tick, 2))
    replay = Replay(100, COLUMNS)
    assert Feeder(tmp_path, CONTRACT, replay, reward).poll() == 39
    assert of_replay(replay) == slow_transitions(make_rows(0, 40))


def test_transitions_never_join_two_writers_or_two_episodes(tmp_path: Path) -> None:
    replay = Replay(100, COLUMNS)
    feeder = Feeder(tmp_path, CONTRACT, replay, reward)
    with make_writer(tmp_path) as one:
        one.start_episode()
        one.append(make_rows(0, 3))
        one.end_episode("operator")  # no row says so
        one.append(make_rows(3, 2))
        assert feeder.poll() == 2 + 1
        assert [event["event"] for event in feeder.events] == ["episode_start", "episode_end"]
    with make_writer(tmp_path) as two:
        two.append(make_rows(5, 3))
    assert feeder.poll() == 2
    assert feeder.poll() == 0


def test_two_robots_that_write_at_once_are_kept_apart(tmp_path: Path) -> None:
    replay = Replay(100, COLUMNS)
    feeder = Feeder(tmp_path, CONTRACT, replay, reward)
    with make_writer(tmp_path) as one, make_writer(tmp_path) as two:
        for tick in range(5):
            one.append(make_rows(tick, 1))
            two.append(make_rows(100 + tick, 1))
            feeder.poll()
    assert replay.total == 8
    expected = slow_transitions(make_rows(0, 5)) + slow_transitions(make_rows(100, 5))
    assert sorted(of_replay(replay), key=str) == sorted(expected, key=str)


def test_a_foreign_contract_does_not_reach_the_replay(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path, make_contract("run"), ROBOT) as other:
        other.append(make_rows(0, 5))
    assert Feeder(tmp_path, CONTRACT, Replay(100, COLUMNS), reward).poll() == 0


def test_rows_that_are_not_finite_split_the_episode(tmp_path: Path) -> None:
    rows = make_rows(0, 6)
    rows["obs"][3, 0] = np.nan
    with make_writer(tmp_path) as writer:
        writer.append(rows)
    replay = Replay(100, COLUMNS)
    assert Feeder(tmp_path, CONTRACT, replay, reward).poll() == 3
    assert of_replay(replay) == slow_transitions(rows[:3]) + slow_transitions(rows[4:])


def test_columns_of_the_critics_stand_behind_the_observation(tmp_path: Path) -> None:
    rows = make_rows(0, 5)
    with make_writer(tmp_path) as writer:
        writer.start_episode()
        writer.append(rows)
        writer.end_episode("stop")
    columns = transition_columns(CONTRACT.obs_size + 1, CONTRACT.num_actions)
    replay = Replay(100, columns)
    feeder = Feeder(tmp_path, CONTRACT, replay, reward, features=lambda rows: rows["joint_pos"][:, :1])
    assert feeder.poll() == 4
    found = replay.split(replay.rows[:4])
    wanted = rows["joint_pos"][:, 0]
    assert found["obs"][:, -1].tolist() == wanted[:4].tolist()
    assert found["next_obs"][:, -1].tolist() == wanted[1:].tolist()
