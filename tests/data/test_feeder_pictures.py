"""Recorded rows with pictures fill a replay that keeps each picture once, wherever reading was interrupted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.contract.spec import ImageTerm
from robot_rl.data.blocks import compact
from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.feeder import Feeder
from robot_rl.data.pictures import PictureReplay, side_by_side
from robot_rl.data.transition import Mode, Who, row_dtype
from tests.data.recording import CONTRACT, ROBOT

IMAGES = (ImageTerm("left", 3, 4), ImageTerm("right", 3, 4))
SEEING = dataclasses.replace(CONTRACT, images=IMAGES)


def make_rows(first: int, count: int, end: str = "") -> np.ndarray:
    """Rows whose pictures follow from the tick, left and right each their own."""
    rows = np.zeros(count, row_dtype(SEEING, ROBOT))
    rows["tick"] = tick = np.arange(first, first + count)
    rows["mode"], rows["who"] = Mode.POLICY, Who.POLICY
    rows["obs"] = tick[:, None] / 8.0
    for k, name in enumerate(("pixels_left", "pixels_right")):
        rows[name] = (tick % 128 + 100 * k)[:, None, None, None] + np.arange(3)
    if end:
        rows[end][-1] = 1
    return rows


def record(folder: Path, episodes: Sequence[np.ndarray]) -> None:
    writer = EpisodeWriter(folder, SEEING, ROBOT)
    for rows in episodes:
        writer.start_episode()
        writer.append(rows)
        writer.end_episode("truncated")
    writer.close()


def see(rows: np.ndarray) -> np.ndarray:
    return side_by_side({"pixels/left": rows["pixels_left"], "pixels/right": rows["pixels_right"]})


def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    return then["obs"][:, 0] - now["obs"][:, 0]


def make_replay(capacity: int = 100) -> PictureReplay:
    return PictureReplay(capacity, CONTRACT.obs_size, CONTRACT.num_actions, (3, 4, 6))


def make_feeder(folder: Path, replay: PictureReplay, state: Any = None) -> Feeder:
    return Feeder(folder, SEEING, replay, reward, see=see, state=state)


def transitions(replay: PictureReplay) -> list[tuple[float, int, int, int, int]]:
    """Return of each transition its tick, then what was seen left and right before, and after."""
    found = replay.rows.split(replay.rows.rows[: len(replay)])
    before, after = replay.at(found["obs"][:, -1]), replay.at(found["next_obs"][:, -1])
    return [
        (8.0 * float(obs[0]), *(int(x[i, 0, 0, c]) for x in (before, after) for c in (0, 3)))
        for i, obs in enumerate(found["obs"])
    ]


def expected(first: int, count: int) -> list[tuple[float, int, int, int, int]]:
    return [(float(t), t, t + 100, t + 1, t + 101) for t in range(first, first + count - 1)]


def test_every_transition_has_its_pictures_and_each_is_kept_once(tmp_path: Path) -> None:
    record(tmp_path, [make_rows(0, 6, "terminated"), make_rows(20, 4), make_rows(24, 5)])
    replay = make_replay()
    feeder = make_feeder(tmp_path, replay)
    assert feeder.poll() == 5 + 3 + 4
    assert transitions(replay) == expected(0, 6) + expected(20, 4) + expected(24, 5)
    assert replay.nbytes == (6 + 4 + 5) * 3 * 4 * 6
    feeder.close()


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_rows_that_arrive_one_by_one_and_a_restart_between_make_the_same(tmp_path: Path, at_once: int) -> None:
    record(tmp_path, [make_rows(0, 7), make_rows(40, 6)])
    replay = make_replay()
    feeder, polls = make_feeder(tmp_path, replay), 0
    while polls < 20:
        feeder.poll(at_once)
        polls += 1
        state, kept = json.loads(json.dumps(feeder.state_dict())), replay.state_dict()
        feeder.close()
        replay = make_replay()
        replay.load_state_dict(kept)
        feeder = make_feeder(tmp_path, replay, state)
    assert transitions(replay) == expected(0, 7) + expected(40, 6)
    assert replay.nbytes == (7 + 6) * 3 * 4 * 6
    feeder.close()


def test_another_replay_may_take_its_place_in_the_middle_of_an_episode(tmp_path: Path) -> None:
    record(tmp_path, [make_rows(0, 9)])
    feeder = make_feeder(tmp_path, make_replay())
    assert feeder.poll(4) == 3
    feeder.replay = again = make_replay()
    assert feeder.poll() == 5
    assert transitions(again) == expected(3, 6)
    feeder.close()


def test_pictures_survive_compaction(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    rows = make_rows(0, 6, "truncated")
    record(tmp_path, [rows])
    assert len(compact(tmp_path)) == 1 and not list(tmp_path.glob("*.seg"))
    (episode,) = read_episodes(tmp_path, contract=SEEING)
    assert episode.rows.tobytes() == rows.tobytes()
    replay = make_replay()
    feeder = make_feeder(tmp_path, replay)
    assert feeder.poll() == 5 and transitions(replay) == expected(0, 6)
    feeder.close()
