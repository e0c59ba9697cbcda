"""The Panda: kinematics are those of Franka's DH table, the arm floats without torque, one motor moves both fingers."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.batch")

from robot_rl.contract.state import JointTarget  # noqa: E402 - the robot's environment has no simulator
from robot_rl.hardware.robot import load_robot  # noqa: E402
from robot_rl.sim.mujoco_cpu import MujocoCpu  # noqa: E402

PANDA = load_robot("panda")
DH = (
    (0.0, 0.333, 0.0), (0.0, 0.0, -pi / 2), (0.0, 0.316, pi / 2), (0.0825, 0.0, pi / 2),
    (-0.0825, 0.384, -pi / 2), (0.0, 0.0, pi / 2), (0.088, 0.0, pi / 2),
)  # fmt: skip
"""a [m], d [m], alpha [rad] of joints 1 to 7 in Craig's convention: Franka Control Interface documentation."""
FLANGE_M, TOOL_M = 0.107, 0.1034
LEFT, RIGHT = 7, 8


def tool_by_dh(q: np.ndarray) -> np.ndarray:
    """Pose of the tool in the base frame for joint positions (7,), (4, 4)."""
    pose = np.eye(4)
    for (a, d, alpha), angle in zip((*DH, (0.0, FLANGE_M + TOOL_M, 0.0)), (*q, -pi / 4), strict=True):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        pose = pose @ [[c, -s, 0, a], [s * ca, c * ca, -sa, -sa * d], [s * sa, c * sa, ca, ca * d], [0, 0, 0, 1]]
    return pose


def drive(physics: MujocoCpu, pos: np.ndarray, seconds: float) -> None:
    zero = np.zeros((1, 9))
    physics.apply(JointTarget(pos[None], zero, zero, np.array([PANDA.stiffness]), np.array([PANDA.damping])))
    physics.step(round(seconds / physics.dt_s))


def test_the_tool_is_where_frankas_dh_table_has_it() -> None:
    model = mujoco.MjModel.from_xml_path(str(PANDA.mjcf))
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = rng.uniform(PANDA.pos_low[:7], PANDA.pos_high[:7])
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        wanted, tool = tool_by_dh(q), data.body("tool")
        np.testing.assert_allclose(tool.xpos, wanted[:3, 3], atol=1e-6)
        np.testing.assert_allclose(tool.xmat.reshape(3, 3), wanted[:3, :3], atol=1e-6)


def test_the_arm_weighs_what_was_identified_and_holds_any_pose_without_torque() -> None:
    physics = MujocoCpu(PANDA, 1, threads=1)
    assert physics.model.body_mass.sum() == pytest.approx(17.45, abs=0.01)
    start = np.array(PANDA.default_pos)
    start[:7] += [0.5, 0.6, -0.4, 0.3, 0.8, 0.2, -1.0]
    physics.reset(np.zeros(1, int), {"joint_pos": start[None]})
    drive(physics, start, 5.0)
    state = physics.state()
    np.testing.assert_allclose(state.joint_pos[0], start, atol=1e-4)
    assert np.abs(state.joint_effort).max() < 0.1
    physics.close()


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_follows_a_step_within_a_tenth_of_a_second_and_hardly_overshoots(joint: int) -> None:
    physics = MujocoCpu(PANDA, 1, threads=1)
    target = np.array(PANDA.default_pos)
    target[joint] -= 0.1
    moved = []
    for _ in range(60):
        drive(physics, target, 0.01)
        moved.append((PANDA.default_pos[joint] - physics.state().joint_pos[0, joint]) / 0.1)
    assert moved[9] > 0.6
    assert max(moved) < 1.1
    assert moved[-1] == pytest.approx(1.0, abs=0.02)
    physics.close()


def test_one_motor_moves_both_fingers_to_the_stop_and_no_faster_than_they_may() -> None:
    physics = MujocoCpu(PANDA, 1, threads=1)
    target = np.array(PANDA.default_pos)
    target[LEFT] = 0.0
    fastest = 0.0
    for _ in range(100):
        drive(physics, target, 0.01)
        state = physics.state()
        fastest = max(fastest, float(np.abs(state.joint_vel[0, LEFT:]).max()))
        assert abs(state.joint_pos[0, LEFT] - state.joint_pos[0, RIGHT]) < 2e-3
    assert np.abs(state.joint_pos[0, LEFT:]).max() < 1e-3
    assert 0.1 < fastest <= PANDA.vel[LEFT]
    physics.close()
