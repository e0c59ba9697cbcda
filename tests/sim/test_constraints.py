"""Margins by hand: on made outcomes for the arithmetic, on the hopper for the forces that physics gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim import constraints as c
from robot_rl.sim.backends import make_physics
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.task import Constraint, Constraints, Outcome
from robot_rl.sim.world import World
from tests.sim.hopper import BASE_KG, FOOT_KG, GRAVITY, hopper_task

HIPS = ("*_hip_joint",)


@pytest.fixture
def still() -> Outcome:
    """The go2 in its default pose, told to walk at 0.5 m/s."""
    task = zoo.load("sim", "tasks/go2_velocity").task()
    physics = make_physics(task, num_envs=2, threads=1)
    state = physics.state()
    state.command = np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])  # the second is told to stand
    state.last_action = np.zeros((2, 12))
    physics.close()
    contract = task.contract(load_robot("go2"))
    return Outcome(state, state, np.zeros((2, 12)), 0.02, contract)


def after(o: Outcome, **values: Any) -> Outcome:
    return dataclasses.replace(o, after=dataclasses.replace(o.after, **values))


def filled(o: Outcome, joint: int, value: float) -> np.ndarray:
    x = np.zeros((2, 12))
    x[:, joint] = value
    return x


def test_joint_margins_are_distances_beyond_the_limit(still: Outcome) -> None:
    """Joint 3, the left front hip: 2 rad/s fast, 0.1 rad off, -9 N m; from rest in 0.02 s that is 100 rad/s^2."""
    fast = after(still, joint_vel=filled(still, 3, -2.0))
    np.testing.assert_allclose(c.joint_velocity(1.5)(fast)[0], [*[-1.5] * 3, 0.5, *[-1.5] * 8])
    rest = dataclasses.replace(fast, before=dataclasses.replace(still.before, joint_vel=np.zeros((2, 12))))
    np.testing.assert_allclose(c.joint_acceleration(80.0, HIPS)(rest)[0], [-80.0, 20.0, -80.0, -80.0])
    moved = after(still, joint_pos=np.asarray(still.contract.action.offset) + filled(still, 3, 0.1))
    np.testing.assert_allclose(c.joint_position(0.04, HIPS)(moved)[0], [-0.04, 0.06, -0.04, -0.04], atol=1e-12)
    pulled = after(still, joint_effort=filled(still, 3, -9.0))
    np.testing.assert_allclose(c.joint_torque(5.0, HIPS)(pulled)[1], [-5.0, 4.0, -5.0, -5.0])


def test_the_action_rate_is_per_second(still: Outcome) -> None:
    jump = dataclasses.replace(still, action=filled(still, 7, 0.5))
    assert c.action_rate(20.0)(jump)[0, 7] == pytest.approx(5.0)  # 0.5 in 0.02 s is 25 per second


def test_no_move_binds_only_who_is_told_to_stand(still: Outcome) -> None:
    fast = after(still, joint_vel=filled(still, 0, 3.0))
    margin = c.no_move(1.0)(fast)
    assert margin[0].tolist() == [0.0] * 12
    assert margin[1, 0] == pytest.approx(2.0)


def test_orientation_is_the_sine_of_the_tilt_and_height_has_two_sides(still: Outcome) -> None:
    tilted = after(still, quat_xyzw=np.array([[np.sin(0.1), 0.0, 0.0, np.cos(0.1)]] * 2))  # 0.2 rad of roll
    np.testing.assert_allclose(c.base_orientation(0.1)(tilted), np.full((2, 1), np.sin(0.2) - 0.1), rtol=1e-9)
    heights = after(still, base_pos_w=np.array([[0.0, 0.0, 0.15], [0.0, 0.0, 0.5]]))
    np.testing.assert_allclose(c.base_height(0.2, 0.45)(heights), [[0.05], [0.05]])


def test_short_steps_and_lonely_feet_count_while_walking_only(still: Outcome) -> None:
    landed = after(still, foot_contact=np.array([[1.0, 0.0, 1.0, 1.0]] * 2))
    landed.foot_air_s = np.array([[0.06, 0.06, 0.0, 0.3]] * 2)
    np.testing.assert_allclose(c.foot_air_time(0.16)(landed)[0], [0.10, 0.0, 0.0, -0.14])
    assert (c.foot_air_time(0.16)(landed)[1] <= 0.0).all()
    assert c.feet_on_ground(2)(landed).tolist() == [[1.0], [0.0]]


def test_the_force_on_the_foot_is_the_weight_at_rest(hopper: Robot) -> None:
    """A margin of 5 N under 24.5 N, from the backend through the world."""
    weight = (BASE_KG + FOOT_KG) * GRAVITY
    limit = weight - 5.0
    constraints = Constraints({"foot_force": Constraint(c.foot_force(limit))})
    task = dataclasses.replace(hopper_task(), constraints=constraints, episode_s=10.0)
    world = World(task, MujocoCpu(hopper, 1, threads=1), seed=0)
    world.reset()
    for _ in range(150):
        s = world.step(np.zeros((1, 1)))
    assert s.outcome.foot_force is not None and s.outcome.foot_force[0, 0] == pytest.approx(weight, rel=0.02)
    assert c.foot_force(limit)(s.outcome)[0, 0] == pytest.approx(5.0, abs=0.5)
    assert c.foot_force(limit, most=3.0)(s.outcome)[0, 0] == 3.0
    assert s.log["violation/foot_force"] == 1.0


def test_torch_gives_the_same_margins(still: Outcome) -> None:
    task = zoo.load("sim", "tasks/go2_velocity_cat").task()
    rng = np.random.default_rng(0)
    rough = after(still, joint_vel=rng.normal(size=(2, 12)), joint_effort=rng.normal(size=(2, 12)))
    rough.foot_air_s, rough.foot_force = rng.uniform(0, 0.3, (2, 4)), rng.uniform(0, 400, (2, 4))

    def tensor(x: Any) -> Any:
        return torch.from_numpy(np.asarray(x)) if isinstance(x, np.ndarray) else x

    def state(s: Any) -> Any:
        return type(s)(**{f.name: tensor(getattr(s, f.name)) for f in dataclasses.fields(s)})

    same = Outcome(state(rough.before), state(rough.after), tensor(rough.action), 0.02, rough.contract)
    same.foot_air_s, same.foot_force = tensor(rough.foot_air_s), tensor(rough.foot_force)
    for name, term in task.constraints.terms.items():
        np.testing.assert_allclose(term.margin(same).numpy(), term.margin(rough), err_msg=name)


def test_names_that_fit_no_joint_and_robots_without_feet_are_refused(still: Outcome) -> None:
    with pytest.raises(ValueError, match=r"joint '\*_ankle', which fits none of the robot's joints \['FR_hip_joint'"):
        c.joint_torque(5.0, ("*_hip_joint", "*_ankle"))(still)
    with pytest.raises(ValueError, match="'foot_force' needs feet with touch sensors; robot 'go2' measures none"):
        c.foot_force(100.0)(still)
