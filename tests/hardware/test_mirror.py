"""The mirror driver: joints that follow like a robot's, faults on cue."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl.contract.state import JointTarget
from robot_rl.hardware.driver import Driver, damp_target
from robot_rl.hardware.mirror import Failure, MirrorDriver
from robot_rl.hardware.robot import Robot, load_robot


class Hand:
    """A clock moved by hand."""

    t = 5.0

    def __call__(self) -> float:
        return self.t


@pytest.fixture
def robot() -> Robot:
    return load_robot("go2")


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def mirror(robot, clock) -> MirrorDriver:
    driver = MirrorDriver(robot, lag_s=0.05, now=clock)
    driver.connect()
    return driver


def hold(robot: Robot, pos: np.ndarray) -> JointTarget:
    zeros = np.zeros(len(robot.joints))
    return JointTarget(pos, zeros, zeros, np.array(robot.stiffness), np.array(robot.damping))


def test_it_is_a_driver(mirror):
    driver: Driver = mirror
    assert driver.robot.name == "go2"


def test_joints_follow_with_a_first_order_lag(mirror, robot, clock):
    start = np.array(robot.default_pos)
    mirror.write(hold(robot, start + 0.1))
    clock.t += 0.05  # one time constant
    state = mirror.read()
    assert state.joint_pos == pytest.approx(start + 0.1 * (1 - np.exp(-1)))
    assert state.joint_vel == pytest.approx(0.1 * (1 - np.exp(-1)) / 0.05)
    assert state.stamp_s == clock.t
    clock.t += 1.0
    assert mirror.read().joint_pos == pytest.approx(start + 0.1, abs=1e-6)


def test_joints_never_exceed_their_velocity_limit(mirror, robot, clock):
    mirror.write(hold(robot, np.array(robot.default_pos) + 10.0))
    clock.t += 0.02
    assert (np.abs(mirror.read().joint_vel) <= np.array(robot.vel)).all()


def test_without_stiffness_the_joints_stay(mirror, robot, clock):
    mirror.write(damp_target(robot))
    clock.t += 0.5
    assert mirror.read().joint_pos.tolist() == list(robot.default_pos)


def test_a_state_belongs_to_its_reader(mirror, clock):
    first = mirror.read()
    first.joint_pos[:] = 99.0
    assert mirror.read().joint_pos[0] != 99.0


def test_what_was_written_is_returned_and_kept(mirror, robot):
    target = hold(robot, np.array(robot.default_pos))
    assert mirror.write(target) is target
    assert mirror.sent[-1] is target


@pytest.mark.parametrize(
    ("failure", "shows"),
    [
        (Failure.STALE, lambda s, robot, t: s.stamp_s < t),
        (Failure.NAN, lambda s, robot, t: np.isnan(s.joint_pos).any()),
        (Failure.TILT, lambda s, robot, t: abs(s.quat_xyzw[0]) > 0.7),
        (Failure.OVERSPEED, lambda s, robot, t: (np.abs(s.joint_vel) > np.array(robot.vel)).any()),
    ],
)
def test_failures_come_and_go(mirror, robot, clock, failure, shows):
    for broken in (False, True, False):
        mirror.heal()
        if broken:
            mirror.fail(failure)
        clock.t += 0.1
        assert bool(shows(mirror.read(), robot, clock.t)) is broken


def test_a_lost_link_raises_until_it_is_back(mirror, robot):
    mirror.fail(Failure.DISCONNECT)
    for call in (mirror.read, mirror.connect, lambda: mirror.write(damp_target(robot))):
        with pytest.raises(ConnectionError, match="mirror of go2: the link is down"):
            call()
    mirror.heal()
    assert dataclasses.is_dataclass(mirror.read())


def test_a_slow_read_takes_its_time(robot):
    import time

    driver = MirrorDriver(robot, slow_s=0.03)
    driver.fail(Failure.SLOW)
    begin = time.monotonic()
    driver.read()
    assert time.monotonic() - begin >= 0.03
