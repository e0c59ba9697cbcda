"""A policy as the robot runs it: equal to bare onnxruntime, refused where it does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import time

import numpy as np
import onnxruntime as ort
import pytest

from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.policy import Policy


def test_infer_equals_a_plain_call_of_onnxruntime(make_policy, go2):
    path = make_policy("healthy")
    policy = Policy.load(path, go2)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    for _ in range(20):
        obs = rng.normal(size=45).astype(np.float32)
        assert np.array_equal(policy.infer(obs), session.run(None, {"obs": obs[None]})[0][0])


def test_an_answer_is_not_overwritten_by_the_next(make_policy, go2):
    policy = Policy.load(make_policy("healthy"), go2)
    first = policy.infer(np.ones(45, np.float32))
    kept = first.copy()
    policy.infer(np.zeros(45, np.float32))
    assert np.array_equal(first, kept)


def test_the_fingerprint_is_the_head_of_the_files_sha256(make_policy, go2):
    path = make_policy("healthy")
    expected = int.from_bytes(hashlib.sha256(path.read_bytes()).digest()[:8], "big")
    assert Policy.load(path, go2).fingerprint == expected


def test_a_policy_knows_its_speed_and_saturation(make_policy, go2):
    policy = Policy.load(make_policy("healthy"), go2)
    assert 0.0 < policy.infer_s < 0.01
    assert policy.saturation == 0.0
    assert Policy.load(make_policy("saturating"), go2).saturation > 0.9


def test_a_slow_policy_is_measured_without_waiting_long(make_policy, go2):
    begin = time.perf_counter()
    policy = Policy.load(make_policy("slow"), go2)
    assert policy.infer_s > 0.002
    assert time.perf_counter() - begin < 20.0


def test_another_robots_policy_is_refused(make_policy):
    with pytest.raises(ValueError, match=r"trained for robot 'go2'; this is 'cartpole'"):
        Policy.load(make_policy("healthy"), load_robot("cartpole"))


def test_a_missing_joint_is_refused_by_name(make_policy, go2):
    other = dataclasses.replace(go2, joints=("FR_hip", *go2.joints[1:]), symmetry=None)
    with pytest.raises(ValueError, match="FR_hip_joint"):
        Policy.load(make_policy("healthy"), other)


def test_changed_weights_are_refused(make_policy, go2):
    path = make_policy("healthy")
    data = bytearray(path.read_bytes())
    at = data.find(b"weight")  # a weight or its name: either way the graph is another one
    data[at + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="changed after export"):
        Policy.load(path, go2)


def test_a_truncated_file_is_refused(make_policy, go2):
    path = make_policy("healthy")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        Policy.load(path, go2)


def test_a_latent_input_is_refused_as_long_as_nothing_feeds_it(make_policy, go2):
    with pytest.raises(ValueError, match="latent=8; this runtime has none"):
        Policy.load(make_policy("healthy", latent=8), go2)
