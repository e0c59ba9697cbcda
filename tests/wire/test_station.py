"""The station between a real control loop (on the mirror driver) and a transport: all that is said and asked."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.contract.spec import Contract
from robot_rl.data.transition import Mode, Who
from robot_rl.hardware.mirror import Failure, MirrorDriver
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.clock import WallClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.run import run
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.station import Station
from robot_rl.wire.transport import Hub, Loopback

POLICIES = Path(__file__).parents[1] / "golden" / "policies"


@dataclass
class Site:
    """A running robot and an operator on the same loopback."""

    loop: ControlLoop
    driver: MirrorDriver
    station: Station
    operator: Loopback
    heard: dict[str, list[Any]] = field(default_factory=dict)
    asked: int = 0

    def newest(self, topic: msg.Topic[Any]) -> Any:
        """The newest message of a topic, None before the first."""
        return (self.heard.get(topic.name) or [None])[-1]

    def ask(self, kind: str, value: str = "") -> msg.RequestReply:
        """Send a request and return its reply."""
        self.asked += 1
        name = f"q{self.asked}"
        self.operator.publish(msg.REQUEST, msg.Request(id=name, kind=kind, value=value))
        replies = self.heard.setdefault(msg.REQUEST_REPLY.name, [])
        return until(lambda: next((r for r in replies if r.id == name), None))

    def mode(self) -> int:
        """The mode that the wire last told."""
        status = self.newest(msg.STATUS)
        return -1 if status is None else status.mode

    def drive(self) -> None:
        """Bring the robot into POLICY."""
        for mode in ("damp", "stand"):
            assert self.ask("mode", mode).ok
        until(lambda: self.newest(msg.STATUS).stood_up)
        assert self.ask("mode", "policy").ok
        until(lambda: self.mode() == Mode.POLICY)


def until(condition: Callable[[], Any], *, timeout_s: float = 10.0) -> Any:
    """Wait for a truthy value and return it."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {timeout_s} s"
        time.sleep(0.002)
    return value


@pytest.fixture
def site() -> Iterator[Site]:
    """A go2 on the mirror driver at 50 Hz of wall time, its station, and an operator who hears everything."""
    robot = load_robot("go2")
    policy = Policy.load(POLICIES / "go2_tiny.onnx", robot)
    clock = WallClock(policy.contract.rate_hz)
    driver = MirrorDriver(robot, now=clock.now_s)
    loop = ControlLoop(driver, policy, clock)
    hub = Hub()
    robot_side, operator = Loopback(hub), Loopback(hub)
    made = Site(loop, driver, Station(loop, robot_side), operator)
    for topic in msg.TOPICS:
        operator.subscribe(topic, made.heard.setdefault(topic.name, []).append)
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(loop, stop.is_set))
    thread.start()
    made.station.start()
    yield made
    stop.set()
    thread.join()
    made.station.close()
    operator.close()
    robot_side.close()


def test_the_robot_is_described_on_every_topic(site: Site) -> None:
    """Joint states by name, IMU, targets, status, contract, diagnostics; no odometry where none is measured."""
    for topic in (msg.JOINT_STATES, msg.IMU, msg.JOINT_TARGETS, msg.STATUS, msg.CONTRACT, msg.DIAGNOSTICS):
        until(lambda topic=topic: site.newest(topic))
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
    """Every tick is published once: about fifty a second, never the same twice."""
    states = site.heard[msg.JOINT_STATES.name]
    until(lambda: len(states) > 5)
    first, ticks = len(states), site.loop.latest.tick
    time.sleep(1.0)
    ran = site.loop.latest.tick - ticks
    assert 0.6 * ran <= len(states) - first <= ran + 2


def test_a_person_brings_the_robot_to_walk_and_commands_it(site: Site) -> None:
    """damp, stand, policy; a twist becomes the command, clipped to what the policy was trained on."""
    site.drive()
    site.operator.publish(msg.CMD_VEL, std.Twist(std.Vector3(0.3, -0.1), std.Vector3(z=99.0)))
    until(lambda: site.newest(msg.STATUS).command.any())
    command = site.newest(msg.STATUS).command
    high = site.loop.swap.live.contract.command.high
    assert command == pytest.approx([0.3, -0.1, high[2]])
    assert site.newest(msg.STATUS).who == Who.POLICY


def test_a_silent_commander_is_noticed(site: Site) -> None:
    """A twist that is not repeated within the robot's time limit ends in DAMP, with the reason."""
    site.drive()
    site.operator.publish(msg.CMD_VEL, std.Twist(std.Vector3(0.3)))
    until(lambda: site.mode() == Mode.DAMP)
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
        until(lambda count=count: len([r for r in replies if r.id == "same"]) == count)
    assert all(r.ok for r in replies)
    assert len([e for e in site.heard[msg.EVENT.name] if e.kind == "mode"]) == 1


def test_a_request_that_changes_nothing_is_granted(site: Site) -> None:
    """Asking for the mode that is there answers yes."""
    assert site.ask("mode", "off").ok


def test_the_emergency_stop_holds_until_released_and_rearmed(site: Site) -> None:
    """Pressed: DAMP at once. While pressed nobody re-arms; released alone it stays down; then rearm, then stand."""
    site.drive()
    began = time.monotonic()
    site.operator.publish(msg.ESTOP, std.Bool(True))
    until(lambda: site.loop.latest.mode is Mode.DAMP)
    assert time.monotonic() - began < 0.2
    until(lambda: site.newest(msg.STATUS).estop)
    assert "still pressed" in site.ask("rearm").reason
    assert "re-arm" in site.ask("mode", "stand").reason
    site.operator.publish(msg.ESTOP, std.Bool(False))
    until(lambda: not site.station.estop_pressed)
    assert site.mode() == Mode.DAMP
    assert "re-arm" in site.ask("mode", "stand").reason
    assert site.ask("rearm").ok
    assert site.ask("mode", "stand").ok


def test_a_stop_by_request_needs_no_topic(site: Site) -> None:
    """A request may press the e-stop as well."""
    site.drive()
    assert site.ask("estop").ok
    until(lambda: site.mode() == Mode.DAMP and site.newest(msg.STATUS).estop)


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
    until(lambda: site.mode() == Mode.TAKEOVER and site.newest(msg.STATUS).who == Who.HUMAN)
    until(lambda: np.allclose(site.loop.latest.action, action))
    assert site.ask("takeover", "off").ok
    until(lambda: site.newest(msg.STATUS).who == Who.POLICY)
    assert site.ask("takeover", "on").ok
    stream.set()
    person.join()
    until(lambda: site.mode() == Mode.DAMP)
    assert "COMMANDER_LOST" in site.newest(msg.STATUS).fault


def test_an_offered_policy_is_taken_and_told(site: Site, tmp_path: Path) -> None:
    """A good offer drives after its shadow time; the event, the counter, the status and the contract follow."""
    site.drive()
    path = tmp_path / "next.onnx"
    shutil.copy(POLICIES / "go2_tiny2.onnx", path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    site.operator.publish(msg.OFFER, msg.PolicyOffer(uri=path.as_uri(), sha256=digest, recipe="test"))
    until(lambda: site.newest(msg.STATUS).swaps == 1)
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
    event = until(lambda: next((e for e in events if e.kind == "swap_refused"), None))
    assert {"missing": "cannot be read", "hash": "SHA-256", "contract": "cartpole"}[wrong] in event.reason
    until(lambda: site.newest(msg.STATUS) and site.newest(msg.STATUS).refusals == 1)
    assert site.loop.swap.live.path.name == "go2_tiny.onnx"


def test_a_fault_shows_in_diagnostics(site: Site) -> None:
    """A lost link ends motion, and `/diagnostics` says error with the reason."""
    site.drive()
    site.driver.fail(Failure.DISCONNECT)
    until(lambda: site.mode() == Mode.DAMP)
    array = until(lambda: (a := site.newest(msg.DIAGNOSTICS)) and a.status[0].level == 2 and a)
    assert "LINK_LOST" in array.status[0].message


def test_a_label_reaches_the_loop(site: Site) -> None:
    """Success and failure are told once each."""
    assert site.ask("label", "success").ok
    until(lambda: any(e.kind == "label" for e in site.heard[msg.EVENT.name]))


def test_malformed_actions_do_not_disturb(site: Site) -> None:
    """A takeover action of the wrong length is logged and changes nothing; the loop goes on."""
    site.operator.publish(msg.TAKEOVER_ACTION, msg.TakeoverAction(action=np.zeros(3, np.float32)))
    site.operator.publish(msg.CMD_VEL, std.Twist(std.Vector3(float("nan"))))
    tick = site.loop.latest.tick
    until(lambda: site.loop.latest.tick > tick + 5)
    assert site.loop.requests.human_now is None
    assert not site.loop.requests.command_now.any()
