"""The twin is a driver: it stands, falls, gets weak, fails and is lifted, on the loop's clock."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.driver import Driver, damp_target, empty_target
from robot_rl.hardware.mirror import Failure
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.runtime.clock import SimClock
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.twin import CATCH_UP_S, Noise, Twin
from tests.sim.hopper import KP, WEIGHT_N


class HandClock:
    """A clock that a test turns."""

    period_s, overruns = 0.02, 0

    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def start(self) -> None:
        pass

    def wait(self) -> float:
        self.time_s += self.period_s
        return 0.0


def stand(robot: Robot) -> JointTarget:
    j = len(robot.joints)
    fields = (robot.default_pos, np.zeros(j), np.zeros(j), robot.stiffness, robot.damping)
    return JointTarget(*(np.array(x, dtype=float) for x in fields))


def run(twin: Twin, target: JointTarget, seconds: float) -> RobotState:
    for _ in range(round(seconds * 50)):
        twin.read()
        twin.write(target)
    return twin.read()


@pytest.fixture
def go2() -> Iterator[Twin]:
    twin = Twin(load_robot("go2"), clock="sim")
    twin.connect()
    yield twin
    twin.close()


def test_the_twin_is_a_driver(hopper: Robot) -> None:
    twin: Driver = Twin(hopper, clock="sim")
    with pytest.raises(ConnectionError, match="not connected"):
        twin.read()
    twin.connect()
    state = twin.read()
    assert state.joint_pos.shape == (1,) and state.quat_xyzw.shape == (4,) and state.command.shape == (0,)
    twin.close()
    twin.close()


def test_it_stands_under_its_gains_and_sinks_when_damped(go2: Twin) -> None:
    standing = run(go2, stand(go2.robot), 2.0)
    assert standing.base_pos_w is not None and standing.base_pos_w[2] > 0.18
    assert abs(standing.quat_xyzw[3]) > 0.98 and np.abs(standing.joint_vel).max() < 0.05
    sunk = run(go2, damp_target(go2.robot), 2.0)
    assert sunk.base_pos_w is not None and sunk.base_pos_w[2] < 0.1


def test_a_weak_motor_bends_its_joint_and_leaves_the_others(go2: Twin) -> None:
    target = stand(go2.robot)
    before = run(go2, target, 1.5).joint_pos
    go2.change(motor_strength={"FR_calf_joint": 0.4})
    after = run(go2, target, 1.5).joint_pos
    sag = np.abs(after - before)
    assert int(np.argmax(sag)) == go2.robot.index("FR_calf_joint") and sag.max() > 0.1
    assert go2.parameters["motor_strength"][2] == 0.4 and go2.parameters["motor_strength"][0] == 1.0


def test_a_payload_shows_in_the_effort(hopper: Robot) -> None:
    twin = Twin(hopper, clock="sim")
    twin.connect()
    assert run(twin, stand(hopper), 4.0).joint_effort[0] == pytest.approx(WEIGHT_N, rel=2e-3)
    twin.change(payload_kg=1.0)
    assert run(twin, stand(hopper), 4.0).joint_effort[0] == pytest.approx(1.5 * WEIGHT_N, rel=5e-3)


def test_mappings_add_up_and_a_wrong_change_changes_nothing(go2: Twin) -> None:
    go2.change(motor_strength={"FR_hip_joint": 0.5})
    go2.change(motor_strength={"FL_hip_joint": 0.6})
    assert go2.parameters["motor_strength"][:4] == (0.5, 1.0, 1.0, 0.6)
    with pytest.raises(ValueError, match="joint 'tail' not on robot 'go2'"):
        go2.change(payload_kg=1.0, motor_strength={"tail": 0.5})
    assert "payload_kg" not in go2.parameters


def test_every_write_is_a_period_of_simulated_time(hopper: Robot) -> None:
    twin = Twin(hopper, clock="sim", rate_hz=100.0)
    twin.connect()
    stamps = []
    for _ in range(4):
        stamps.append(twin.read().stamp_s)
        twin.write(stand(hopper))
    np.testing.assert_allclose(stamps, [0.0, 0.01, 0.02, 0.03])


def test_on_the_loops_clock_it_does_the_same_as_on_its_own(hopper: Robot) -> None:
    clock = SimClock(50.0)
    mine, its = Twin(hopper, clock=clock), Twin(hopper, clock="sim")
    mine.connect()
    its.connect()
    target = stand(hopper)
    for k in range(20):
        a, b = mine.read(), its.read()
        assert a.stamp_s == pytest.approx(clock.now_s()) and b.stamp_s == pytest.approx(k * 0.02)
        np.testing.assert_array_equal(a.joint_pos, b.joint_pos)
        target.pos[0] = 0.2 + 0.1 * (k % 3)
        mine.write(target)
        its.write(target)
        clock.wait()


def test_a_target_acts_as_late_as_it_is_sent(hopper: Robot) -> None:
    """Sent 15 of 20 ms into the period, it has acted for one substep of 5 ms when the next period begins."""
    clock, low = HandClock(), stand(hopper)
    low.pos[0] = 0.1
    twin, physics = Twin(hopper, clock=clock), MujocoCpu(hopper, 1, threads=1)
    twin.connect()
    twin.write(stand(hopper))
    clock.time_s += 0.015
    twin.write(low)
    clock.time_s += 0.005
    for target, substeps in ((stand(hopper), 3), (low, 1)):
        physics.apply(
            JointTarget(*(getattr(target, n)[None] for n in ("pos", "vel", "effort_ff", "stiffness", "damping")))
        )
        physics.step(substeps)
    np.testing.assert_array_equal(twin.read().joint_pos, physics.state().joint_pos[0])


def test_stamps_are_on_the_clock_and_speed_stretches_simulated_time(hopper: Robot) -> None:
    clock = HandClock()
    slow, fast = Twin(hopper, clock=clock, speed=0.5), Twin(hopper, clock=clock, speed=2.0)
    for twin in (slow, fast):
        twin.connect()
        twin.write(empty_target(hopper))
    clock.time_s += 0.1
    falls = [twin.read() for twin in (slow, fast)]
    assert [s.stamp_s for s in falls] == [pytest.approx(100.1), pytest.approx(100.1)]
    drop = [0.31 - s.base_pos_w[2] for s in falls if s.base_pos_w is not None]
    assert drop[1] > 3.0 * drop[0] > 0.0


def test_a_clock_that_jumps_is_not_followed(hopper: Robot) -> None:
    clock = HandClock()
    twin = Twin(hopper, clock=clock)
    twin.connect()
    twin.write(stand(hopper))
    before = twin.read().joint_pos
    clock.time_s += 3600.0 + CATCH_UP_S
    state = twin.read()
    np.testing.assert_array_equal(state.joint_pos, before)
    assert state.stamp_s == pytest.approx(clock.time_s)


def test_without_writes_it_damps_by_itself(hopper: Robot) -> None:
    """Its command timeout is 0.1 s; standing still for 1 s without a word it has sunk to the leg's stop."""
    clock = HandClock()
    twin = Twin(hopper, clock=clock)
    twin.connect()
    for _ in range(50):
        twin.write(stand(hopper))
        clock.wait()
    held = twin.read().joint_pos[0]
    assert held == pytest.approx(0.3 - WEIGHT_N / KP, abs=0.01)
    for _ in range(100):
        clock.wait()
        state = twin.read()
    assert state.joint_pos[0] == pytest.approx(0.05, abs=0.01)


def test_what_was_sent_is_within_the_limits_and_never_nan(hopper: Robot) -> None:
    twin = Twin(hopper, clock="sim")
    twin.connect()
    far = stand(hopper)
    far.pos[0], far.effort_ff[0], far.stiffness[0] = 9.0, -1e3, -5.0
    sent = twin.write(far)
    assert (sent.pos[0], sent.effort_ff[0], sent.stiffness[0]) == (0.4, -60.0, 0.0)
    far.pos[0] = np.nan
    sent = twin.write(far)
    assert sent.stiffness[0] == 0.0 and sent.damping[0] == hopper.safety.damp and np.isfinite(sent.pos).all()


def test_it_fails_on_cue_and_heals(hopper: Robot) -> None:
    twin = Twin(hopper, clock="sim")
    twin.connect()
    run(twin, stand(hopper), 0.1)
    twin.fail(Failure.STALE)
    old = twin.read().stamp_s
    twin.write(stand(hopper))
    assert twin.read().stamp_s == old
    twin.heal()
    assert twin.read().stamp_s == pytest.approx(old + 0.02)
    twin.fail(Failure.NAN)
    assert np.isnan(twin.read().joint_pos[0])
    twin.heal()
    twin.fail(Failure.TILT)
    assert twin.read().quat_xyzw[0] == pytest.approx(np.sqrt(0.5))
    twin.fail(Failure.OVERSPEED)
    assert twin.read().joint_vel[0] == 40.0
    twin.fail(Failure.DISCONNECT)
    for call in (twin.read, lambda: twin.write(stand(hopper))):
        with pytest.raises(ConnectionError, match="is down"):
            call()
    twin.heal()
    assert np.isfinite(twin.read().joint_pos).all()


def test_a_fallen_robot_is_lifted_where_it_lies(go2: Twin) -> None:
    go2.change(push_lin_vel_w=(1.0, 0.5, 0.0), push_ang_vel_b=(3.0, 0.0, 1.0))
    fallen = run(go2, empty_target(go2.robot), 1.0)
    assert fallen.base_pos_w is not None and np.linalg.norm(fallen.base_pos_w[:2]) > 0.1
    go2.lift()
    lifted = go2.read()
    assert lifted.base_pos_w is not None
    np.testing.assert_allclose(lifted.base_pos_w, [*fallen.base_pos_w[:2], go2.robot.default_height_m])
    np.testing.assert_allclose(lifted.joint_pos, go2.robot.default_pos)
    np.testing.assert_allclose(lifted.quat_xyzw[:2], 0.0, atol=1e-12)
    yaw = lambda q: 2.0 * np.arctan2(q[2], q[3])
    assert yaw(lifted.quat_xyzw) == pytest.approx(_heading(fallen.quat_xyzw), abs=1e-6)
    assert "push_lin_vel_w" not in go2.parameters  # an event, not a property


def test_noise_is_bounded_and_repeats_with_its_seed(hopper: Robot) -> None:
    def measured(seed: int) -> np.ndarray:
        twin = Twin(hopper, clock="sim", seed=seed, noise=Noise(joint_pos=0.01, ang_vel=0.2))
        twin.connect()
        return np.array([twin.read().joint_pos[0] for _ in range(100)])

    one = measured(3)
    assert 0.005 < np.abs(one - 0.3).max() <= 0.01
    np.testing.assert_array_equal(one, measured(3))
    assert not np.array_equal(one, measured(4))


def test_without_an_estimator_the_base_is_not_measured(hopper: Robot) -> None:
    twin = Twin(hopper, clock="sim", estimator=False)
    twin.connect()
    state = twin.read()
    assert state.base_pos_w is None and state.lin_vel_b is None


def test_wrong_arguments_are_answered_with_the_choices(hopper: Robot) -> None:
    with pytest.raises(ValueError, match=r"no clock 'moon'.*'wall', 'sim'"):
        Twin(hopper, clock="moon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="speed is 0"):
        Twin(hopper, speed=0.0)
    with pytest.raises(ValueError, match="the physics has 2"):
        Twin(hopper, physics=MujocoCpu(hopper, 2, threads=1))


def _heading(quat_xyzw: np.ndarray) -> float:
    x, y, z, w = quat_xyzw
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))
