"""A policy's memory in the running loop: what feeds it, what clears it, and that a record repeats it to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.data.blocks import compact
from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.follow import Episode
from robot_rl.data.transition import Mode
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.recorder import Recorder
from robot_rl.runtime.repeat import repeat_actions
from robot_rl.runtime.swap import SwapConfig
from tests.runtime.conftest import Rig

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
GRU, LSTM, TINY = (POLICIES / f"{name}.onnx" for name in ("go2_gru", "go2_lstm", "go2_tiny"))


@pytest.fixture
def make(go2, tmp_path):
    """Return ``make(path, **LoopConfig) -> (driving rig, its recorder)``."""

    def go(path: Path = GRU, **config: Any) -> tuple[Rig, Recorder]:
        contract = Policy.load(path, go2).contract
        recorder = Recorder(EpisodeWriter(tmp_path / "store", contract, go2), contract, go2)
        recorder.start()
        return Rig(go2, path, recorder, **config).drive(), recorder

    return go


def episodes(recorder: Recorder, folder: Path) -> list[Episode]:
    recorder.close()
    return list(read_episodes(folder / "store"))


def memories(episode: Episode) -> list[dict[str, Any]]:
    return [event for event in episode.events if event["event"] == "memory"]


def driven(episode: Episode, policy: Policy) -> np.ndarray:
    """Rows that the policy answered; the last row of an episode may only show where it led."""
    return episode.rows[np.isin(episode.rows["mode"], (Mode.POLICY, Mode.TAKEOVER)) & mine(episode, policy)]


def mine(episode: Episode, policy: Policy) -> np.ndarray:
    return episode.rows["policy"] == policy.fingerprint


def in_one_go(policy: Policy, obs: np.ndarray) -> np.ndarray:
    """What the policy answers to ``obs``, (n, D), from an empty memory on."""
    policy.forget()
    return np.stack([policy.infer(row) for row in obs])


@pytest.mark.parametrize("path", [GRU, LSTM])
def test_it_goes_on_while_a_person_drives_and_over_the_ends_of_episodes(make, go2, tmp_path, path):
    rig, recorder = make(path, episode_s=0.5)
    for request in (Request.TAKEOVER, Request.POLICY):
        rig.tick(20)
        rig.requests.ask(request)
        rig.requests.human(np.full(12, 0.5))
    rig.tick(40)
    found = episodes(recorder, tmp_path)
    rows = np.concatenate([episode.rows for episode in found])
    assert len(found) == 4 and {Mode.POLICY, Mode.TAKEOVER} == set(rows["mode"].tolist())
    assert np.array_equal(in_one_go(Policy.load(path, go2), rows["obs"]), rows["policy_action"])


def test_it_begins_anew_where_the_robot_stood(make, go2, tmp_path):
    rig, recorder = make()
    rig.tick(20)
    rig.requests.ask(Request.STAND)
    rig.tick(round(go2.safety.stand_s / rig.clock.period_s) + 2)
    rig.requests.ask(Request.POLICY)
    rig.tick(20)
    policy = Policy.load(GRU, go2)
    first, second = (driven(episode, policy) for episode in episodes(recorder, tmp_path))
    for rows in (first, second):
        assert len(rows) >= 20
        assert np.array_equal(in_one_go(policy, rows["obs"]), rows["policy_action"])


@pytest.mark.parametrize("gsde", [False, True])
def test_every_action_is_repeated_from_each_episode_alone_bit_for_bit(make, go2, tmp_path, gsde):
    rig, recorder = make(LSTM, episode_s=0.5, gsde=gsde, explore_seed=7)
    rig.tick(60)
    found = episodes(recorder, tmp_path)
    assert len(found) == 3
    policy = Policy.load(LSTM, go2)
    for number, episode in enumerate(found):
        assert np.array_equal(repeat_actions(policy, episode.rows, episode.events), episode.rows["policy_action"])
        (event,) = memories(episode)
        assert episode.events[0]["event"] == "episode_start"
        assert (event["tick"], len(event["state"])) == (int(episode.rows["tick"][0]), 24)
        assert any(event["state"]) is (number > 0)  # only the first began with an empty one
    event["state"][3] += 1e-3
    again = repeat_actions(policy, episode.rows, episode.events)
    assert not np.array_equal(again, episode.rows["policy_action"])


def test_the_log_still_says_it_after_compaction(make, go2, tmp_path):
    pytest.importorskip("zarr")
    rig, recorder = make(episode_s=0.5)
    rig.tick(30)
    recorder.close()
    compact(tmp_path / "store")
    policy = Policy.load(GRU, go2)
    for episode in read_episodes(tmp_path / "store"):
        assert np.array_equal(repeat_actions(policy, episode.rows, episode.events), episode.rows["policy_action"])


def test_what_the_record_does_not_say_is_not_guessed(make, go2, tmp_path):
    rig, recorder = make()
    rig.tick(20)
    (episode,) = episodes(recorder, tmp_path)
    policy = Policy.load(GRU, go2)
    with pytest.raises(ValueError, match=r"does not say what .*go2_gru.onnx remembered before tick \d+"):
        repeat_actions(policy, episode.rows, episode.events[:1])
    gap = np.delete(episode.rows, 7)
    with pytest.raises(ValueError, match=rf"remembered before tick {int(episode.rows['tick'][8])}"):
        repeat_actions(policy, gap, episode.events)


def test_a_candidate_takes_over_with_what_it_saw_while_it_shadowed(make, go2, tmp_path):
    rig, recorder = make(swap=SwapConfig(shadow_ticks=10))
    rig.requests.offer(LSTM)
    swap = rig.until("swap")["tick"]
    rig.tick(20)
    (episode,) = episodes(recorder, tmp_path)
    ticks, old, new = episode.rows["tick"], Policy.load(GRU, go2), Policy.load(LSTM, go2)
    seen = episode.rows[ticks >= swap - 10]
    assert np.array_equal(in_one_go(new, seen["obs"])[10:], seen["policy_action"][10:])
    assert [event["tick"] for event in memories(episode)] == [int(ticks[0]), swap]
    for policy in (old, new):
        rows = driven(episode, policy)
        assert len(rows) >= 10
        assert np.array_equal(repeat_actions(policy, rows, episode.events), rows["policy_action"])


def test_the_way_back_is_no_loss_of_memory(make, go2, tmp_path):
    rig, recorder = make()
    old, seen = rig.loop.swap.live, list[tuple[np.ndarray, np.ndarray]]()
    first, memory, infer = rig.loop.latest.tick + 1, old._own.copy(), old.infer

    def noting(obs: np.ndarray, xi: np.ndarray | None = None, *, pictures: object = None) -> np.ndarray:
        seen.append((obs.copy(), infer(obs, xi)))
        return seen[-1][1]

    old.infer = noting
    rig.requests.offer(TINY)
    rig.until("swap")
    rig.tick(20)
    rig.loop.swap.live.infer = lambda obs, xi=None, **_: np.full(12, np.nan, np.float32)  # a broken kernel
    rig.until("swap_rolled_back")
    rig.tick(20)
    assert rig.loop.swap.live is old and rig.mode is Mode.POLICY
    assert len(seen) == rig.loop.latest.tick + 1 - first  # it saw every tick
    assert np.array_equal([infer(obs, memory=memory) for obs, _ in seen], [action for _, action in seen])
    policy = Policy.load(GRU, go2)
    found = episodes(recorder, tmp_path)
    assert len(found) == 2
    for episode in found:
        rows = driven(episode, policy)
        assert len(rows) >= 20
        assert np.array_equal(repeat_actions(policy, rows, episode.events), rows["policy_action"])
    (event,) = memories(found[1])
    assert any(event["state"])


def test_a_policy_without_a_memory_leaves_no_word_of_one(make, tmp_path):
    rig, recorder = make(TINY)
    rig.tick(20)
    (episode,) = episodes(recorder, tmp_path)
    assert not memories(episode)
