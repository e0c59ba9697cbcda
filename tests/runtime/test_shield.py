"""Properties of the shield over random and cornered cases: no limit passed, idempotent, never less safe."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.contract.state import JointTarget
from robot_rl.hardware.driver import damp_target, empty_target
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.shield import DAMPING, Reason, Shield, limit

_spec = importlib.util.spec_from_file_location("shield_cases", Path(__file__).with_name("shield_cases.py"))
assert _spec is not None and _spec.loader is not None
cases = importlib.util.module_from_spec(_spec)
sys.modules["shield_cases"] = cases
_spec.loader.exec_module(cases)

ROBOT, SHIELD = cases.ROBOT, Shield(cases.ROBOT)
GO2 = Shield(load_robot("go2"))
REST = JointTarget(
    np.array(ROBOT.default_pos), np.zeros(3), np.zeros(3), np.array(ROBOT.stiffness), np.array(ROBOT.damping)
)
STATE = cases.make_state(np.array(ROBOT.default_pos), np.zeros(3))

anything = st.floats(allow_nan=True, allow_infinity=True)
number = st.one_of(st.floats(-3, 3), st.floats(-100, 100), anything)
three = st.lists(number, min_size=3, max_size=3).map(np.array)
targets = st.builds(JointTarget, three, three, three, three, three)
quats = st.one_of(st.floats(0, 3.2).map(cases.quat_of_tilt), st.lists(number, min_size=4, max_size=4).map(np.array))


@given(three, three, quats, targets, st.none() | targets, st.sampled_from((0.002, 0.02)), st.floats(99.9, 100.1))
@settings(max_examples=200)
def test_no_number_gets_a_limit_past_the_shield(pos, vel, quat, target, previous, dt_s, now_s):
    cases.check(SHIELD, cases.make_state(pos, vel, quat=quat), target, previous, dt_s, now_s)


def test_a_target_that_is_no_number_brakes_from_where_the_joint_is():
    """Found by chance: the DAMP target stood at 0, and a second look moved it to the joint, at 1 rad."""
    target = JointTarget(*np.zeros((4, 3)), np.array([0.0, 0.0, np.inf]))
    state = cases.make_state(np.array([0.0, 1.0, 0.0]), np.zeros(3))
    assert cases.check(SHIELD, state, target, None, 0.002, 100.0) == Reason.TARGET_INVALID
    wild = JointTarget(np.full(3, np.nan), *np.ones((4, 3)))
    assert cases.check(SHIELD, state, target, wild, 0.002, 100.0) == Reason.TARGET_INVALID


@pytest.mark.parametrize("shield", [SHIELD, GO2], ids=["three", "go2"])
@given(seed=st.integers(0, 2**32), wild=st.sampled_from((0.0, 1.0, 10.0)))
@settings(max_examples=40)
def test_cases_around_the_limits_stay_within(shield, seed, wild):
    run_cases(shield, seed, wild, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shield", [SHIELD, GO2], ids=["three", "go2"])
@given(seed=st.integers(0, 2**32), wild=st.sampled_from((0.0, 1.0, 10.0)))
@settings(max_examples=600)
def test_a_hundred_thousand_cases_stay_within(shield, seed, wild):
    run_cases(shield, seed, wild, 100)


def run_cases(shield: Shield, seed: int, wild: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        cases.check(shield, *cases.draw(rng, shield.robot, wild=wild))


def test_random_cases_meet_every_reason():
    rng, seen = np.random.default_rng(0), Reason(0)
    for _ in range(500):
        seen |= cases.check(SHIELD, *cases.draw(rng, ROBOT, wild=3.0))
    everything = (
        DAMPING ^ Reason.STATE_INVALID | Reason.JOINT_AT_LIMIT | Reason.POSITION_CLIPPED | Reason.VELOCITY_CLIPPED
    )
    everything |= Reason.RATE_LIMITED | Reason.EFFORT_CLIPPED | Reason.GAIN_CLIPPED
    assert seen & everything == everything


def run(state=STATE, target=REST, previous=REST, *, now_s=100.0):
    return SHIELD.limit(state, target, previous, dt_s=0.02, now_s=now_s)


def test_a_safe_target_passes_bit_for_bit():
    safe, reasons = run()
    assert reasons == Reason(0)
    assert all(np.array_equal(getattr(safe, f), getattr(REST, f)) for f in cases.FIELDS)


def test_the_answer_is_nobodys_array():
    safe, _ = run()
    assert not any(np.shares_memory(getattr(safe, f), getattr(REST, f)) for f in cases.FIELDS)
    damped, _ = run(now_s=101.0)
    damped.damping[:] = 99.0
    assert run(now_s=101.0)[0].damping.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("state", "now_s", "reason"),
    [
        (cases.make_state(np.array((0.0, np.nan, 0.0)), np.zeros(3)), 100.0, Reason.STATE_INVALID),
        (cases.make_state(np.zeros(3), np.array((0.0, np.inf, 0.0))), 100.0, Reason.STATE_INVALID),
        (cases.make_state(np.zeros(3), np.zeros(3), quat=np.zeros(4)), 100.0, Reason.STATE_INVALID),
        (cases.make_state(np.array((9.0, 0.0, 0.0)), np.zeros(3)), 100.0, Reason.STATE_INVALID),
        (STATE, 100.041, Reason.STATE_STALE),
        (STATE, 99.95, Reason.STATE_STALE),
        (cases.make_state(np.zeros(3), np.zeros(3), quat=cases.quat_of_tilt(1.01)), 100.0, Reason.TILT),
        (cases.make_state(np.zeros(3), np.array((9.01, 0.0, 0.0))), 100.0, Reason.OVERSPEED),
    ],
)
def test_what_cannot_be_trusted_is_damped(state, now_s, reason):
    safe, reasons = run(state, now_s=now_s)
    assert reasons & DAMPING == reason
    assert all(np.array_equal(getattr(safe, f), getattr(damp_target(ROBOT), f)) for f in cases.FIELDS)


@pytest.mark.parametrize("tilt", [0.99, -0.99])
def test_tilt_just_below_the_limit_is_no_fault(tilt):
    assert run(cases.make_state(np.array(ROBOT.default_pos), np.zeros(3), quat=cases.quat_of_tilt(tilt)))[1] == 0


def test_a_target_that_is_not_finite_holds_the_previous_one():
    bad = dataclasses.replace(REST, pos=np.array((np.nan, 0.5, 0.0)))
    safe, reasons = run(target=bad)
    assert reasons == Reason.TARGET_INVALID
    assert np.array_equal(safe.pos, REST.pos)
    assert np.array_equal(run(target=bad, previous=None)[0].damping, damp_target(ROBOT).damping)


def test_position_velocity_gain_and_feed_forward_are_clipped_by_hand():
    state = cases.make_state(np.array((0.9, 0.5, 0.0)), np.zeros(3))
    near = dataclasses.replace(REST, pos=np.array((0.9, 0.5, 0.0)))
    wish = JointTarget(
        np.array((1.2, 0.5, 0.0)), np.array((11.0, 0, 0)), np.array((0, 0, 7.0)), np.array((1.0, 500, 1)), np.zeros(3)
    )
    safe, reasons = run(state, wish, near)
    assert safe.pos[0] == 0.95  # limit 1.0 less the margin
    assert safe.vel[0] == 10.0
    assert safe.effort_ff[2] == 0.8  # 0.8 of 1 N m
    assert safe.stiffness.tolist() == [1.0, 240.0, 0.0]  # 4 x 60, 4 x 0
    assert reasons == (Reason.POSITION_CLIPPED | Reason.VELOCITY_CLIPPED | Reason.EFFORT_CLIPPED | Reason.GAIN_CLIPPED)


def test_a_target_moves_no_faster_than_its_rate():
    wish = dataclasses.replace(REST, pos=np.array((0.5, 0.5, 0.0)), stiffness=np.array((1.0, 60.0, 0.0)))
    safe, reasons = run(target=wish)
    assert safe.pos[0] == pytest.approx(0.4)  # 20 rad/s for 20 ms
    assert reasons == Reason.RATE_LIMITED


def test_after_damp_the_target_starts_where_the_joint_is():
    state = cases.make_state(np.array((-0.6, 0.5, 0.0)), np.zeros(3))
    safe, _ = run(state, REST, damp_target(ROBOT))
    assert safe.pos[0] == pytest.approx(-0.2)  # measured -0.6 plus 0.4


def test_effort_is_limited_by_pulling_the_target():
    wish = dataclasses.replace(REST, pos=np.array((0.0, 0.65, 0.0)))
    safe, reasons = run(target=wish)
    assert reasons == Reason.EFFORT_CLIPPED
    assert safe.pos[1] == pytest.approx(0.5 + 3.2 / 60.0)  # 0.8 of 4 N m through 60 N m/rad
    assert safe.stiffness[1] == 60.0


def test_effort_is_limited_by_the_gain_where_the_rate_forbids_pulling():
    state = cases.make_state(np.array((0.0, 1.5, 0.0)), np.zeros(3))  # kicked 1 rad away from the last target
    safe, reasons = run(state)
    assert reasons == Reason.EFFORT_CLIPPED
    assert safe.pos[1] == pytest.approx(0.66)  # towards the joint, at the rate
    assert safe.stiffness[1] * (1.5 - 0.66) == pytest.approx(3.2)


@pytest.mark.parametrize("target", [damp_target(ROBOT), empty_target(ROBOT)], ids=["damp", "off"])
def test_braking_is_never_weakened(target):
    fast = cases.make_state(np.zeros(3), np.array((8.9, 4.4, 44.0)))
    safe, reasons = run(fast, target)
    assert reasons == 0 and np.array_equal(safe.damping, target.damping)


def test_the_function_equals_the_class():
    a, b = limit(STATE, REST, None, 0.02, ROBOT, now_s=100.0), run(previous=None)
    assert a[1] == b[1] and all(np.array_equal(getattr(a[0], f), getattr(b[0], f)) for f in cases.FIELDS)
