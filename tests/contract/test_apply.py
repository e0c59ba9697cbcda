"""Observer and ActionMap: one robot equals a batch, NumPy equals torch, and the action law has an inverse."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.contract.apply import ActionMap, Observer, joint_indices
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import ActionLaw, Contract, ObsTerm
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.contract.terms import TERMS, projected_gravity
from robot_rl.contract.vectors import split
from tests.contract.strategies import POLICIES, contracts

TINY = read_bundle(POLICIES / "go2_tiny.onnx").contract
FRAMES, BATCH = 5, 3


def shuffled_joints(contract: Contract, seed: int) -> list[str]:
    """The contract's joints in another robot's order."""
    joints = contract.joints + contract.passive
    return [joints[i] for i in np.random.default_rng(seed).permutation(len(joints))]


def with_arrays(state: RobotState, convert: Any) -> RobotState:
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    return RobotState(**{name: convert(np.asarray(x)) for name, x in fields.items()})


def stacked(states: list[RobotState]) -> RobotState:
    names = [f.name for f in dataclasses.fields(RobotState)]
    return RobotState(**{name: np.stack([getattr(s, name) for s in states]) for name in names})


@given(contracts(), st.integers(0, 2**31))
def test_one_robot_equals_a_batch_frame_by_frame(contract: Contract, seed: int) -> None:
    joints = shuffled_joints(contract, seed)
    robots = [split(sample_states(contract, joints, FRAMES, np.random.default_rng(seed + i))) for i in range(BATCH)]
    batch = Observer(contract, joints, (BATCH,))
    alone = [Observer(contract, joints) for _ in range(BATCH)]
    for t in range(FRAMES):
        together = batch(stacked([robot[t] for robot in robots]))
        one_by_one = np.stack([observer(robot[t]) for observer, robot in zip(alone, robots, strict=True)])
        assert together.shape == (BATCH, contract.obs_size)
        assert together.dtype == one_by_one.dtype == np.float32
        np.testing.assert_allclose(one_by_one, together, rtol=1e-6, atol=1e-6)


@given(contracts(), st.integers(0, 2**31))
def test_numpy_for_one_robot_equals_torch_for_a_batch(contract: Contract, seed: int) -> None:
    torch = pytest.importorskip("torch")
    joints = shuffled_joints(contract, seed)
    states = sample_states(contract, joints, FRAMES, np.random.default_rng(seed))
    alone, batch = Observer(contract, joints), Observer(contract, joints, (BATCH,))
    numpy_map, torch_map = ActionMap(contract, joints), ActionMap(contract, joints)
    for state in split(states):
        tensors = with_arrays(state, lambda x: torch.from_numpy(np.stack([x.astype(np.float32)] * BATCH)))
        state = with_arrays(state, lambda x: x.astype(np.float32).astype(np.float64))
        expected, got = alone(state), batch(tensors)
        assert got.dtype == torch.float32
        bound = 1e-5 * np.maximum(np.maximum(1.0, np.abs(expected)), factors(contract))
        assert np.all(np.abs(got.numpy() - expected) <= bound)
        action = state.last_action.astype(np.float32)
        ours, theirs = (
            numpy_map.target(action, state),
            torch_map.target(torch.from_numpy(action).repeat(BATCH, 1), tensors),
        )
        for f in dataclasses.fields(JointTarget):
            a, b = getattr(ours, f.name), getattr(theirs, f.name).numpy()
            np.testing.assert_allclose(b, np.broadcast_to(a, b.shape), rtol=1e-5, atol=1e-5)


def factors(contract: Contract) -> np.ndarray:
    """The scale of every column of the observation; 1e-5 is meant in units of the raw terms, too."""
    return np.abs(np.concatenate([term.scale * term.history for term in contract.obs]))


@given(contracts(), st.integers(0, 2**31))
def test_the_action_map_has_an_inverse(contract: Contract, seed: int) -> None:
    joints = shuffled_joints(contract, seed)
    state = split(sample_states(contract, joints, 1, np.random.default_rng(seed)))[0]
    mapping = ActionMap(contract, joints)
    action = np.random.default_rng(seed).uniform(-1.0, 1.0, contract.num_actions)
    target = mapping.target(action, state)
    smallest = min(abs(x) for x in (*contract.action.scale, *(contract.action.scale_below or (1.0,))))
    np.testing.assert_allclose(mapping.action(target, state), action, rtol=1e-9, atol=1e-9 + 1e-14 / smallest)


def test_the_order_is_clip_then_scale_then_history_oldest_first() -> None:
    term = ObsTerm("base_ang_vel", 3, (2.0, 3.0, 4.0), clip=(-1.0, 1.0), history=3)
    observer = Observer(dataclasses.replace(TINY, obs=(term,)), TINY.joints)
    states = split(sample_states(TINY, TINY.joints, 3, np.random.default_rng(0)))
    for state, rate in zip(states, (0.5, 7.0, -7.0), strict=True):
        state.ang_vel_b = np.full(3, rate)
    first, second, third = (observer(state).tolist() for state in states)
    assert first == [1.0, 1.5, 2.0] * 3
    assert second == [1.0, 1.5, 2.0] * 2 + [2.0, 3.0, 4.0]
    assert third == [1.0, 1.5, 2.0, 2.0, 3.0, 4.0, -2.0, -3.0, -4.0]
    observer.reset()
    assert observer(states[2]).tolist() == [-2.0, -3.0, -4.0] * 3


def test_an_observation_is_not_overwritten_by_the_next() -> None:
    observer = Observer(TINY, TINY.joints)
    first, second = split(sample_states(TINY, TINY.joints, 2, np.random.default_rng(0)))
    kept = observer(first)
    copy = kept.copy()
    observer(second)
    np.testing.assert_array_equal(kept, copy)


def test_gravity_points_down_upright_and_sideways_on_the_side() -> None:
    state = split(sample_states(TINY, TINY.joints, 1, np.random.default_rng(0)))[0]
    state.quat_xyzw = np.array([0.0, 0.0, 0.0, 1.0])
    assert projected_gravity(state, TINY).tolist() == [0.0, 0.0, -1.0]
    state.quat_xyzw = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])  # rolled 90 degrees to the right
    np.testing.assert_allclose(projected_gravity(state, TINY), [0.0, -1.0, 0.0], atol=1e-15)


def test_joints_are_mapped_by_name() -> None:
    joints = shuffled_joints(TINY, 3)
    mapping = ActionMap(TINY, joints)
    state = split(sample_states(TINY, joints, 1, np.random.default_rng(0)))[0]
    action = np.zeros(12)
    action[TINY.joints.index("RL_calf_joint")] = 0.5
    moved = mapping.target(action, state).pos - mapping.target(np.zeros(12), state).pos
    assert np.flatnonzero(moved).tolist() == [joints.index("RL_calf_joint")]
    np.testing.assert_allclose(moved.sum(), 0.5 / 3)


def test_passive_joints_get_no_stiffness_damping_or_effort() -> None:
    contract = read_bundle(POLICIES / "cartpole_tiny.onnx").contract
    state = split(sample_states(contract, ("pole", "slider"), 1, np.random.default_rng(0)))[0]
    contract = dataclasses.replace(contract, stiffness=(7.0,), damping=(3.0,))
    target = ActionMap(contract, ("pole", "slider")).target(np.array([0.3]), state)
    assert target.effort_ff.tolist() == [0.0, 3.0]
    assert (target.stiffness.tolist(), target.damping.tolist()) == ([0.0, 7.0], [0.0, 3.0])


def test_a_relative_law_starts_at_the_measured_position() -> None:
    law = ActionLaw("joint_position_relative", (0.5,) * 12, TINY.action.offset)
    state = split(sample_states(TINY, TINY.joints, 1, np.random.default_rng(0)))[0]
    target = ActionMap(dataclasses.replace(TINY, action=law), TINY.joints).target(np.full(12, 9.0), state)
    np.testing.assert_allclose(target.pos, state.joint_pos + 0.5)  # the action is clipped to 1


def test_missing_and_extra_joints_are_both_listed() -> None:
    joints = ["tail", *TINY.joints[1:]]
    with pytest.raises(ValueError, match=r"\['FR_hip_joint'\].*\['tail'\]"):
        joint_indices(TINY, joints)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_a_term_of_another_size_than_stated_is_refused(name: str) -> None:
    contract = dataclasses.replace(TINY, obs=(ObsTerm(name, 7, (1.0,) * 7),))
    state = split(sample_states(TINY, TINY.joints, 1, np.random.default_rng(0)))[0]
    with pytest.raises(ValueError, match=f"'{name}'"):
        Observer(contract, TINY.joints)(state)


def test_an_unknown_term_lists_the_vocabulary() -> None:
    contract = dataclasses.replace(TINY, obs=(ObsTerm("true_friction", 1, (1.0,)),))
    with pytest.raises(ValueError, match=r"no observation term 'true_friction'; the choices are \['base_ang_vel'"):
        Observer(contract, TINY.joints)
