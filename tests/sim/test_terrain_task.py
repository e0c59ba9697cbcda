"""The go2 on rough ground: heights over the ground in rewards, ends and constraints; a world that runs there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import Contract
from robot_rl.hardware.robot import load_robot
from robot_rl.sim import constraints as c
from robot_rl.sim import terms as t
from robot_rl.sim.backends import make_physics
from robot_rl.sim.curriculum import Curriculum, held
from robot_rl.sim.evaluation import load_pair, make_world, undisturbed
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.task import Outcome, Task
from robot_rl.sim.terrain import Terrain, make_relief
from robot_rl.sim.world import World

GO2 = load_robot("go2")
TINY = Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx"
STAIRS = Terrain(kinds=("stairs_up",), levels=1, difficulty=(1.0, 1.0))  # the platform is at -0.8 m
GROUND = make_relief(STAIRS).ground


def contract() -> Contract:
    return zoo.load("sim", "tasks/go2_velocity").task().contract(GO2)


def outcome(*heights: float) -> Outcome:
    """Upright robots in the middle of the map, their bases and feet at these heights in the world."""
    n = len(heights)
    before, after = (sample_states(contract(), GO2.joints, n, np.random.default_rng(seed)) for seed in (0, 1))
    after.quat_xyzw = np.tile([0.0, 0.0, 0.0, 1.0], (n, 1))
    after.base_pos_w = np.array([[0.1, -0.1, z] for z in heights])
    made = Outcome(before, after, np.zeros((n, 12)), 0.02, contract())
    made.foot_pos_w = np.tile(np.asarray(after.base_pos_w)[:, None], (1, 4, 1))
    made.foot_vel_w = np.ones((n, 4, 3))
    return made


def test_heights_count_from_the_ground_under_the_robot() -> None:
    """In a bowl 0.8 m deep the base at -0.5 m is 0.3 m high: alive there, deep under the floor elsewhere."""
    o = outcome(-0.5, -0.7, 0.0)
    np.testing.assert_array_equal(t.fallen(1.0, 0.14)(o), [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(t.fallen(1.0, 0.14, GROUND)(o), [0.0, 1.0, 0.0])
    np.testing.assert_allclose(t.base_height_over(GROUND)(o.after, o.contract), [[0.3], [0.1], [0.8]], atol=1e-6)
    np.testing.assert_allclose(c.base_height(0.2, 0.45, GROUND)(o), [[-0.1], [0.1], [0.35]], atol=1e-6)
    speed = 2.0**0.25
    expected = 4 * np.square([0.3 - 0.1, 0.1 - 0.1, 0.8 - 0.1]) * speed
    np.testing.assert_allclose(t.feet_clearance(0.1, GROUND)(o), expected, atol=1e-5)


def test_heights_over_the_ground_are_the_same_in_torch() -> None:
    o = outcome(-0.5, -0.7, 0.0)
    as_torch = dataclasses.replace(o.after, base_pos_w=torch.tensor(np.asarray(o.after.base_pos_w)))
    again = t.base_height_over(GROUND)(as_torch, o.contract)
    np.testing.assert_allclose(again.numpy(), t.base_height_over(GROUND)(o.after, o.contract))


@pytest.mark.parametrize("name", ["go2_velocity_rough", "go2_velocity_rough_cat"])
def test_the_rough_tasks_run_a_hundred_steps_on_every_kind_of_ground(name: str) -> None:
    task = dataclasses.replace(zoo.load("sim", f"tasks/{name}").task(), episode_s=1.2)
    world = World(task, make_physics(task, num_envs=10, threads=1), seed=0)
    try:
        world.reset()
        assert world.course is not None and sorted(world.course.column) == list(range(10))
        rng, low, ended = np.random.default_rng(1), [], 0
        for _ in range(100):
            step = world.step(0.3 * rng.uniform(-1, 1, (10, 12)))
            for x in (*step.obs.values(), *step.next_obs.values(), step.reward, step.terminated):
                assert np.isfinite(x).all()
            low.append(t.base_height_over(world.course.relief.height)(step.outcome.after, world.contract).min())
            ended += int(step.log.get("episode/count", 0))
        assert world.obs_sizes == {"policy": 45, "critic": 45 + 3 + 1 + 4 + 77}
        assert min(low) > 0.0  # nobody sinks into the ground
        assert ended >= 10 and "curriculum/stairs_up" in world.course.log
        assert ("violation/base_height" in step.log) == (task.constraints is not None)
    finally:
        world.close()


def test_a_robot_stands_on_every_kind_at_every_level_where_it_starts() -> None:
    """Told to keep its default pose for 1 s, it stands over the platform as high as on a plane: 0.206 m."""
    task = zoo.load("sim", "tasks/go2_velocity_rough").task()
    for level in (0, 9):
        quiet = _quiet(task, level)
        world = World(quiet, make_physics(quiet, num_envs=10, threads=1), seed=3)
        world.reset()
        for _ in range(50):
            step = world.step(np.zeros((10, 12)))
            assert not step.terminated.any()
        assert world.course is not None
        height = t.base_height_over(world.course.relief.ground)(world.state, world.contract)
        np.testing.assert_allclose(height, 0.206, atol=0.005)
        assert (world.state.foot_contact == 1.0).all()
        world.close()


def _quiet(task: Task, level: int) -> Task:
    assert task.terrain is not None
    return dataclasses.replace(undisturbed(task), resets={}, curriculum=held(task.terrain, level=level))


def test_a_policy_is_measured_on_all_levels_and_not_where_training_begins() -> None:
    policy, task = load_pair(TINY, task="go2_velocity_rough")
    world = make_world(policy, dataclasses.replace(task, episode_s=0.04), 100, seed=0, threads=1)
    world.reset()
    assert world.course is not None and task.curriculum is not None and task.curriculum.start == (0, 1)
    before = world.course.level.copy()
    assert set(before.tolist()) == set(range(10)) and set(world.course.column.tolist()) == set(range(10))
    for _ in range(4):
        world.step(np.zeros((100, 12)))
    np.testing.assert_array_equal(world.course.level, before)  # episodes ended, nobody moved
    world.close()
    assert task.terrain is not None
    one = dataclasses.replace(task, curriculum=held(task.terrain, level=7))
    world = make_world(policy, one, 3, seed=0, threads=1)
    assert world.course is not None and world.course.level.tolist() == [7, 7, 7]  # a held one is left as it is
    world.close()


def test_without_style_the_rough_constraints_are_the_safety_ones() -> None:
    task, flat = (zoo.load("sim", f"tasks/go2_velocity{name}").task() for name in ("_rough_cat", "_cat"))
    style = {"base_orientation", "hip_position", "foot_air_time", "no_move"}
    assert set(flat.constraints.terms) - set(task.constraints.terms) == style
    assert task.constraints.ramp_steps == flat.constraints.ramp_steps


def test_rough_ground_leaves_the_contract_alone_but_for_the_tasks_name() -> None:
    flat, rough = (zoo.load("sim", f"tasks/{name}").task() for name in ("go2_velocity", "go2_velocity_rough"))
    assert dataclasses.replace(rough.contract(GO2), task="go2_velocity") == flat.contract(GO2)


def test_flat_terrain_is_the_plane_to_a_robot() -> None:
    """The same actions on a flat height field and on the scene's plane: the base is within 1 cm after 0.5 s."""
    ways = []
    for terrain in (None, Terrain(kinds=("flat",), levels=1)):
        physics = MujocoCpu(GO2, 1, terrain=terrain, threads=1)
        task = zoo.load("sim", "tasks/go2_velocity").task()
        where = Curriculum(spread_m=0.0) if terrain else None
        task = dataclasses.replace(undisturbed(task), resets={}, terrain=terrain, curriculum=where)
        world = World(task, physics, seed=0)
        world.reset()
        phase = np.arange(12)
        for k in range(25):
            world.step(0.3 * np.sin(0.3 * k + phase)[None])
        ways.append(np.concatenate((np.asarray(world.state.base_pos_w), world.state.joint_pos), axis=1))
        world.close()
    np.testing.assert_allclose(ways[0][:, :3], ways[1][:, :3], atol=0.01)
    np.testing.assert_allclose(ways[0][:, 3:], ways[1][:, 3:], atol=0.1)
