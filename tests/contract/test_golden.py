"""Golden vectors: exact on disk, replayed with any onnxruntime, and refused where they are incomplete."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.contract.golden import Bundle, read_bundle, record_golden, replay_contract, replay_golden
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import Contract
from robot_rl.contract.vectors import golden_from_json, golden_to_json, joined, short
from tests.contract.strategies import POLICIES, contracts

NAMES = sorted(path.stem for path in POLICIES.glob("*.onnx"))
TINY = read_bundle(POLICIES / "go2_tiny.onnx")


class Network:
    """A policy file as a runtime knows it that has onnxruntime alone."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.forget()

    def forget(self) -> None:
        self.memory = {x.name: np.zeros(x.shape, "f4") for x in self.session.get_inputs() if x.name != "obs"}

    def __call__(self, obs: np.ndarray, xi: np.ndarray | None = None) -> Any:
        feed = {"obs": obs, **self.memory} | ({} if xi is None else {"exploration": xi})
        names = [name.replace("_in", "_out") for name in self.memory]
        action, *after = self.session.run(["actions", *names], feed)
        self.memory = dict(zip(self.memory, after, strict=True))
        return action


@pytest.mark.parametrize("name", NAMES)
def test_every_small_policy_reproduces_its_golden_vectors(name: str) -> None:
    path = POLICIES / f"{name}.onnx"
    network = Network(path)
    replay_golden(read_bundle(path), network, forget=network.forget)


@given(contracts(), st.integers(0, 2**31))
def test_what_any_contract_recorded_it_reproduces_after_json(contract: Contract, seed: int) -> None:
    contract = dataclasses.replace(contract, rate_hz=50.0)
    joints = (contract.joints + contract.passive)[::-1]
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, 0.1, (contract.num_actions, contract.obs_size))

    def infer(obs: np.ndarray, *, pictures: dict[str, np.ndarray] | None = None) -> np.ndarray:
        assert {n: x.shape for n, x in (pictures or {}).items()} == {t.group: (1, *t.shape) for t in contract.images}
        light = sum(float(x[0, 0, 0, 0]) for x in (pictures or {}).values()) / 255.0
        return np.tanh(obs @ weights.T + light)

    golden = record_golden(contract, joints, sample_states(contract, joints, 3, rng), infer)
    again = golden_from_json(golden_to_json(golden))
    assert golden_to_json(again) == golden_to_json(golden)
    np.testing.assert_array_equal(again.targets.pos, golden.targets.pos)
    bundle = Bundle(Path("any.onnx"), Contract.from_json(contract.to_json()), {}, again, "", "")
    replay_contract(bundle)
    replay_golden(bundle, infer)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_rounding_keeps_every_float32_exactly(values: list[float]) -> None:
    x = np.array(values, dtype=np.float32)
    assert short(x).astype(np.float32).tobytes() == x.tobytes()


def test_a_network_that_answers_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="step 0, joint 'FR_hip_joint' gave nan"):
        replay_golden(TINY, lambda obs: np.full((1, 12), np.nan))


def test_a_network_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="the network gave 11 numbers; golden step 0 has 12"):
        replay_golden(TINY, lambda obs: np.zeros((1, 11)))


def test_a_difference_beyond_the_tolerance_names_step_and_joint() -> None:
    infer = Network(TINY.path)
    seen: list[int] = []

    def drifting(obs: np.ndarray) -> np.ndarray:
        seen.append(0)
        out = infer(obs).copy()
        out[0, 7] += 2e-5 if len(seen) == 4 else 5e-6
        return out

    with pytest.raises(ValueError, match=r"step 3, joint 'RR_thigh_joint' gave .* \(allowed difference 1e-05\)"):
        replay_golden(TINY, drifting)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda raw: raw.pop("obs"), r"lacks the fields \['obs'\]"),
        (lambda raw: raw.update(more=1), r"has the unknown fields \['more'\]"),
        (lambda raw: raw["states"].pop("quat_xyzw"), r"states lacks the fields \['quat_xyzw'\]"),
        (lambda raw: raw["obs"].pop(), r"golden\.\S+ has shape \(12.*; expected 11 rows"),
        (lambda raw: raw["actions"][0].pop(), r"golden\.actions is no array of numbers"),
        (lambda raw: raw["actions"][0].__setitem__(0, "x"), r"golden\.actions is no array of numbers"),
        (lambda raw: raw["actions"][0].__setitem__(0, math.nan), r"golden\.actions holds NaN or infinity"),
        (lambda raw: raw.update(joints="FR"), r"golden\.joints is 'FR'; expected a list of names"),
        (lambda raw: raw.update(targets=[]), r"golden\.targets is list; expected a JSON object"),
    ],
)
def test_incomplete_golden_vectors_are_named(edit: Any, reason: str) -> None:
    raw = json.loads(golden_to_json(TINY.golden))
    edit(raw)
    with pytest.raises(ValueError, match=reason):
        golden_from_json(json.dumps(raw), "golden")


def test_states_with_nan_are_not_recorded_unless_the_robot_cannot_measure_them() -> None:
    contract, joints = TINY.contract, TINY.contract.joints
    states = sample_states(contract, joints, 2, np.random.default_rng(0))
    assert states.lin_vel_b is not None
    states.lin_vel_b[:] = np.nan
    states.joint_effort[:] = np.nan
    golden = record_golden(contract, joints, states, lambda obs: np.zeros(12))
    assert golden.states.lin_vel_b is None
    assert not np.any(golden.states.joint_effort)
    states.joint_pos[1, 3] = np.nan
    with pytest.raises(ValueError, match="golden states hold NaN or infinity in joint_pos"):
        record_golden(contract, joints, states, lambda obs: np.zeros(12))


def test_recorded_states_stand_before_sampled_ones() -> None:
    first = sample_states(TINY.contract, TINY.contract.joints, 9, np.random.default_rng(1))
    second = sample_states(TINY.contract, TINY.contract.joints, 2, np.random.default_rng(2))
    both = joined(first, second, keep=4)
    np.testing.assert_array_equal(both.joint_pos, np.concatenate((first.joint_pos[-4:], second.joint_pos)))
    first.foot_contact = None
    assert joined(first, second, keep=4).foot_contact is None


def test_sampled_states_lie_within_the_limits_and_their_orientations_are_unit() -> None:
    contract = TINY.contract
    states = sample_states(contract, contract.joints[::-1], 200, np.random.default_rng(0))
    low, high = np.array(contract.limits.pos_low)[::-1], np.array(contract.limits.pos_high)[::-1]
    assert np.all((states.joint_pos >= low) & (states.joint_pos <= high))
    np.testing.assert_allclose(np.linalg.norm(states.quat_xyzw, axis=-1), 1.0)
    up = 1.0 - 2.0 * np.square(states.quat_xyzw[:, :2]).sum(-1)  # cosine of the tilt
    assert np.all(up >= np.cos(0.6) - 1e-12)
