"""The table of modes: every pair of modes, every fault."""

from __future__ import annotations

import itertools

import pytest

from robot_rl.data.transition import Mode
from robot_rl.runtime.modes import FAULTS, MOVING, Request, Situation, names, step
from robot_rl.runtime.shield import Reason

# from -> where a request may lead, by hand: OFF -> DAMP -> STAND -> POLICY <-> TAKEOVER; DAMP from anywhere
TABLE = {
    "OFF": "OFF DAMP",
    "DAMP": "OFF DAMP STAND",
    "STAND": "DAMP STAND POLICY",
    "POLICY": "DAMP STAND POLICY TAKEOVER",
    "TAKEOVER": "DAMP STAND POLICY TAKEOVER",
}
PAIRS = list(itertools.product(TABLE, TABLE))


@pytest.mark.parametrize(("start", "wanted"), PAIRS)
def test_every_pair_of_modes_is_as_the_table_says(start, wanted):
    after, refusal = step(Situation(Mode[start]), Request[wanted], stood_up=True)
    if wanted in TABLE[start].split():
        assert (after.mode.name, refusal) == (wanted, "")
    else:
        assert after == Situation(Mode[start])
        assert refusal.startswith(f"{wanted} cannot follow {start}")


@pytest.mark.parametrize("fault", [r for r in Reason if r & FAULTS])
@pytest.mark.parametrize("start", list(Mode))
def test_every_fault_damps_what_moves_and_only_that(start, fault):
    after, _ = step(Situation(start), None, faults=fault)
    assert after.mode is (Mode.DAMP if start in MOVING else start)
    assert after.fault == (fault if start in MOVING else Reason(0))


@pytest.mark.parametrize("reason", [r for r in Reason if not r & FAULTS])
def test_a_corrected_target_is_no_fault(reason):
    assert step(Situation(Mode.POLICY), None, faults=reason)[0].mode is Mode.POLICY


@pytest.mark.parametrize("request_", [Request.STAND, Request.POLICY, Request.TAKEOVER])
@pytest.mark.parametrize("start", list(Mode))
def test_nothing_starts_in_a_tick_with_a_fault(start, request_):
    after, refusal = step(Situation(start), request_, faults=Reason.TILT, stood_up=True)
    assert after.mode not in MOVING
    assert refusal


def test_after_a_fault_the_robot_stays_down_until_asked():
    fallen, _ = step(Situation(Mode.POLICY), None, faults=Reason.TILT)
    for _ in range(10):
        fallen, _ = step(fallen, None)
    assert (fallen.mode, fallen.fault) == (Mode.DAMP, Reason.TILT)
    up, refusal = step(fallen, Request.STAND)
    assert (up, refusal) == (Situation(Mode.STAND), "")


def test_policy_waits_until_the_robot_stands():
    after, refusal = step(Situation(Mode.STAND), Request.POLICY, stood_up=False)
    assert (after.mode, refusal) == (Mode.STAND, "the robot is still standing up")


@pytest.mark.parametrize("start", list(Mode))
def test_an_estop_damps_and_only_rearm_then_stand_moves_again(start):
    stopped, refusal = step(Situation(start), Request.ESTOP)
    assert refusal == "" and stopped.estopped
    assert stopped.mode is (Mode.OFF if start is Mode.OFF else Mode.DAMP)
    for request in (Request.STAND, Request.POLICY, Request.TAKEOVER):
        after, refusal = step(stopped, request, stood_up=True)
        assert after == stopped and "re-arm" in refusal
    armed, refusal = step(stopped, Request.REARM)
    assert (armed.mode, armed.estopped, refusal) == (stopped.mode, False, "")
    for _ in range(10):
        armed, _ = step(armed, None)
    assert armed.mode not in MOVING


def test_rearm_without_an_estop_changes_nothing_and_says_so():
    assert step(Situation(Mode.STAND), Request.REARM) == (Situation(Mode.STAND), "the e-stop is not pressed")


def test_reasons_have_names():
    assert names(Reason.TILT | Reason.STATE_STALE) == "STATE_STALE, TILT"
    assert names(0) == "none"
