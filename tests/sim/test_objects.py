"""Objects of a task: they stand where they are put, fall, are grasped and held, and are seen by the terms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco.batch")

from robot_rl import zoo
from robot_rl.contract.state import JointTarget
from robot_rl.contract.terms import find_term
from robot_rl.hardware.robot import load_robot
from robot_rl.sim.backends import make_physics
from robot_rl.sim.kinematics import Kinematics, Pose
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.objects import Object, Shape, draw_poses

PANDA = load_robot("panda")
CUBE = Object((Shape("box", (0.02, 0.02, 0.02)),), 0.1, (0.5, 0.0, 0.02), spread=(0.05, 0.1, 0.0, 0.5))
BLOCK = Object((Shape("box", (0.1, 0.1, 0.05)), Shape("cylinder", (0.02, 0.05), (0, 0, 0.1))), 0.0, (0.6, 0.3, 0.05))
DOWN = np.array((1.0, 0.0, 0.0, 0.0))


@pytest.fixture
def physics() -> Any:
    made = MujocoCpu(PANDA, 2, objects={"cube": CUBE, "block": BLOCK}, threads=1)
    yield made
    made.close()


def hold(physics: MujocoCpu, pos: np.ndarray, seconds: float) -> None:
    shape = (physics.num_envs, 9)
    gains = (np.broadcast_to(np.array(x), shape) for x in (PANDA.stiffness, PANDA.damping))
    physics.apply(JointTarget(np.broadcast_to(pos, shape), np.zeros(shape), np.zeros(shape), *gains))
    physics.step(max(1, round(seconds / physics.dt_s)))


def test_objects_start_where_the_task_says_and_where_a_reset_puts_them(physics: MujocoCpu) -> None:
    state = physics.state()
    np.testing.assert_allclose(state.object_pos_b, np.tile([CUBE.pos, BLOCK.pos], (2, 1, 1)))
    np.testing.assert_allclose(state.object_quat_xyzw, np.tile([0.0, 0.0, 0.0, 1.0], (2, 2, 1)))
    pos, quat = draw_poses({"cube": CUBE, "block": BLOCK}, np.random.default_rng(0), 1)
    physics.reset(np.array([1]), {"object_pos": pos, "object_quat_xyzw": quat})
    after = physics.state()
    assert after.object_pos_b is not None and state.object_pos_b is not None and after.object_quat_xyzw is not None
    np.testing.assert_array_equal(after.object_pos_b[0], state.object_pos_b[0])
    np.testing.assert_array_equal(after.object_pos_b[1], pos[0])
    np.testing.assert_allclose(after.object_quat_xyzw[1], quat[0])


def test_a_free_object_falls_and_lies_on_a_fixed_one_that_stays(physics: MujocoCpu) -> None:
    """The cube is dropped from 5 cm onto the block, whose top is at 0.1 m."""
    pos = np.tile([[0.55, 0.3, 0.17], BLOCK.pos], (2, 1, 1))
    physics.reset(np.arange(2), {"object_pos": pos})
    hold(physics, np.array(PANDA.default_pos), 1.0)
    seen = physics.state().object_pos_b
    assert seen is not None
    np.testing.assert_allclose(seen[0, 0], (0.55, 0.3, 0.12), atol=2e-3)
    np.testing.assert_array_equal(seen[:, 1], np.tile(BLOCK.pos, (2, 1)))


def test_the_grasp_holds_a_cube_through_a_lift_and_ten_seconds_more(physics: MujocoCpu) -> None:
    """Fingers that want to close hold 100 g; it slips by less than 2 mm."""
    kinematics, rest = Kinematics(PANDA), np.array(PANDA.default_pos)
    low = kinematics.solve(rest, Pose(np.array(CUBE.pos), DOWN))
    high = kinematics.solve(low, Pose(np.array((0.45, 0.1, 0.3)), DOWN))
    physics.reset(np.arange(2), {"joint_pos": np.tile(low, (2, 1))})
    closed = np.array([0.0, 0.0])
    hold(physics, np.concatenate((low[:7], closed)), 1.0)
    for share in np.linspace(0.1, 1.0, 10):
        hold(physics, np.concatenate((low[:7] + share * (high - low)[:7], closed)), 0.1)
    hold(physics, np.concatenate((high[:7], closed)), 1.0)
    slips = []
    for seconds in (0.0, 10.0):
        hold(physics, np.concatenate((high[:7], closed)), seconds)
        state = physics.state()
        assert state.object_pos_b is not None and state.tool_pos_b is not None
        slips.append(state.object_pos_b[:, 0] - state.tool_pos_b)
    np.testing.assert_allclose(state.tool_pos_b[0], (0.45, 0.1, 0.3), atol=5e-3)
    assert np.abs(slips[0]).max() < 5e-3
    assert np.abs(slips[1] - slips[0]).max() < 2e-3
    np.testing.assert_allclose(state.joint_pos[:, 7:], 0.0195, atol=1e-3)


def test_the_tools_pose_is_that_of_the_joints_after_a_step_too(physics: MujocoCpu) -> None:
    hold(physics, np.array(PANDA.default_pos) + 0.2, 0.1)  # in full motion
    state, kinematics = physics.state(), Kinematics(PANDA)
    assert state.tool_pos_b is not None and state.tool_quat_xyzw is not None
    pose = kinematics.pose(state.joint_pos[0])
    np.testing.assert_allclose(state.tool_pos_b[0], pose.pos, atol=1e-9)
    np.testing.assert_allclose(state.tool_quat_xyzw[0], pose.quat_xyzw, atol=1e-9)


def test_the_terms_say_where_tool_and_objects_are(physics: MujocoCpu) -> None:
    task = zoo.load("sim", "tasks/panda_peg").task()
    contract, state = task.contract(PANDA), physics.state()
    read = lambda name: find_term(name)(state, contract)[0]
    np.testing.assert_allclose(read("object_pos"), (*CUBE.pos, *BLOCK.pos))
    np.testing.assert_allclose(read("object_axes"), (1, 0, 0, 0, 1, 0) * 2, atol=1e-12)
    np.testing.assert_allclose(read("tool_axes"), (1, 0, 0, 0, -1, 0), atol=1e-6)  # x ahead, y to the right: down
    np.testing.assert_allclose(read("tool_to_object")[:3] + read("tool_pos"), CUBE.pos)
    assert contract.extra == {"objects": ["peg", "hole"]}


def test_a_snapshot_holds_the_objects(physics: MujocoCpu) -> None:
    kept = physics.snapshot()
    physics.reset(np.arange(2), {"object_pos": np.tile([[0.5, 0.2, 0.3], [0.7, 0.0, 0.05]], (2, 1, 1))})
    physics.restore(kept)
    np.testing.assert_allclose(physics.state().object_pos_b, np.tile([CUBE.pos, BLOCK.pos], (2, 1, 1)))


@pytest.mark.parametrize("name", ["mujoco_gpu", "isaac", "isaac_physx"])
@pytest.mark.parametrize("task", ["panda_reach", "panda_lift"])
def test_backends_without_tools_and_objects_say_which_has_them(name: str, task: str) -> None:
    made = zoo.load("sim", f"tasks/{task}").task()
    with pytest.raises(ValueError, match=rf"task '{task}' reads .* physics '{name}' .* choices are \['mujoco_cpu'\]"):
        make_physics(made, num_envs=1, physics=name)


def test_a_walking_robot_gets_no_objects() -> None:
    with pytest.raises(ValueError, match=r"'go2' has a floating base; objects \['cube'\] need a fixed one"):
        MujocoCpu(load_robot("go2"), 1, objects={"cube": CUBE}, threads=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Shape("cone", (1.0,)), r"no shape 'cone'; the choices are \['box', 'cylinder', 'sphere'\]"),
        (lambda: Shape("box", (1.0, 1.0)), "a box has 3 positive numbers of size"),
        (lambda: dataclasses.replace(CUBE, mass_kg=-1.0), "mass -1.0 kg"),
        (lambda: dataclasses.replace(CUBE, shapes=()), "at least one shape"),
    ],
)
def test_an_object_that_cannot_be_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
