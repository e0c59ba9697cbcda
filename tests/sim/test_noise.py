"""Sensor noise: the quick way equals the slow way, and nothing is noisy that should not be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.noise import NoisyObserver
from robot_rl.sim.task import Obs
from tests.sim.hopper import hopper_task

HALF = {"joint_pos_rel": 0.3, "joint_vel_rel": 0.5}


def contract_of(robot: Robot, **obs: Obs) -> Contract:
    terms = {"last_action": Obs(), "joint_pos_rel": Obs(scale=2.0), "joint_vel_rel": Obs(scale=0.1), **obs}
    return dataclasses.replace(hopper_task(), obs=terms).contract(robot)


def states(n: int, seed: int) -> RobotState:
    rng = np.random.default_rng(seed)
    j, three, four = rng.normal(size=(n, 1)), rng.normal(size=(n, 3)), rng.normal(size=(n, 4))
    return RobotState(np.zeros(n), j, 2 * j, 3 * j, four, three, three, np.zeros((n, 0)), rng.normal(size=(n, 1)))


def test_computing_terms_once_gives_what_noise_on_the_raw_terms_gives(hopper: Robot) -> None:
    contract = contract_of(hopper)
    quick, slow = (
        NoisyObserver(contract, hopper.joints, HALF, 7, np.random.default_rng(1), once=once) for once in (True, False)
    )
    for k in range(3):
        for a, b in zip(quick(states(7, k)), slow(states(7, k)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    ids = np.array([2, 5])
    for a, b in zip(quick(states(2, 9), ids), slow(states(2, 9), ids), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_noise_is_uniform_scaled_and_only_where_declared(hopper: Robot) -> None:
    seen, exact = NoisyObserver(contract_of(hopper), hopper.joints, HALF, 5000, np.random.default_rng(0))(
        states(5000, 0)
    )
    gap = seen - exact  # columns: last action, position times 2, velocity times 0.1
    assert not gap[:, 0].any()
    for column, amplitude in ((1, 2.0 * 0.3), (2, 0.1 * 0.5)):
        assert 0.98 * amplitude < np.abs(gap[:, column]).max() <= amplitude + 1e-6
        assert gap[:, column].std() == pytest.approx(amplitude / np.sqrt(3.0), rel=0.03)


def test_a_clip_cuts_the_noise_and_histories_keep_what_was_seen(hopper: Robot) -> None:
    contract = contract_of(hopper, joint_pos_rel=Obs(clip=(-0.1, 0.1)), joint_vel_rel=Obs(history=2))
    observer = NoisyObserver(contract, hopper.joints, HALF, 3, np.random.default_rng(0))
    first, _ = observer(states(3, 0))
    second, exact = observer(states(3, 1))
    assert np.abs(second[:, 1]).max() <= 0.1 + 1e-7
    np.testing.assert_array_equal(second[:, 2], first[:, 3])  # columns: action, position, older and newer velocity
    assert not np.array_equal(second[:, 2], exact[:, 2])


def test_without_noise_both_views_are_one_array() -> None:
    go2 = load_robot("go2")
    contract = dataclasses.replace(hopper_task(), obs={"projected_gravity": Obs()}).contract(go2)
    seen, exact = NoisyObserver(contract, go2.joints, {"projected_gravity": 0.0}, 2, np.random.default_rng(0))(
        dataclasses.replace(states(2, 0), joint_pos=np.zeros((2, 12)))
    )
    assert seen is exact
