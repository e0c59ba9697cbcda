"""The station between a real control loop (on the mirror driver) and a transport: all that is said and asked."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rl.contract.spec import Contract
from robot_rl.data.transition import Mode, Who
from robot_rl.hardware.mirror import Failure
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]

POLICIES = Path(__file__).parents[1] / "golden" / "policies"


def test_the_robot_is_described_on_every_topic(site: Site) -> None:
    """Joint states by name, IMU, targets, status, contract, diagnostics; no odometry where none is measured."""
    for topic in (msg.JOINT_STATES, msg.IMU, msg.JOINT_TARGETS, msg.STATUS, msg.CONTRACT, msg.DIAGNOSTICS):
        site.until(lambda topic=topic: site.newest(topic))
    robot, joints = site.driver.robot, site.newest(msg.JOINT_STATES)
    assert joints.name == robot.joints
    assert np.allclose(joints.position, robot.default_pos)
    assert abs(std.seconds(joints.header.stamp) - time.time()) < 0.5
    assert site.newest(msg.IMU).linear_acceleration.z == pytest.approx(9.81)
    assert site.newest(msg.IMU).header.frame_id == robot.imu_frame
    contract = Contract.from_json(site.newest(msg.CONTRACT).data)
    assert contract == site.loop.swap.live.contract
    status = site.newest(msg.STATUS)
    assert (status.mode, status.rate_hz, status.estop) == (Mode.OFF, pytest.approx(50.0), False)
    assert status.policy == hashlib.sha256((POLICIES / "go2_tiny.onnx").read_bytes()).hexdigest()
    assert site.newest(msg.ODOM) is None


def test_joint_states_follow_the_ticks(site: Site) -> None:
    """A tick is published once at most, in order, and on a busy machine still many a second."""
    states = site.heard[msg.JOINT_STATES.name]
    site.until(lambda: len(states) > 5)
    first, ticks = len(states), site.loop.latest.tick
    site.until(lambda: site.loop.latest.tick >= ticks + 50)
    new = [std.seconds(s.header.stamp) for s in states[first:]]
    assert 10 <= len(new) <= site.loop.latest.tick - ticks + 2
    assert sorted(new) == new


def test_a_person_brings_the_robot_to_walk_and_commands_it(site: Site) -> None:
    """damp, stand, policy; a twist becomes the command, clipped to what the policy was trained on."""
    site.drive()
    site.operator.publish(msg.CMD_VEL, std.Twist(std.Vector3(0.3, -0.1), std.Vector3(z=99.0)))
    site.until(lambda: site.newest(msg.STATUS).command.any())
    command = site.newest(msg.STATUS).command
    high = site.loop.swap.live.contract.command.high
    assert command == pytest.approx([0.3, -0.1, high[2]])
    assert site.newest(msg.STATUS).who == Who.POLICY


def test_a_silent_commander_is_noticed(site: Site) -> None:
    """A twist that is not repeated within the robot's time limit ends in DAMP, with the reason."""
    site.drive()
    site.operator.publish(msg.CMD_VEL, std.Twist(std.Vector3(0.3)))
    site.until(lambda: site.mode() == Mode.DAMP)
    assert "COMMANDER_LOST" in site.newest(msg.STATUS).fault
    events = [e for e in site.heard[msg.EVENT.name] if e.kind == "mode"]
    assert events[-1].reason.startswith("POLICY -> DAMP")


def test_refusals_come_back_with_the_reason(site: Site) -> None:
    """What the runtime or the station refuses says why, and lists the choices."""
    assert "cannot follow OFF" in site.ask("mode", "policy").reason
    assert "['damp', 'off', 'policy', 'stand']" in site.ask("mode", "fly").reason
    assert "['estop', 'explore', 'label', 'mode', 'rearm', 'takeover']" in site.ask("dance").reason
    assert "0.5" in site.ask("explore", "7").reason
    assert "number" in site.ask("explore", "much").reason
    assert "['failure', 'none', 'success']" in site.ask("label", "meh").reason
    assert not site.ask("rearm").ok
    assert site.mode() in (-1, Mode.OFF)


def test_a_repeated_request_is_answered_again_but_done_once(site: Site) -> None:
    """The same id twice: two equal replies, one change of mode."""
    request = msg.Request(id="same", kind="mode", value="damp")
    replies = site.heard[msg.REQUEST_REPLY.name]
    for count in (1, 2):
        site.operator.publish(msg.REQUEST, request)
        site.until(lambda count=count: len([r for r in replies if r.id == "same"]) == count)
    assert all(r.ok for r in replies)
    assert len([e for e in site.heard[msg.EVENT.name] if e.kind == "mode"]) == 1


def test_a_request_that_changes_nothing_is_granted(site: Site) -> None:
    """Asking for the mode that is there answers yes."""
    assert site.ask("mode", "off").ok


def test_the_emergency_stop_holds_until_released_and_rearmed(site: Site) -> None:
    """Pressed: DAMP at once. While pressed nobody re-arms; released alone it stays down; then rearm, then stand."""
    site.drive()
    tick = site.loop.latest.tick
    site.operator.publish(msg.ESTOP, std.Bool(True))
    event = site.until(lambda: next((e for e in site.heard[msg.EVENT.name] if e.kind == "estop"), None))
    assert event.tick - tick <= 10  # 0.2 s; one or two on an idle machine
    site.until(lambda: site.newest(msg.STATUS).estop)
    assert "still pressed" in site.ask("rearm").reason
    assert "re-arm" in site.ask("mode", "stand").reason
    site.operator.publish(msg.ESTOP, std.Bool(False))
    site.until(lambda: not site.station.estop_pressed)
    assert site.mode() == Mode.DAMP
    assert "re-arm" in site.ask("mode", "stand").reason
    assert site.ask("rearm").ok
    assert site.ask("mode", "stand").ok


def test_a_stop_by_request_needs_no_topic(site: Site) -> None:
    """A request may press the e-stop as well."""
    site.drive()
    assert site.ask("estop").ok
    site.until(lambda: site.mode() == Mode.DAMP and site.newest(msg.STATUS).estop)


def test_a_person_takes_over_and_hands_back(site: Site) -> None:
    """While a person drives, their actions reach the joints and the ticks are theirs; silence means DAMP."""
    site.drive()
    action = np.full(12, 0.5, np.float32)
    assert site.ask("takeover", "on").ok
    stream = threading.Event()

    def keep() -> None:
        while not stream.wait(0.02):
            site.operator.publish(msg.TAKEOVER_ACTION, msg.TakeoverAction(action=action))

    person = threading.Thread(target=keep)
    person.start()
    site.until(lambda: site.mode() == Mode.TAKEOVER and site.newest(msg.STATUS).who == Who.HUMAN)
    site.until(lambda: np.allclose(site.loop.latest.action, action))
    assert site.ask("takeover", "off").ok
    site.until(lambda: site.newest(msg.STATUS).who == Who.POLICY)
    assert site.ask("takeover", "on").ok
    stream.set()
    person.join()
    site.until(lambda: site.mode() == Mode.DAMP)
    assert "COMMANDER_LOST" in site.newest(msg.STATUS).fault


def test_an_offered_policy_is_taken_and_told(site: Site, tmp_path: Path) -> None:
    """A good offer drives after its shadow time; the event, the counter, the status and the contract follow."""
    site.drive()
    path = tmp_path / "next.onnx"
    shutil.copy(POLICIES / "go2_tiny2.onnx", path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    site.operator.publish(msg.OFFER, msg.PolicyOffer(uri=path.as_uri(), sha256=digest, recipe="test"))
    site.until(lambda: site.newest(msg.STATUS).swaps == 1)
    assert site.newest(msg.STATUS).policy == digest
    swaps = [e for e in site.heard[msg.EVENT.name] if e.kind == "swap"]
    assert [e.policy for e in swaps] == [digest]
    assert json.loads(swaps[0].detail)["previous"] != digest


@pytest.mark.parametrize("wrong", ["missing", "hash", "contract"])
def test_a_bad_offer_is_refused_with_its_reason(site: Site, tmp_path: Path, wrong: str) -> None:
    """No file, another file, another robot's file: an event says which, the old policy stays."""
    path = POLICIES / ("cartpole_tiny.onnx" if wrong == "contract" else "go2_tiny2.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    uri, said = str(path), "0" * 64 if wrong == "hash" else digest
    if wrong == "missing":
        uri = str(tmp_path / "none.onnx")
    site.operator.publish(msg.OFFER, msg.PolicyOffer(uri=uri, sha256=said))
    events = site.heard[msg.EVENT.name]
    event = site.until(lambda: next((e for e in events if e.kind == "swap_refused"), None))
    assert {"missing": "cannot be read", "hash": "SHA-256", "contract": "cartpole"}[wrong] in event.reason
    site.until(lambda: site.newest(msg.STATUS) and site.newest(msg.STATUS).refusals == 1)
    assert site.loop.swap.live.path.name == "go2_tiny.onnx"


def test_a_fault_shows_in_diagnostics(site: Site) -> None:
    """A lost link ends motion, and `/diagnostics` says error with the reason."""
    site.drive()
    site.driver.fail(Failure.DISCONNECT)
    site.until(lambda: site.mode() == Mode.DAMP)
    array = site.until(lambda: (a := site.newest(msg.DIAGNOSTICS)) and a.status[0].level == 2 and a)
    assert "LINK_LOST" in array.status[0].message


def test_a_label_reaches_the_loop(site: Site) -> None:
    """Success and failure are told once each."""
    assert site.ask("label", "success").ok
    site.until(lambda: any(e.kind == "label" for e in site.heard[msg.EVENT.name]))


def test_malformed_actions_do_not_disturb(site: Site) -> None:
    """A takeover action of the wrong length is logged and changes nothing; the loop goes on."""
    site.operator.publish(msg.TAKEOVER_ACTION, msg.TakeoverAction(action=np.zeros(3, np.float32)))
    site.operator.publish(msg.CMD_VEL, std.Twist(std.Vector3(float("nan"))))
    tick = site.loop.latest.tick
    site.until(lambda: site.loop.latest.tick > tick + 5)
    assert site.loop.requests.human_now is None
    assert not site.loop.requests.command_now.any()
