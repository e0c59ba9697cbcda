"""What every physics backend must do with many joints, four feet and several copies: nothing is mixed up."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot, load_robot, read_robot
from robot_rl.sim.env import make_env
from robot_rl.sim.physics import Physics
from tests.sim.conftest import backends, build_backend

Build = Callable[..., Physics]
HEIGHT_M, FOOT_RADIUS_M = 0.29, 0.022
FOOT_M = HEIGHT_M - 2 * 0.213 * np.cos(0.9) * np.cos(0.1) + 0.0955 * np.sin(0.1)
"""Height of the feet's centres in the default pose, hips 0.1 rad outwards [m]."""


@pytest.fixture(scope="module")
def go2() -> Robot:
    return load_robot("go2")


def target(robot: Robot, n: int, pos: np.ndarray | None = None, kp: np.ndarray | None = None) -> JointTarget:
    """The default pose, or ``pos``, with the robot's own gains, or kp (N, 1)."""
    shape = n, len(robot.joints)
    row = lambda x: np.broadcast_to(np.asarray(x, dtype=float), shape)
    stiffness = row(robot.stiffness if kp is None else kp)
    return JointTarget(
        row(robot.default_pos if pos is None else pos), row(0.0), row(0.0), stiffness, row(robot.damping)
    )


def high(n: int) -> dict[str, np.ndarray]:
    return {"base_pos_w": np.tile([0.0, 0.0, 20.0], (n, 1))}


def same(a: RobotState, b: RobotState, rows: list[int]) -> None:
    for f in dataclasses.fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if x is not None:
            np.testing.assert_array_equal(x[rows], y[rows], err_msg=f.name)


def test_each_target_moves_its_own_joint(go2: Robot, build: Build) -> None:
    """Copy i asks joint i alone for 0.2 rad more, in the air: it moves there and every other one stays nearer."""
    physics = build(go2, 12)
    physics.reset(np.arange(12), high(12))
    physics.apply(target(go2, 12, np.asarray(go2.default_pos) + 0.2 * np.eye(12)))
    physics.step(60)
    moved = np.abs(physics.state().joint_pos - np.asarray(go2.default_pos))
    assert moved.argmax(axis=1).tolist() == list(range(12))
    np.testing.assert_allclose(np.diagonal(moved), 0.2, atol=0.05)


def test_effort_is_that_of_its_own_joint(go2: Robot, build: Build) -> None:
    """At the first substep the torque is kp times the 0.2 rad that copy i asks of joint i."""
    physics = build(go2, 12)
    physics.reset(np.arange(12), high(12))
    physics.apply(target(go2, 12, np.asarray(go2.default_pos) + 0.2 * np.eye(12)))
    physics.step(1)
    np.testing.assert_allclose(physics.state().joint_effort, 0.2 * 30.0 * np.eye(12), atol=1e-3)


def test_gains_are_each_copys_own(go2: Robot, build: Build) -> None:
    physics = build(go2, 3)
    physics.reset(np.arange(3), high(3))
    physics.apply(target(go2, 3, np.asarray(go2.default_pos) + 0.1, kp=np.array([[10.0], [20.0], [40.0]])))
    physics.step(1)
    np.testing.assert_allclose(physics.state().joint_effort, np.outer([1.0, 2.0, 4.0], np.ones(12)), atol=1e-3)


def test_feet_stand_where_the_default_pose_puts_them(go2: Robot, build: Build) -> None:
    """Front feet ahead, right feet at negative y, at the height of the leg's geometry, in the order of robot.toml."""
    feet = build(go2, 2).foot_pos_w  # type: ignore[attr-defined]  # privileged, beside the protocol
    assert go2.feet == ("FR", "FL", "RR", "RL") and feet.shape == (2, 4, 3)
    assert np.sign(feet[0, :, 0]).tolist() == [1, 1, -1, -1]
    assert np.sign(feet[0, :, 1]).tolist() == [-1, 1, -1, 1]
    np.testing.assert_allclose(feet[..., 2], FOOT_M, atol=0.003)
    np.testing.assert_allclose(feet[0], feet[1], atol=1e-6)


def test_a_contact_is_that_of_its_own_foot(go2: Robot, build: Build) -> None:
    """Copy i stands on foot i with the other legs folded: that foot alone touches."""
    physics = build(go2, 4)
    folded = np.tile([0.0, 1.4, -2.6], 4)
    pose = np.stack([np.where(np.repeat(np.arange(4) == i, 3), go2.default_pos, folded) for i in range(4)])
    height = np.tile([0.0, 0.0, HEIGHT_M - FOOT_M + FOOT_RADIUS_M - 0.003], (4, 1))
    physics.reset(np.arange(4), {"joint_pos": pose, "base_pos_w": height})
    physics.apply(target(go2, 4, pose))
    physics.step(2)
    np.testing.assert_array_equal(physics.state().foot_contact, np.eye(4))


def test_the_feet_carry_the_robot(go2: Robot, build: Build) -> None:
    """At rest the forces on the four feet add up to the weight of its 15.2 kg."""
    physics = build(go2, 2)
    physics.apply(target(go2, 2))
    physics.step(400)
    np.testing.assert_allclose(physics.foot_force.sum(axis=1), 9.81 * 15.2, rtol=0.05)  # type: ignore[attr-defined]


def test_forces_under_trotting_feet_are_solved(go2: Robot, tmp_path: Path) -> None:
    """With one solver iteration they are a tenth larger, peaks two to four times; policies learn to use that."""
    folder = tmp_path / "go2"
    shutil.copytree(zoo.find("hardware", "go2"), folder)
    model = folder / "go2.xml"
    solved = re.sub(r'iterations="\d+" ls_iterations="\d+"', 'iterations="100" ls_iterations="50"', model.read_text())
    assert solved != model.read_text()
    model.write_text(solved)
    forces = []
    for robot in (go2, read_robot(folder)):
        physics = build_backend("mujoco_cpu", robot, 4)
        forces.append(trot(physics))
        physics.close()
    np.testing.assert_allclose(forces[0].mean(0), forces[1].mean(0), rtol=0.02)
    np.testing.assert_allclose(forces[0].max(0), forces[1].max(0), rtol=0.05)


def trot(physics: Physics) -> np.ndarray:
    """Lift diagonal feet in turn, copy i at 2 + i / 2 Hz; return the forces on all feet of each copy [N], (T, N)."""
    robot, n, forces = physics.robot, physics.num_envs, []
    for tick in range(150):
        swing = np.sin(2.0 * np.pi * (2.0 + 0.5 * np.arange(n)) * 0.02 * tick)
        pos = np.tile(np.asarray(robot.default_pos, dtype=float), (n, 1))
        for j, name in enumerate(robot.joints):
            lift = np.clip(swing if name[:2] in ("FL", "RR") else -swing, 0.0, None)
            pos[:, j] += {"thigh": 0.15, "calf": -0.3}.get(name.split("_")[1], 0.0) * lift
        physics.apply(target(robot, n, pos))
        physics.step(4)
        forces.append(physics.foot_force.sum(axis=1))  # type: ignore[attr-defined]
    return np.array(forces[50:])


def test_states_given_go_to_the_copies_named(go2: Robot, build: Build) -> None:
    physics = build(go2, 3)
    pose = np.asarray(go2.default_pos) + np.array([[0.1], [0.2]])
    physics.reset(np.array([2, 0]), {"joint_pos": pose, "base_pos_w": np.array([[2.0, 0, 3.0], [0, 1.0, 4.0]])})
    state = physics.state()
    np.testing.assert_allclose(state.joint_pos[[2, 0]], pose, atol=1e-6)
    np.testing.assert_allclose(state.joint_pos[1], go2.default_pos, atol=1e-6)
    np.testing.assert_allclose(state.base_pos_w[[2, 0]], [[2.0, 0, 3.0], [0, 1.0, 4.0]], atol=1e-6)


def wave(physics: Physics, ticks: range, reset_at: int = -1) -> RobotState:
    """Drive all copies through a trot-like wave; optionally reset copy 1 on the way."""
    robot, n = physics.robot, physics.num_envs
    phase = np.linspace(0.0, 3.0, len(robot.joints))
    for k in ticks:
        if k == reset_at:
            physics.reset(np.array([1]))
        physics.apply(target(robot, n, np.asarray(robot.default_pos) + 0.15 * np.sin(0.3 * k + phase)))
        physics.step(4)
    return physics.state()


def test_the_same_targets_give_the_same_states_again(go2: Robot, build: Build) -> None:
    """To the bit, in another set of copies, with contacts."""
    same(wave(build(go2, 2), range(20)), wave(build(go2, 2), range(20)), [0, 1])


def test_copies_do_not_notice_that_another_restarts(go2: Robot, build: Build) -> None:
    """To the bit: their measurements at once, and their motion ever after."""
    calm = build(go2, 3)
    before, after = wave(calm, range(12)), wave(calm, range(12, 20))
    torn = build(go2, 3)
    wave(torn, range(12))
    torn.reset(np.array([1]))
    same(before, torn.state(), [0, 2])
    assert not np.array_equal(before.joint_pos[1], torn.state().joint_pos[1])
    same(after, wave(torn, range(12, 20), reset_at=15), [0, 2])


def test_copies_do_not_notice_what_another_is_made_of(go2: Robot, build: Build) -> None:
    """Randomising copy 1 leaves the others as they were, to the bit."""
    plain = wave(build(go2, 3), range(10))
    varied, one = build(go2, 3), np.array([1])
    for name, value in (("friction", 0.3), ("motor_strength", np.full(12, 0.8)), ("joint_damping", np.full(12, 2.0))):
        varied.randomize(one, name, np.atleast_2d(value))
    mixed = wave(varied, range(10))
    same(plain, mixed, [0, 2])
    assert not np.array_equal(plain.joint_pos[1], mixed.joint_pos[1])


def test_a_heavier_copy_leaves_the_others_as_they_were(go2: Robot, build: Build) -> None:
    """Masses make engines derive constants anew; those of the other copies come out the same."""
    light = wave(build(go2, 2), range(10))
    varied = build(go2, 2)
    varied.randomize(np.array([1]), "payload_kg", np.array([[3.0]]))
    mixed = wave(varied, range(10))
    np.testing.assert_allclose(mixed.joint_pos[0], light.joint_pos[0], atol=1e-4)
    assert np.abs(mixed.joint_pos[1] - light.joint_pos[1]).max() > 1e-3


@pytest.mark.parametrize("physics", backends())
@pytest.mark.parametrize("name", ["go2_velocity", "cartpole_swingup"])
def test_a_task_runs_unchanged(name: str, physics: str) -> None:
    """With all its noise, pushes, delays and randomisation, episodes end and begin anew, and nothing is infinite."""
    task = dataclasses.replace(zoo.load("sim", f"tasks/{name}").task(), episode_s=0.2)
    env = make_env(task, num_envs=4, seed=0, physics=physics)
    obs, ended = env.reset(), 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        step = env.step(torch.rand(4, env.num_actions, generator=generator) * 2.0 - 1.0)
        obs, ended = step.obs, ended + int(step.truncated.sum())
        assert all(bool(x.isfinite().all()) and x.dtype == torch.float32 for x in (*obs.values(), step.reward))
    assert ended == 8 and {group: x.shape[-1] for group, x in obs.items()} == env.obs_sizes
    env.close()
