"""What every physics backend must do; the expected numbers can be checked by hand on the hopper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.physics import RANDOMIZABLE, Physics, parameter_row, parameter_width
from tests.sim.hopper import BASE_KG, EFFORT, FOOT_KG, GRAVITY, KD, KP, WEIGHT_N

Build = Callable[..., Physics]
ONE = np.zeros(1, int)


def hold(
    robot: Robot, n: int = 1, *, pos: float | None = None, kp: float = KP, kd: float = KD, ff: float = 0.0
) -> JointTarget:
    full = lambda x: np.full((n, len(robot.joints)), x, dtype=float)
    return JointTarget(full(robot.default_pos[0] if pos is None else pos), full(0.0), full(ff), full(kp), full(kd))


def settle(physics: Physics, target: JointTarget, seconds: float = 1.5) -> RobotState:
    physics.apply(target)
    physics.step(round(seconds / physics.dt_s))
    return physics.state()


def test_states_have_the_declared_shapes_and_belong_to_the_caller(hopper: Robot, build: Build) -> None:
    physics = build(hopper, 3)
    state = physics.state()
    names = [f.name for f in dataclasses.fields(state) if not f.name.startswith(("tool", "object"))]
    shapes = {name: getattr(state, name).shape for name in names}
    assert shapes == {
        "stamp_s": (3,),
        "joint_pos": (3, 1),
        "joint_vel": (3, 1),
        "joint_effort": (3, 1),
        "quat_xyzw": (3, 4),
        **dict.fromkeys(("ang_vel_b", "lin_acc_b", "base_pos_w", "lin_vel_b"), (3, 3)),
        "command": (3, 0),
        "last_action": (3, 0),
        "foot_contact": (3, 1),
    }
    kept = dataclasses.replace(state)
    before = state.joint_pos.copy(), state.base_pos_w.copy()
    physics.apply(hold(hopper, 3, pos=0.2))
    physics.step(20)
    np.testing.assert_array_equal(kept.joint_pos, before[0])
    np.testing.assert_array_equal(kept.base_pos_w, before[1])
    assert not np.array_equal(physics.state().joint_pos, before[0])


def test_time_passes_in_whole_substeps(hopper: Robot, build: Build) -> None:
    physics = build(hopper)
    begin = physics.state().stamp_s[0]
    physics.step(7)
    assert physics.state().stamp_s[0] - begin == pytest.approx(7 * physics.dt_s)


def test_reset_gives_the_default_pose_standing(hopper: Robot, build: Build) -> None:
    state = build(hopper).state()
    np.testing.assert_allclose(state.joint_pos, [[0.3]])
    np.testing.assert_allclose(state.base_pos_w, [[0.0, 0.0, 0.31]])
    np.testing.assert_allclose(state.quat_xyzw, [[0.0, 0.0, 0.0, 1.0]])
    assert not state.joint_vel.any() and not state.lin_vel_b.any() and not state.ang_vel_b.any()


def test_a_spinning_body_in_free_fall_turns_and_falls_as_computed(hopper: Robot, build: Build) -> None:
    physics = build(hopper)
    physics.reset(ONE, {"base_pos_w": [[0, 0, 50.0]], "lin_vel_w": [[1.0, 0, 0]], "ang_vel_b": [[0, 0, 2.0]]})
    state = settle(physics, hold(hopper), 0.5)
    half = 0.5 * 2.0 * 0.5  # half the yaw after 0.5 s at 2 rad/s
    np.testing.assert_allclose(state.quat_xyzw[0], [0, 0, np.sin(half), np.cos(half)], atol=2e-3)
    np.testing.assert_allclose(state.ang_vel_b[0], [0, 0, 2.0], atol=2e-4)  # Newton drifts by 8e-5, MuJoCo not at all
    np.testing.assert_allclose(state.lin_vel_b[0], [np.cos(1.0), -np.sin(1.0), -GRAVITY * 0.5], atol=5e-3)
    np.testing.assert_allclose(state.lin_acc_b[0], 0.0, atol=1e-6)


def test_angular_velocity_is_in_the_body_frame(hopper: Robot, build: Build) -> None:
    """Lying on its side (a quarter turn about x), the body's z axis is the world's -y: it rolls about that."""
    physics = build(hopper)
    side = [[np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]]
    physics.reset(ONE, {"base_pos_w": [[0, 0, 50.0]], "quat_xyzw": side, "ang_vel_b": [[0, 0, 1.0]]})
    state = settle(physics, hold(hopper), 0.4)
    np.testing.assert_allclose(state.ang_vel_b[0], [0, 0, 1.0], atol=2e-4)
    turn = np.array([0.0, -np.sin(0.2), 0.0, np.cos(0.2)])  # 0.4 rad about the world's -y, xyzw
    ax, ay, az, aw = turn
    bx, by, bz, bw = side[0]
    expected = [aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
                aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz]  # fmt: skip
    np.testing.assert_allclose(state.quat_xyzw[0], expected, atol=2e-3)


def test_a_robot_at_rest_feels_gravity_and_touches_the_ground(hopper: Robot, build: Build) -> None:
    state = settle(build(hopper), hold(hopper))
    np.testing.assert_allclose(state.lin_acc_b[0], [0, 0, GRAVITY], atol=0.05)
    np.testing.assert_array_equal(state.foot_contact, [[1.0]])


def test_in_the_air_no_foot_touches(hopper: Robot, build: Build) -> None:
    physics = build(hopper)
    physics.reset(ONE, {"base_pos_w": [[0, 0, 5.0]]})
    physics.step(4)
    np.testing.assert_array_equal(physics.state().foot_contact, [[0.0]])


@pytest.mark.parametrize("kp", [200.0, 400.0])
def test_stiffness_is_the_one_declared(hopper: Robot, build: Build, kp: float) -> None:
    state = settle(build(hopper), hold(hopper, kp=kp))
    assert state.joint_effort[0, 0] == pytest.approx(WEIGHT_N, rel=1e-3)
    assert 0.3 - state.joint_pos[0, 0] == pytest.approx(WEIGHT_N / kp, rel=1e-3)


def test_damping_is_the_one_declared(hopper: Robot, build: Build) -> None:
    """Falling freely, with the leg extending at 0.5 m/s and no stiffness, the first force is -kd * 0.5."""
    physics = build(hopper, 2)
    physics.randomize(np.array([1]), "motor_strength", np.array([[0.5]]))
    physics.reset(np.arange(2), {"base_pos_w": [[0, 0, 5.0]] * 2, "joint_vel": [[0.5]] * 2})
    physics.apply(hold(hopper, 2, kp=0.0, kd=4.0))
    physics.step(1)
    np.testing.assert_allclose(physics.state().joint_effort[:, 0], [-4.0 * 0.5, -0.5 * 4.0 * 0.5], rtol=1e-6)


def test_feed_forward_force_and_velocity_target_act(hopper: Robot, build: Build) -> None:
    """Without gains in the air the leg is pushed by 1 N: reduced mass times acceleration is 1 N."""
    physics = build(hopper)
    physics.reset(ONE, {"base_pos_w": [[0, 0, 5.0]]})
    physics.apply(hold(hopper, kp=0.0, kd=0.0, ff=1.0))
    physics.step(1)
    reduced = BASE_KG * FOOT_KG / (BASE_KG + FOOT_KG)
    assert physics.state().joint_vel[0, 0] == pytest.approx(physics.dt_s / reduced, rel=0.06)  # damped a little
    assert physics.state().joint_effort[0, 0] == pytest.approx(1.0)


def test_effort_is_limited(hopper: Robot, build: Build) -> None:
    physics = build(hopper)
    physics.apply(hold(hopper, pos=0.4, kp=1e4))
    physics.step(1)
    assert physics.state().joint_effort[0, 0] == pytest.approx(EFFORT)
    physics.reset(ONE)
    for target in (hold(hopper, kp=0.0, kd=0.0, ff=1e3), hold(hopper, pos=0.4, kp=1e4, ff=30.0)):
        physics.apply(target)
        physics.step(1)
        assert physics.state().joint_effort[0, 0] == pytest.approx(EFFORT)  # also of servo and feed-forward together


def test_reset_touches_only_the_copies_named(hopper: Robot, build: Build) -> None:
    physics = build(hopper, 3)
    moved = settle(physics, hold(hopper, 3, pos=0.2))
    physics.reset(np.array([1]))
    state = physics.state()
    np.testing.assert_array_equal(state.joint_pos[[0, 2]], moved.joint_pos[[0, 2]])
    np.testing.assert_allclose(state.joint_pos[1], [0.3])


@pytest.mark.parametrize("ids", [[3], [-1], [0, 9]])
def test_ids_outside_are_refused(hopper: Robot, build: Build, ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"not all in \[0, 3\)"):
        build(hopper, 3).reset(np.array(ids))


def test_an_unknown_state_or_parameter_is_answered_with_the_choices(hopper: Robot, build: Build) -> None:
    physics = build(hopper)
    with pytest.raises(ValueError, match=r"no state 'speed'.*joint_pos.*quat_xyzw"):
        physics.reset(ONE, {"speed": np.zeros((1, 3))})
    with pytest.raises(ValueError, match=r"no physical parameter 'colour'.*friction.*payload_kg"):
        physics.randomize(ONE, "colour", np.zeros((1, 1)))


# -- randomisation --


def test_motor_strength_scales_gains_and_limit(hopper: Robot, build: Build) -> None:
    physics = build(hopper, 2)
    physics.randomize(np.array([1]), "motor_strength", np.array([[0.5]]))
    physics.apply(hold(hopper, 2, pos=0.33))
    physics.step(1)
    full, half = physics.state().joint_effort[:, 0]
    assert (full, half) == (pytest.approx(12.0), pytest.approx(6.0))
    physics.apply(hold(hopper, 2, pos=0.4, kp=1e4))
    physics.step(1)
    np.testing.assert_allclose(physics.state().joint_effort[:, 0], [EFFORT, EFFORT / 2])


@pytest.mark.parametrize(("name", "value", "kilograms"), [("payload_kg", 1.0, 3.0), ("mass_scale", 2.0, 4.0)])
def test_the_leg_carries_the_changed_mass(
    hopper: Robot, build: Build, name: str, value: float, kilograms: float
) -> None:
    physics = build(hopper, 2)
    physics.randomize(ONE, name, np.array([[value]]))
    state = settle(physics, hold(hopper, 2), 4.0)
    np.testing.assert_allclose(state.joint_effort[:, 0], [kilograms * GRAVITY, WEIGHT_N], rtol=2e-3)


def test_a_payload_and_a_scaled_mass_add_up_in_any_order(hopper: Robot, build: Build) -> None:
    physics = build(hopper, 2)
    for i, names in enumerate((("payload_kg", "mass_scale"), ("mass_scale", "payload_kg"))):
        for name in names:
            physics.randomize(np.array([i]), name, np.array([[{"payload_kg": 1.0, "mass_scale": 1.5}[name]]]))
    state = settle(physics, hold(hopper, 2), 4.0)
    np.testing.assert_allclose(state.joint_effort[:, 0], [(1.5 * BASE_KG + 1.0) * GRAVITY] * 2, rtol=2e-3)


@pytest.mark.parametrize("mu", [0.2, 0.4])
def test_a_sliding_robot_stops_after_the_distance_that_friction_gives(hopper: Robot, build: Build, mu: float) -> None:
    physics = build(hopper)
    physics.randomize(ONE, "friction", np.array([[mu]]))
    settle(physics, hold(hopper, pos=0.15))
    physics.randomize(ONE, "push_lin_vel_w", np.array([[1.0, 0.0, 0.0]]))
    begin = physics.state().base_pos_w[0, 0]
    physics.step(round(1.5 / physics.dt_s))
    assert physics.state().base_pos_w[0, 0] - begin == pytest.approx(1.0 / (2.0 * mu * GRAVITY), rel=0.05)


def test_com_offset_tips_the_robot(hopper: Robot, build: Build) -> None:
    """With the centre of mass beyond the 0.2 m of the foot it falls over, in front of it not."""
    physics = build(hopper, 2)
    physics.randomize(np.arange(2), "com_offset_m", np.array([[0.15, 0, 0], [0.30, 0, 0]]))
    state = settle(physics, hold(hopper, 2), 1.0)
    up = 1.0 - 2.0 * (state.quat_xyzw[:, 0] ** 2 + state.quat_xyzw[:, 1] ** 2)
    assert up[0] > 0.99 and up[1] < 0.7


def test_joint_damping_multiplies_the_passive_damping(hopper: Robot, build: Build) -> None:
    """The free leg at 0.5 m/s loses speed as exp(-d t / m), d = 1 and 3 N s/m, m the reduced mass."""
    physics = build(hopper, 2)
    physics.randomize(np.arange(2), "joint_damping", np.array([[1.0], [3.0]]))
    physics.reset(np.arange(2), {"base_pos_w": np.tile([0, 0, 5.0], (2, 1)), "joint_vel": np.full((2, 1), 0.5)})
    physics.apply(hold(hopper, 2, kp=0.0, kd=0.0))
    physics.step(10)
    reduced = BASE_KG * FOOT_KG / (BASE_KG + FOOT_KG)
    expected = 0.5 * np.exp(-np.array([1.0, 3.0]) * 0.05 / reduced)
    np.testing.assert_allclose(physics.state().joint_vel[:, 0], expected, rtol=0.15)


def test_pushes_add_to_the_velocity_at_once(hopper: Robot, build: Build) -> None:
    physics = build(hopper, 2)
    physics.randomize(np.array([1]), "push_lin_vel_w", np.array([[0.3, -0.2, 0.0]]))
    physics.randomize(np.array([1]), "push_ang_vel_b", np.array([[0.0, 0.0, 0.4]]))
    state = physics.state()
    np.testing.assert_allclose(state.lin_vel_b, [[0, 0, 0], [0.3, -0.2, 0.0]])
    np.testing.assert_allclose(state.ang_vel_b, [[0, 0, 0], [0, 0, 0.4]])


def test_the_widths_of_parameters_are_those_of_their_descriptions(hopper: Robot) -> None:
    go2 = load_robot("go2")
    widths = {name: parameter_width(go2, name) for name in RANDOMIZABLE}
    assert widths == {
        "mass_scale": 1,
        "payload_kg": 1,
        "friction": 1,
        "com_offset_m": 3,
        "motor_strength": 12,
        "joint_damping": 12,
        "push_lin_vel_w": 3,
        "push_ang_vel_b": 3,
    }
    now = np.full((1, 12), 0.9)
    row = parameter_row(go2, "motor_strength", {"FL_hip_joint": 0.5}, now=now)
    assert row[0, 3] == 0.5 and row[0, 0] == 0.9
    for name, value, why in (
        ("motor_strength", {"tail": 0.5}, "joint 'tail' not on robot"),
        ("motor_strength", [1.0, 2.0], "got 2 numbers"),
        ("payload_kg", {"leg": 1.0}, "not a mapping"),
        ("friction", float("nan"), "must be finite"),
        ("colour", 1.0, "no physical parameter"),
    ):
        with pytest.raises(ValueError, match=why):
            parameter_row(go2, name, value)


def test_a_picture_shows_something(hopper: Robot, build: Build) -> None:
    import ctypes.util

    if not (ctypes.util.find_library("OSMesa") or ctypes.util.find_library("EGL")):
        pytest.skip("no software GL on this machine")
    picture = build(hopper).frame(0, 64, 48)
    assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
    assert picture.std() > 5.0
