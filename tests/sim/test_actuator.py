"""The torque-speed line: limits by hand, the same limits in every substep of a real motion, strength, errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl.contract.state import JointTarget
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.actuator import Limits, Motors, fit_motors, motor_limits
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.physics import Physics
from tests.sim.conftest import backends
from tests.sim.hopper import EFFORT

LINE = Motors(torque_speed=True)


def with_line(hopper: Robot) -> Robot:
    """60 N up to 0.5 m/s, nothing at 2 m/s: 40 N less for every m/s."""
    return dataclasses.replace(hopper, knee_speed=(0.5,), no_load_speed=(2.0,))


def build_lined(name: str, robot: Robot, num_envs: int) -> Physics:
    if name == "mujoco_gpu":
        from robot_rl.sim.mujoco_gpu import MujocoGpu

        return MujocoGpu(robot, num_envs, device="cpu", numpy=True, motors=LINE)
    return MujocoCpu(robot, num_envs, motors=LINE, threads=1)


def pull(robot: Robot, n: int, force: float, *, kd: float = 0.0) -> JointTarget:
    """A constant force, with damping if any, whatever the position."""
    full = lambda x: np.full((n, len(robot.joints)), x, dtype=float)
    return JointTarget(full(robot.default_pos[0]), full(0.0), full(force), full(0.0), full(kd))


def test_limits_fall_from_the_knee_to_nothing_at_no_load_and_on_to_braking() -> None:
    """Peak 10 N m, knee 2, no load 4 rad/s: slope 5, so 20 N m at a standstill were it not for the peak."""
    limits = Limits(np.array([10.0]), np.array([20.0]), np.array([5.0]))
    for speed, low, high in (
        (0.0, -10.0, 10.0),
        (2.0, -10.0, 10.0),  # the knee
        (3.0, -10.0, 5.0),
        (4.0, -10.0, 0.0),  # driving is over; braking is not
        (5.0, -10.0, -5.0),  # faster than the supply turns it
        (9.0, -10.0, -10.0),
        (-3.0, -5.0, 10.0),
    ):
        assert [float(x[0]) for x in limits.at(np.array([speed]))] == [low, high]


def test_the_go2s_line_is_the_one_of_its_motor() -> None:
    """unitree_rl_lab: 20.2 N m at 13.5 rad/s, none at 30; the knee's gear trades 1.917 of speed for torque."""
    limits, gear = motor_limits(load_robot("go2"), LINE), 45.43 / 23.7
    speed = np.tile([13.5, 13.5, 13.5 / gear], 4)
    np.testing.assert_allclose(limits.at(speed)[1], np.tile([20.2, 20.2, 20.2 * gear], 4), rtol=1e-3)
    assert (limits.at(0.0 * speed)[1] == load_robot("go2").effort).all()


@pytest.mark.parametrize("name", backends("mujoco_cpu", "mujoco_gpu"))
def test_a_leg_driven_at_speed_gives_what_the_line_leaves(hopper: Robot, name: str) -> None:
    """Twice the peak force is asked for, either way, at six speeds; the second copy's motor is half as strong."""
    robot, n = with_line(hopper), 2
    physics = build_lined(name, robot, n)
    physics.randomize(np.array([1]), "motor_strength", np.array([[0.5]]))
    for speed, low, high in (
        (0.0, -60.0, 60.0), (0.5, -60.0, 60.0), (1.0, -60.0, 40.0), (2.0, -60.0, 0.0), (2.5, -60.0, -20.0),
        (-1.5, -20.0, 60.0),
    ):  # fmt: skip
        for force, expected in ((2 * EFFORT, high), (-2 * EFFORT, low)):
            state = {"base_pos_w": np.tile([0.0, 0.0, 5.0], (n, 1)), "joint_vel": np.full((n, 1), speed)}
            physics.reset(np.arange(n), state)
            physics.apply(pull(robot, n, force))
            physics.step(1)
            np.testing.assert_allclose(physics.state().joint_effort[:, 0], [expected, expected / 2], atol=1e-4)


def test_the_damping_of_the_servo_is_the_one_asked_for_under_the_line(hopper: Robot) -> None:
    physics = MujocoCpu(with_line(hopper), 1, motors=LINE, threads=1)
    physics.reset(np.zeros(1, int), {"base_pos_w": np.array([[0, 0, 5.0]]), "joint_vel": np.array([[0.5]])})
    physics.apply(pull(hopper, 1, 0.0, kd=4.0))
    physics.step(1)
    assert physics.state().joint_effort[0, 0] == pytest.approx(-2.0)


def test_no_torque_of_a_kicking_go2_is_beyond_the_line_in_any_substep() -> None:
    robot, n = load_robot("go2"), 2
    physics, limits = MujocoCpu(robot, n, motors=LINE, threads=1), motor_limits(robot, LINE)
    rng, held = np.random.default_rng(0), 0
    full = lambda x: np.full((n, 12), x)
    for _ in range(40):
        pos = np.asarray(robot.default_pos) + rng.uniform(-1.5, 1.5, (n, 12))
        physics.apply(JointTarget(pos, full(0.0), full(0.0), full(100.0), full(0.5)))
        for _ in range(4):
            low, high = limits.at(physics.state().joint_vel)
            physics.step(1)
            effort = physics.state().joint_effort
            assert (effort <= high + 1e-9).all() and (effort >= low - 1e-9).all()
            held += int(((effort > high - 1e-9) & (high < np.asarray(robot.effort) - 1.0)).sum())
    assert held > 50  # the line, not the peak, was the limit


def test_the_line_leaves_a_motion_that_stays_under_it_as_it_is() -> None:
    robot = load_robot("go2")
    lined, ideal = MujocoCpu(robot, 1, motors=LINE, threads=1), MujocoCpu(robot, 1, threads=1)
    full = lambda x: np.full((1, 12), x)
    for physics in (lined, ideal):
        physics.apply(
            JointTarget(np.asarray(robot.default_pos) + full(0.05), full(0.0), full(0.0), full(30.0), full(1.0))
        )
        physics.step(40)
    np.testing.assert_allclose(lined.state().joint_pos, ideal.state().joint_pos, rtol=0, atol=1e-9)


def test_errors_name_the_robot_and_the_cure(hopper: Robot) -> None:
    import mujoco

    with pytest.raises(ValueError, match=r"'hopper' has no torque-speed line.*'knee_speed' and 'no_load_speed'"):
        MujocoCpu(hopper, 1, motors=LINE)
    with pytest.raises(ValueError, match="needs both knee_speed and no_load_speed"):
        dataclasses.replace(hopper, knee_speed=(1.0,))
    with pytest.raises(ValueError, match="no_load_speed has 2 numbers for 1 joints"):
        dataclasses.replace(hopper, knee_speed=(1.0,), no_load_speed=(2.0, 2.0))
    with pytest.raises(ValueError, match=r"joint 'leg' has knee_speed 2.0 and no_load_speed 2.0"):
        dataclasses.replace(hopper, knee_speed=(2.0,), no_load_speed=(2.0,))
    spec = mujoco.MjSpec.from_file(str(hopper.mjcf))
    spec.actuators[0].gear[0] = 3.0
    with pytest.raises(ValueError, match=r"actuator 'leg' of .* is geared 3.0"):
        fit_motors(spec, with_line(hopper), LINE)
