"""The control loop as a whole: modes, limits, losses of state and commander, threads."""

from __future__ import annotations

import gc
import sys
import threading
import time

import numpy as np
import pytest

from robot_rl.data.transition import Mode, Who
from robot_rl.hardware.driver import damp_target
from robot_rl.hardware.mirror import Failure, MirrorDriver
from robot_rl.runtime.clock import SimClock, WallClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.run import run
from robot_rl.runtime.shield import Reason

TIMEOUT_TICKS = 25  # command_timeout_s 0.5 at 50 Hz


def is_damp(target) -> bool:
    return not target.stiffness.any() and (target.damping == 3.0).all() and not target.effort_ff.any()


def test_the_clock_must_tick_at_the_policys_rate(make_policy, go2):
    policy = Policy.load(make_policy(), go2)
    with pytest.raises(ValueError, match="clock ticks at 100 Hz; the policy's rate is 50 Hz"):
        ControlLoop(MirrorDriver(go2), policy, SimClock(100.0))


def test_standing_up_moves_smoothly_from_any_pose_to_the_default(rig_off, go2):
    r = rig_off()
    lying = np.array(go2.default_pos) + np.tile((0.3, 0.6, -0.7), 4)
    r.driver.place(lying)
    r.requests.ask(Request.DAMP)
    r.tick(2)
    assert is_damp(r.driver.sent[-1])
    r.requests.ask(Request.STAND)
    r.tick(80)
    pos = r.sent()[2:]
    assert pos[0] == pytest.approx(lying, abs=1e-3)
    assert pos[-1] == pytest.approx(np.array(go2.default_pos))
    assert np.abs(np.diff(pos, axis=0)).max() < 0.02
    assert r.loop.status().stood_up


def test_the_policy_drives_with_what_the_contract_says(rig, go2):
    r = rig("constant")
    r.tick(30)
    sent = r.driver.sent[-1]
    expected = np.array(go2.default_pos) + 0.25 * 0.95 * np.tanh(0.3)
    assert sent.pos == pytest.approx(expected, abs=1e-6)
    assert sent.stiffness.tolist() == list(go2.stiffness)
    assert r.loop.latest.who is Who.POLICY and r.loop.latest.reasons == 0


def test_policy_before_standing_is_refused_with_the_reason(rig_off):
    r = rig_off()
    r.requests.ask(Request.DAMP)
    r.requests.ask(Request.STAND)
    r.requests.ask(Request.POLICY, "impatient")
    assert r.tick() is Mode.STAND
    refused = [e for e in r.seen if e["event"] == "request_refused"]
    assert refused == [
        {
            "event": "request_refused",
            "request": "policy",
            "why": "impatient",
            "reason": "the robot is still standing up",
            "tick": 0,
        }
    ]


def test_a_silent_source_of_commands_damps_within_two_ticks_of_the_timeout(rig):
    r = rig()
    for _ in range(20):
        r.requests.command((0.5, 0.0, 0.0))
        assert r.tick() is Mode.POLICY
    quiet = 0
    while r.tick() is Mode.POLICY:
        quiet += 1
        assert quiet <= TIMEOUT_TICKS + 2
    assert quiet >= TIMEOUT_TICKS
    assert is_damp(r.driver.sent[-1])
    assert r.loop.situation.fault == Reason.COMMANDER_LOST
    r.requests.command((0.5, 0.0, 0.0))
    assert r.tick(10) is Mode.DAMP  # a voice from the grave starts nothing


def test_without_any_source_the_policy_stands_on_the_zero_command(rig):
    r = rig()
    assert r.tick(200) is Mode.POLICY
    assert not r.loop.latest.state.command.any()


def test_a_silent_source_may_also_mean_the_zero_command(rig):
    r = rig(on_command_loss="zero")
    r.requests.command((0.5, 0.0, 0.0))
    r.tick()
    assert r.loop.latest.state.command.tolist() == [0.5, 0.0, 0.0]
    assert r.tick(60) is Mode.POLICY
    assert not r.loop.latest.state.command.any()


def test_a_silent_person_damps_within_two_ticks_of_the_timeout(rig):
    r = rig()
    r.requests.ask(Request.TAKEOVER)
    for _ in range(10):
        r.requests.human(np.zeros(12))
        assert r.tick() is Mode.TAKEOVER
    quiet = 0
    while r.tick() is Mode.TAKEOVER:
        quiet += 1
        assert quiet <= TIMEOUT_TICKS + 2
    assert is_damp(r.driver.sent[-1])


def test_take_over_and_hand_back_do_not_bump(rig, go2):
    r = rig("constant", scale=0.5)
    r.tick(60)
    human = np.full(12, -0.9)
    count = len(r.driver.sent)
    who = []
    for request, ticks in ((Request.TAKEOVER, 40), (Request.POLICY, 40)):
        r.requests.ask(request)
        for _ in range(ticks):
            r.requests.human(human)
            r.tick()
            who.append(r.loop.latest.who)
    moved = r.sent()[count - 1 :]
    step = 0.5 * (0.9 + 0.95 * np.tanh(0.3)) / 15  # half a radian per unit, over a ramp of 0.3 s
    assert np.abs(np.diff(moved, axis=0)).max() == pytest.approx(step, rel=0.01)
    assert moved[40] == pytest.approx(np.array(go2.default_pos) - 0.45)
    assert moved[-1] == pytest.approx(moved[0])
    assert who[:40] == [Who.HUMAN] * 40 and who[-1] is Who.POLICY


def test_a_wild_person_is_held_to_the_rate_limit(rig, go2):
    r = rig("constant", scale=1.0)
    r.requests.ask(Request.TAKEOVER)
    rng = np.random.default_rng(0)
    count = len(r.driver.sent)
    for _ in range(60):
        r.requests.human(rng.choice((-1.0, 1.0), 12))
        r.tick()
    steps = np.abs(np.diff(r.sent()[count:], axis=0)).max(0)
    assert (steps <= np.array(go2.safety.target_rate) * 0.02 + 1e-9).all()


def test_estop_damps_in_the_next_tick_and_motion_needs_rearm_and_stand(rig):
    r = rig()
    r.requests.estop("red button")
    assert r.tick() is Mode.DAMP
    assert is_damp(r.driver.sent[-1])
    r.requests.ask(Request.STAND)
    assert r.tick() is Mode.DAMP
    r.requests.ask(Request.REARM)
    assert r.tick(50) is Mode.DAMP
    r.requests.ask(Request.STAND)
    assert r.tick() is Mode.STAND
    assert [e["why"] for e in r.seen if e["event"] == "estop"] == ["red button"]


def test_an_estop_wins_over_requests_that_came_before_it(rig_off):
    r = rig_off()
    r.requests.ask(Request.DAMP)
    r.requests.ask(Request.STAND)
    r.requests.estop()
    assert r.tick() is Mode.DAMP
    assert r.loop.situation.estopped


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure.STALE, Reason.STATE_STALE),
        (Failure.NAN, Reason.STATE_INVALID),
        (Failure.TILT, Reason.TILT),
        (Failure.OVERSPEED, Reason.OVERSPEED),
    ],
)
def test_a_failing_robot_is_damped_at_once_and_stays_so(rig, failure, reason):
    r = rig()
    r.driver.fail(failure)
    ticks = 0
    while not is_damp(r.driver.sent[-1]):
        r.tick()
        ticks += 1
        assert ticks <= 4  # a state is stale after two periods
    assert r.loop.latest.reasons & reason
    r.tick()
    assert r.loop.situation.fault & reason and r.mode is Mode.DAMP
    r.driver.heal()
    assert r.tick(50) is Mode.DAMP
    r.requests.ask(Request.STAND)
    assert r.tick() is Mode.STAND


def test_a_lost_link_damps_and_the_loop_survives(rig):
    r = rig()
    r.driver.fail(Failure.DISCONNECT)
    assert r.tick(5) is Mode.DAMP
    assert r.loop.situation.fault & Reason.LINK_LOST
    r.driver.heal()
    assert r.tick() is Mode.DAMP
    assert is_damp(r.driver.sent[-1])


def test_standing_up_is_refused_while_the_robot_lies_on_its_side(rig_off):
    r = rig_off()
    r.driver.fail(Failure.TILT)
    r.requests.ask(Request.DAMP)
    r.tick(2)
    r.requests.ask(Request.STAND)
    assert r.tick() is Mode.DAMP
    assert r.seen[-1]["reason"] == "STAND must wait: TILT"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: q.command((0.1, 0.2)), r"command has shape \(2,\); expected \(3,\)"),
        (lambda q: q.command((0.1, 0.2, np.nan)), "every number must be finite"),
        (lambda q: q.human(np.zeros(11)), r"human action has shape \(11,\)"),
        (lambda q: q.human(np.full(12, np.inf)), "every number must be finite"),
        (lambda q: q.label(2), "the choices are 1"),
    ],
)
def test_nonsense_is_refused_where_it_is_given(rig_off, call, message):
    with pytest.raises(ValueError, match=message):
        call(rig_off().requests)


def test_a_command_is_clipped_to_what_the_policy_was_trained_on(rig):
    r = rig()
    r.requests.command((9.0, -9.0, 0.3))
    r.tick()
    assert r.loop.latest.state.command.tolist() == [1.0, -1.0, 0.3]


def test_run_connects_ticks_on_time_damps_and_restores_the_interpreter(make_policy, go2):
    clock, driver = WallClock(50.0), MirrorDriver(go2)
    loop = ControlLoop(driver, Policy.load(make_policy(), go2), clock)
    stop, seen = threading.Event(), []

    def look() -> bool:
        seen.append((gc.isenabled(), time.monotonic(), driver.connected))
        return stop.is_set()

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=run, args=(loop, look))
    thread.start()
    time.sleep(0.5)
    loop.requests.ask(Request.DAMP)
    loop.requests.ask(Request.STAND)
    time.sleep(0.1)
    stop.set()
    thread.join()
    periods = (seen[-1][1] - seen[0][1]) * 50.0
    assert loop.ticks.count + clock.overruns == pytest.approx(periods, abs=2)
    assert {enabled for enabled, _, _ in seen} == {False} and {connected for *_, connected in seen} == {True}
    assert gc.isenabled() and sys.getswitchinterval() == interval
    assert not driver.connected
    assert np.array_equal(driver.sent[-1].damping, damp_target(go2).damping) and is_damp(driver.sent[-1])


def test_a_slow_read_is_counted_and_skipped_not_caught_up(make_policy, go2):
    clock, driver = WallClock(50.0), MirrorDriver(go2, slow_s=0.05)
    loop = ControlLoop(driver, Policy.load(make_policy(), go2), clock)
    driver.connect()
    clock.start()
    driver.fail(Failure.SLOW)
    loop.tick()
    clock.wait()
    assert clock.overruns >= 2
    assert loop.ticks.summary().work_max_s >= 0.05
