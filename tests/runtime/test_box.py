"""On the robot: targets take the path they took in training, and the box of the learner is known there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot_rl.contract.box import KEY, Box, box_of, with_box, without_box
from robot_rl.contract.check import check_robot
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.path import ActionPath
from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.transition import Who
from robot_rl.runtime.modes import Request
from robot_rl.runtime.recorder import Recorder
from robot_rl.runtime.shield import Reason
from tests.runtime.conftest import Rig

RAW = 0.95 * np.tanh(0.3)
"""What the network ``constant`` answers, about 0.277, on every joint."""


def box(half_width: float, margin: float | None = None) -> dict[str, object]:
    return {KEY: {"half_width": half_width, "hold_margin": margin}}


@pytest.fixture
def smooth(contract, go2):
    """A law with two scales and a low-pass, as changes of a contract at 20 Hz."""
    low, high, pose = np.array(go2.pos_low), np.array(go2.pos_high), np.array(go2.default_pos)
    law = dataclasses.replace(
        contract.action, scale=tuple(0.2 * (high - pose)), scale_below=tuple(0.2 * (pose - low)), lowpass_hz=8.0
    )
    return {"action": law, "rate_hz": 20.0}


def test_targets_on_the_robot_are_those_of_the_path_from_where_it_stood(make_policy, go2, smooth, tmp_path: Path):
    path = make_policy("healthy", **smooth)
    contract = read_bundle(path).contract
    recorder = Recorder(EpisodeWriter(tmp_path / "store", contract, go2), contract, go2)
    recorder.start()
    rig = Rig(go2, path, recorder).drive()
    rig.tick(12)
    recorder.close()
    (episode,) = read_episodes(tmp_path / "store")
    rows, expected = episode.rows, ActionPath(contract, go2.joints)
    assert len(rows) == 13 and not rows["reasons"].any() and np.ptp(rows["action"], 0).max() > 0.0
    for row in rows:
        state = dataclasses.replace(rig.loop.latest.state, joint_pos=row["joint_pos"].astype(np.float64))
        target = expected.target(row["action"].astype(np.float32), state)
        np.testing.assert_allclose(row["sent_pos"], target.pos, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(rows["sent_action"], rows["action"], rtol=0.0, atol=1e-5)  # the shield changed nothing


def test_standing_up_again_begins_the_path_anew(make_policy, go2, smooth):
    rig = Rig(go2, make_policy("constant", **smooth)).drive()
    first = rig.sent()[-1].copy()
    rig.tick(10)
    assert np.abs(rig.sent()[-1] - first).max() > 0.01
    np.testing.assert_allclose(rig.drive().sent()[-1], first, rtol=0.0, atol=5e-3)


def test_action_beyond_the_box_is_said_and_not_touched(make_policy, go2):
    inside, beyond = (Rig(go2, make_policy("constant", extra=box(w))).drive() for w in (0.3, 0.2))
    inside.tick(5)
    beyond.tick(5)
    assert inside.loop.latest.reasons == 0 and Reason(beyond.loop.latest.reasons) == Reason.BEYOND_BOX
    np.testing.assert_array_equal(beyond.loop.latest.action, inside.loop.latest.action)
    np.testing.assert_array_equal(beyond.loop.latest.sent.pos, inside.loop.latest.sent.pos)


def test_action_is_held_where_the_contract_says_by_how_much(make_policy, go2):
    rig = Rig(go2, make_policy("constant", extra=box(0.1, margin=0.05))).drive()
    rig.tick(5)
    assert rig.loop.latest.action == pytest.approx(0.15)
    assert rig.loop.latest.sent.pos == pytest.approx(np.array(go2.default_pos) + 0.25 * 0.15)
    assert Reason(rig.loop.latest.reasons) == Reason.BEYOND_BOX


def test_person_is_not_held_in_the_box(make_policy, go2):
    rig = Rig(go2, make_policy("constant", extra=box(0.1, margin=0.0)), ramp_s=0.0).drive()
    rig.requests.ask(Request.TAKEOVER)
    for _ in range(3):
        rig.requests.human(np.full(12, 0.8))
        rig.tick()
    assert rig.loop.latest.who is Who.HUMAN and rig.loop.latest.action == pytest.approx(0.8)
    assert rig.loop.latest.reasons & Reason.BEYOND_BOX == 0


def test_policy_of_the_same_learner_with_a_larger_box_is_taken_in(make_policy, go2, tmp_path: Path):
    old = make_policy("healthy", extra=box(0.4))
    new = make_policy("constant", extra=box(0.5))
    rig = Rig(go2, old).drive()
    rig.loop.swap.offer(new)
    rig.until("swap")
    assert rig.loop.swap.live.box == Box(0.5)


def test_box_is_a_row_of_the_check_and_nonsense_is_refused(contract, go2):
    told = with_box(contract, Box(0.45, 0.1))
    (row,) = [finding for finding in check_robot(told, go2) if finding.name == "action box"]
    assert row.ok and row.policy_value == "±0.45" and "0.55" in row.message
    assert box_of(told) == Box(0.45, 0.1) and box_of(contract) is None
    assert without_box(told) == contract and told.fingerprint != contract.fingerprint
    for told in (0.4, {"half_width": 0.4}, box(0.0)[KEY], box(float("inf"))[KEY], box(0.4, -0.1)[KEY]):
        bad = dataclasses.replace(contract, extra={KEY: told})
        with pytest.raises(ValueError, match="action_box"):
            box_of(bad)
        assert any(not finding.ok and finding.name == "action box" for finding in check_robot(bad, go2))
