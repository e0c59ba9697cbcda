"""What a running loop leaves on the disk: rows, episodes and their ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.feeder import as_transitions
from robot_rl.data.follow import Episode, EpisodeReader, Event
from robot_rl.data.transition import Mode, Who
from robot_rl.hardware.mirror import Failure
from robot_rl.runtime.modes import Request
from robot_rl.runtime.recorder import Recorder
from robot_rl.runtime.shield import Reason


@pytest.fixture
def recorded(rig, contract, go2, tmp_path):
    """Return ``(make, episodes)``: ``make(network, **config)`` a driving rig that records, and what it recorded."""
    recorders: list[Recorder] = []

    def make(network: str = "healthy", **config):
        recorders.append(Recorder(EpisodeWriter(tmp_path / "store", contract, go2), contract, go2))
        recorders[0].start()
        return rig(network, recorders[0], **config)

    def episodes() -> list[Episode]:
        recorders[0].close()
        return list(read_episodes(tmp_path / "store"))

    return make, episodes


def events(folder: Path) -> list[dict]:
    return [item.content for item in EpisodeReader.follow(folder).poll() if isinstance(item, Event)]


def test_a_row_holds_what_the_tick_saw_did_and_sent(recorded, contract, go2):
    make, episodes = recorded
    r = make("constant")
    for _ in range(20):
        r.requests.command((0.5, 0.1, -0.2))
        r.tick()
    latest = r.loop.latest
    (episode,) = episodes()
    row = episode.rows[-1]
    raw = 0.95 * np.tanh(0.3)
    assert (row["tick"], row["mode"], row["who"]) == (latest.tick, Mode.POLICY, Who.POLICY)
    assert row["policy"] == r.loop.swap.live.fingerprint
    assert row["action"] == pytest.approx(raw) and row["policy_action"] == pytest.approx(raw)
    assert row["sent_action"] == pytest.approx(raw, rel=1e-5)
    assert row["sent_pos"] == pytest.approx(np.array(go2.default_pos) + 0.25 * raw)
    assert row["command"] == pytest.approx((0.5, 0.1, -0.2)) and row["obs"][6:9] == pytest.approx((0.5, 0.1, -0.2))
    assert row["obs"][9:21] == pytest.approx(row["joint_pos"] - np.array(go2.default_pos), abs=1e-6)
    assert row["last_action"] == pytest.approx(raw) and not episode.rows[0]["last_action"].any()
    assert np.isnan(row["lin_vel_b"]).all()  # the mirror does not measure it
    assert row["reasons"] == 0 and row["tick_s"] > row["infer_s"] > 0.0
    assert np.array_equal(np.diff(episode.rows["tick"]), np.ones(len(episode.rows) - 1))


def test_only_policy_and_takeover_are_recorded(recorded):
    make, episodes = recorded
    r = make()
    first = r.loop.latest.tick
    r.tick(9)
    (episode,) = episodes()
    assert episode.rows["tick"][0] == first and len(episode.rows) == 10
    assert set(episode.rows["mode"]) == {Mode.POLICY}


def test_a_fall_terminates_in_the_row_that_shows_it(recorded):
    make, episodes = recorded
    r = make()
    r.tick(9)
    r.driver.fail(Failure.TILT)
    r.tick(20)
    (episode,) = episodes()
    assert len(episode.rows) == 11 and episode.reason == "terminated"
    assert episode.rows["terminated"].tolist() == [0] * 10 + [1]
    last = episode.rows[-1]
    assert last["reasons"] & Reason.TILT
    assert last["obs"][5] == pytest.approx(0.0, abs=1e-6)  # gravity lies in the horizontal plane
    assert len(as_transitions(episode.rows, lambda now, then: np.zeros(len(now)))["reward"]) == 10


def test_an_estop_terminates_and_a_wish_truncates(recorded):
    make, episodes = recorded
    r = make()
    r.tick(4)
    r.requests.ask(Request.STAND)
    r.tick(90)
    r.requests.ask(Request.POLICY)
    r.tick(5)
    r.requests.estop()
    r.tick(5)
    wished, stopped = episodes()
    assert wished.reason == "truncated" and len(wished.rows) == 6
    assert (wished.rows[-1]["mode"], wished.rows[-1]["who"]) == (Mode.STAND, Who.RUNTIME)
    assert stopped.reason == "terminated" and stopped.rows[-1]["reasons"] & Reason.ESTOP


def test_a_lost_commander_truncates(recorded):
    make, episodes = recorded
    r = make()
    r.requests.command((0.1, 0, 0))
    r.tick(60)
    (episode,) = episodes()
    assert episode.reason == "truncated" and episode.rows[-1]["reasons"] & Reason.COMMANDER_LOST


@pytest.mark.parametrize("failure", [Failure.NAN, Failure.STALE, Failure.DISCONNECT])
def test_a_state_that_cannot_be_believed_is_no_row(recorded, failure):
    make, episodes = recorded
    r = make()
    r.tick(9)
    r.driver.fail(failure)
    r.tick(20)
    (episode,) = episodes()
    assert episode.reason == "truncated"
    assert 10 <= len(episode.rows) <= 12  # a stale state is one after two periods
    assert np.isfinite(episode.rows["obs"]).all() and np.isfinite(episode.rows["joint_pos"]).all()


def test_a_long_episode_is_cut_and_the_next_follows_without_a_gap(recorded):
    make, episodes = recorded
    r = make(episode_s=0.4)
    r.tick(49)
    found = episodes()
    assert [len(e.rows) for e in found] == [20, 20, 10]
    assert np.array_equal(np.diff(np.concatenate([e.rows["tick"] for e in found])), np.ones(49))


def test_takeover_rows_carry_the_person_and_what_the_policy_wanted(recorded):
    make, episodes = recorded
    r = make("constant")
    r.tick(5)
    r.requests.ask(Request.TAKEOVER, "it limps")
    for _ in range(25):
        r.requests.human(np.full(12, -0.5))
        r.tick()
    r.requests.ask(Request.POLICY)
    r.tick(30)
    r.requests.ask(Request.DAMP)
    r.tick()
    (episode,) = episodes()
    human = episode.rows[episode.rows["who"] == Who.HUMAN]
    assert 25 <= len(human) <= 41  # the ramp back still is the person's
    assert human["policy_action"] == pytest.approx(0.95 * np.tanh(0.3))
    assert human["action"][24] == pytest.approx(-0.5)
    spans = [(s.who, s.why) for s in r.loop.takeover.ledger]
    assert spans == [(Who.POLICY, "operator"), (Who.HUMAN, "it limps"), (Who.POLICY, "operator")]


def test_labels_swaps_and_modes_are_events_in_the_store(recorded, make_policy, tmp_path):
    make, episodes = recorded
    r = make()
    r.requests.offer(make_policy("improved"))
    r.until("swap_kept")
    r.requests.offer(make_policy("saturating"))
    r.until("swap_refused")
    r.requests.label(1)
    r.tick(2)
    r.requests.ask(Request.DAMP)
    r.tick(2)
    (episode,) = episodes()
    assert episode.label == 1
    found = events(tmp_path / "store")
    kinds = [event["event"] for event in found]
    assert [k for k in kinds if k.startswith("swap")] == ["swap", "swap_kept", "swap_refused"]
    assert [e["to"] for e in found if e["event"] == "mode"] == ["DAMP", "STAND", "POLICY", "DAMP"]
    before, after = set(episode.rows["policy"][:1]), set(episode.rows["policy"][-1:])
    assert before != after == {r.loop.swap.live.fingerprint}
