"""Take-over and hand-back are ramps without steps."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.data.transition import Who
from robot_rl.runtime.takeover import Takeover

POLICY = np.full(3, 0.2, np.float32)
HUMAN = np.full(3, -0.8, np.float32)


def make(ramp_s: float = 0.1) -> Takeover:
    return Takeover(3, period_s=0.02, ramp_s=ramp_s)  # five ticks of ramp


def test_without_a_person_the_policys_action_passes_untouched():
    action, who = make().blend(POLICY, HUMAN, engaged=False, tick=0)
    assert action is POLICY and who is Who.POLICY


def test_take_over_and_hand_back_are_ramps():
    takeover = make()
    takeover.blend(POLICY, None, engaged=False, tick=0)
    up = [takeover.blend(POLICY, HUMAN, engaged=True, tick=1 + i) for i in range(6)]
    assert [float(a[0]) for a, _ in up] == pytest.approx([0.0, -0.2, -0.4, -0.6, -0.8, -0.8])
    assert {who for _, who in up} == {Who.HUMAN}
    down = [takeover.blend(POLICY, HUMAN, engaged=False, tick=7 + i) for i in range(6)]
    assert [float(a[0]) for a, _ in down] == pytest.approx([-0.6, -0.4, -0.2, 0.0, 0.2, 0.2])
    assert [who for _, who in down] == [Who.HUMAN] * 4 + [Who.POLICY] * 2


def test_until_the_person_speaks_the_last_action_stands_in():
    takeover = make()
    takeover.blend(POLICY, None, engaged=False, tick=0)
    moved = -POLICY  # the policy now wants something else; nobody drives there
    actions = [takeover.blend(moved, None, engaged=True, tick=1 + i) for i in range(9)]
    assert all(a == pytest.approx(POLICY) and who is Who.HUMAN for a, who in actions)
    first, _ = takeover.blend(moved, HUMAN, engaged=True, tick=10)
    assert first == pytest.approx(0.0)  # a fifth of the way from 0.2 to -0.8


def test_a_second_take_over_does_not_start_from_the_old_persons_action():
    takeover = make()
    for i in range(5):
        takeover.blend(POLICY, HUMAN, engaged=True, tick=i)
    for i in range(6):
        takeover.blend(POLICY, HUMAN, engaged=False, tick=5 + i)
    action, _ = takeover.blend(POLICY, None, engaged=True, tick=11)
    assert action == pytest.approx(POLICY)


def test_turning_back_half_way_is_continuous():
    takeover = make()
    takeover.blend(POLICY, None, engaged=False, tick=0)
    values = [0.2]
    for tick, engaged in enumerate([True, True, False, True, False, False, False], start=1):
        values.append(float(takeover.blend(POLICY, HUMAN, engaged=engaged, tick=tick)[0][0]))
    assert np.abs(np.diff(values)).max() <= 0.2 + 1e-6


def test_the_ledger_says_who_when_why_and_how_far_from_the_policy():
    takeover = make(ramp_s=0.0)
    for tick in range(3):
        takeover.blend(POLICY, None, engaged=False, tick=tick, why="start")
    for tick in range(3, 8):
        takeover.blend(POLICY, HUMAN, engaged=True, tick=tick, why="it stumbled")
    takeover.close()
    policy, human = takeover.ledger
    assert (policy.who, policy.first_tick, policy.ticks, policy.gap_max) == (Who.POLICY, 0, 3, 0.0)
    assert (human.who, human.why, human.first_tick, human.ticks) == (Who.HUMAN, "it stumbled", 3, 5)
    assert human.gap_mean == pytest.approx(1.0)


def test_an_empty_ledger_has_nothing_to_close():
    assert make().close() is None
