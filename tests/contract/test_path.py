"""From raw actions to joint targets: two scales, a low-pass, limits; one robot is a row of a batch; the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.contract.apply import ActionMap
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.path import ActionPath, butterworth, targets_in_turn
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import ActionLaw, Contract
from robot_rl.contract.vectors import split
from tests.contract.strategies import POLICIES, contracts

TINY = read_bundle(POLICIES / "go2_tiny.onnx").contract
LOW, HIGH, POSE = (np.array(x) for x in (TINY.limits.pos_low, TINY.limits.pos_high, TINY.action.offset))
LAW = ActionLaw("joint_position", tuple(HIGH - POSE), TINY.action.offset, scale_below=tuple(POSE - LOW))
FULL = replace(TINY, action=LAW)
SMOOTH = replace(TINY, rate_hz=20.0, action=replace(LAW, lowpass_hz=8.0))


def gain(frequency_hz: float, cutoff_hz: float, rate_hz: float) -> float:
    """Of the filter, by its transfer function."""
    f, z = butterworth(cutoff_hz, rate_hz), np.exp(-2j * np.pi * frequency_hz / rate_hz)
    return float(abs((f.b0 + f.b1 * z + f.b2 * z * z) / (1.0 + f.a1 * z + f.a2 * z * z)))


def run(contract: Contract, actions: np.ndarray, pose: np.ndarray) -> np.ndarray:
    path = ActionPath(contract, contract.joints)
    state = split(sample_states(contract, contract.joints, 1, np.random.default_rng(0)))[0]
    return np.array([path.target(action, replace(state, joint_pos=pose)).pos for action in actions])


def test_zero_is_the_stance_and_one_is_a_limit_on_either_side() -> None:
    law, state = ActionMap(FULL, FULL.joints), sample_states(FULL, FULL.joints, 3, np.random.default_rng(0))
    pos = law.target(np.array([[0.0] * 12, [1.0] * 12, [-1.0] * 12]), state).pos
    np.testing.assert_allclose(pos, [POSE, HIGH, LOW], rtol=0.0, atol=1e-15)
    half = law.target(np.full(12, -0.5), split(state)[0]).pos
    np.testing.assert_allclose(half, (POSE + LOW) / 2.0, rtol=0.0, atol=1e-15)


def test_way_back_of_two_scales_is_exact() -> None:
    law, state = ActionMap(FULL, FULL.joints), sample_states(FULL, FULL.joints, 50, np.random.default_rng(0))
    action = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 12))
    np.testing.assert_allclose(law.action(law.target(action, state), state), action, rtol=0.0, atol=1e-12)


def test_low_pass_keeps_the_slow_and_halves_the_power_at_its_cutoff() -> None:
    assert gain(0.0, 8.0, 20.0) == pytest.approx(1.0, rel=1e-12)
    assert gain(8.0, 8.0, 20.0) == pytest.approx(np.sqrt(0.5), rel=1e-12)
    assert gain(9.0, 8.0, 20.0) < 0.25 < gain(8.5, 8.0, 20.0)
    # two poles, analogue prewarped: 1 / sqrt(1 + (tan(pi f / fs) / tan(pi fc / fs))^4)
    assert gain(5.0, 8.0, 20.0) == pytest.approx(1.0 / np.sqrt(1.0 + (1.0 / np.tan(0.4 * np.pi)) ** 4), rel=1e-9)


def test_targets_are_those_of_the_difference_equation_and_begin_where_the_joints_are() -> None:
    actions, pose = np.random.default_rng(0).uniform(-0.3, 0.3, (12, 12)), POSE + 0.01
    f, x = butterworth(8.0, 20.0), POSE + np.where(actions < 0.0, POSE - LOW, HIGH - POSE) * actions
    x, y = np.concatenate(([pose, pose], x)), np.array([pose] * 14)  # for ever at the pose before
    for t in range(2, 14):
        y[t] = f.b0 * x[t] + f.b1 * x[t - 1] + f.b2 * x[t - 2] - f.a1 * y[t - 1] - f.a2 * y[t - 2]
    np.testing.assert_allclose(run(SMOOTH, actions, pose), np.clip(y[2:], LOW, HIGH), rtol=0.0, atol=1e-12)


def test_who_asks_for_where_it_is_gets_no_transient() -> None:
    np.testing.assert_allclose(run(SMOOTH, np.zeros((20, 12)), POSE), np.tile(POSE, (20, 1)), rtol=0.0, atol=1e-14)


def test_overshoot_stays_within_the_limits() -> None:
    ringing = np.where(np.arange(20)[:, None] % 10 < 5, 1.0, -1.0) * np.ones(12)
    law = replace(SMOOTH.action, lowpass_hz=5.0)
    pos = run(replace(SMOOTH, action=law), ringing, POSE)
    assert (pos >= LOW).all() and (pos <= HIGH).all() and (pos == HIGH).any()


def test_one_robot_equals_its_row_of_a_batch_and_rows_begin_anew_alone() -> None:
    rng = np.random.default_rng(0)
    states = sample_states(SMOOTH, SMOOTH.joints, 3, rng)
    actions = rng.uniform(-1.0, 1.0, (6, 3, 12))
    batch, alone = ActionPath(SMOOTH, SMOOTH.joints, (3,)), [ActionPath(SMOOTH, SMOOTH.joints) for _ in range(3)]
    for t in range(6):
        if t == 3:
            batch.restart(np.array([1]))
            alone[1].restart()
        together = batch.target(actions[t], states).pos
        one_by_one = [p.target(a, s).pos for p, a, s in zip(alone, actions[t], split(states), strict=True)]
        np.testing.assert_array_equal(together, one_by_one)


def test_stored_path_goes_on_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    states, actions = sample_states(SMOOTH, SMOOTH.joints, 2, rng), rng.uniform(-1.0, 1.0, (6, 2, 12))
    path, other = (ActionPath(SMOOTH, SMOOTH.joints, (2,)) for _ in range(2))
    for action in actions[:3]:
        path.target(action, states)
    other.restore(path.snapshot())
    for action in actions[3:]:
        np.testing.assert_array_equal(path.target(action, states).pos, other.target(action, states).pos)


def test_action_that_is_no_number_is_not_remembered() -> None:
    actions = np.full((4, 12), 0.2)
    broken = actions.copy()
    broken[2, 5] = np.nan
    calm, shaken = run(SMOOTH, actions, POSE), run(SMOOTH, broken, POSE)
    assert np.isnan(shaken[2, 5]) and np.isfinite(shaken[3]).all()
    np.testing.assert_array_equal(np.delete(shaken[3], 5), np.delete(calm[3], 5))


@given(contracts(), st.integers(0, 2**31))
def test_action_that_was_sent_is_found_again(contract: Contract, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = replace(contract.limits, pos_low=(-1e9,) * contract.num_actions, pos_high=(1e9,) * contract.num_actions)
    joints = (contract.joints + contract.passive)[::-1]
    path = ActionPath(replace(contract, limits=limits), joints)
    smallest = min(abs(x) for x in (*contract.action.scale, *(contract.action.scale_below or (1.0,))))
    for state in split(sample_states(contract, joints, 4, rng)):
        action = rng.uniform(-1.0, 1.0, contract.num_actions)
        found = path.action(path.target(action, state), state)
        largest = max(map(abs, contract.action.scale + (contract.action.scale_below or ())))
        np.testing.assert_allclose(found, action, rtol=1e-7, atol=1e-7 + 1e-11 * (1.0 + largest) / smallest)


@given(contracts(), st.integers(0, 2**31))
def test_golden_steps_in_turn_are_the_path_step_by_step(contract: Contract, seed: int) -> None:
    joints, rng = contract.joints + contract.passive, np.random.default_rng(seed)
    states, actions = sample_states(contract, joints, 4, rng), rng.uniform(-1.5, 1.5, (4, contract.num_actions))
    path, together = ActionPath(contract, joints), targets_in_turn(contract, joints, actions, states)
    for i, state in enumerate(split(states)):
        np.testing.assert_array_equal(path.target(actions[i], state).pos, together.pos[i])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lowpass_hz": 25.0}, "lowpass_hz is 25"),
        ({"lowpass_hz": 8.0, "kind": "joint_effort"}, "takes 'joint_position' targets"),
        ({"scale_below": (1.0,) * 11}, "scale_below has 11 numbers; expected 12"),
        ({"scale_below": (-1.0,) * 12}, "both must be positive"),
    ],
)
def test_impossible_paths_are_named(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(TINY, action=replace(TINY.action, **change))


def test_contract_without_a_path_has_the_json_it_always_had() -> None:
    assert "scale_below" not in TINY.to_json() and "lowpass_hz" not in TINY.to_json()
    assert Contract.from_json(SMOOTH.to_json()) == SMOOTH
    assert Contract.from_json(SMOOTH.to_json()).fingerprint == SMOOTH.fingerprint != TINY.fingerprint
