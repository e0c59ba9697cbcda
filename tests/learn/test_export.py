"""Export: onnxruntime computes what torch computes, the file is whole, and the way back is exact."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from robot_rl.contract.golden import read_bundle, replay_golden
from robot_rl.contract.model_file import read_model_file
from robot_rl.contract.sample import sample_states
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import graph
from robot_rl.learn.export import Provenance, current_commit, export_policy, read_mlp
from robot_rl.learn.nets import ACTIVATIONS, Actor, DenseNet

TINY = Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx"
CONTRACT = read_bundle(TINY).contract
GO2 = load_robot("go2")
ABOUT = Provenance(recipe="test", seed=7, steps=123, algorithm="ppo", parent="ab" * 32, commit="c" * 40)


def random_net(*sizes: int, activation: str = "elu", seed: int = 0) -> DenseNet:
    rng = np.random.default_rng(seed)
    layers = []
    for a, b in pairwise(sizes):
        weight = rng.normal(0.0, 1.0 / np.sqrt(a), (b, a)).astype(np.float32)
        layers.append((weight, rng.normal(0.0, 0.1, b).astype(np.float32)))
    return DenseNet(tuple(layers), activation)


def trained_actor() -> Actor:
    """An actor whose normaliser has seen observations of very different widths."""
    actor = Actor(45, 12, hidden=(64, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actor.mlp.layers[-1].weight.mul_(100.0)
    rng = np.random.default_rng(0)
    actor.norm.update(torch.from_numpy(rng.normal(0.5, np.geomspace(0.01, 20.0, 45), (512, 45)).astype(np.float32)))
    return actor


def run_file(path: Path, obs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["actions"], {"obs": row[None]})[0] for row in obs])


def observations(n: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(0.0, 2.0, (n, 45)).astype(np.float32)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden", [(), (8,), (64, 32, 16)])
def test_the_file_computes_what_torch_computes(tmp_path: Path, activation: str, hidden: tuple[int, ...]) -> None:
    net = random_net(45, *hidden, 12, activation=activation)
    bundle = export_policy(net, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    np.testing.assert_allclose(
        run_file(bundle.path, observations()), graph.dense_forward(net)(observations()), atol=1e-6
    )


def test_an_actors_normaliser_is_folded_in(tmp_path: Path) -> None:
    actor = trained_actor()
    seen = observations() * np.geomspace(0.01, 20.0, 45).astype(np.float32)
    bundle = export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT, observations=seen)
    expected = actor(torch.from_numpy(seen)).detach().numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(run_file(bundle.path, seen), expected, atol=1e-5)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_way_back_is_exact(tmp_path: Path, activation: str) -> None:
    net = random_net(45, 32, 16, 12, activation=activation)
    path = export_policy(net, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    again = read_mlp(path)
    assert again.activation == activation
    for (w, b), (w0, b0) in zip(again.layers, net.layers, strict=True):
        np.testing.assert_array_equal(w, w0)
        np.testing.assert_array_equal(b, b0)


class Plain(nn.Module):
    """A perceptron that cannot describe itself, so that it is traced."""

    def __init__(self, net: DenseNet) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(w.shape[1], w.shape[0]) for w, _ in net.layers)
        with torch.no_grad():
            for layer, (w, b) in zip(self.layers, net.layers, strict=True):
                layer.weight.copy_(torch.from_numpy(w))
                layer.bias.copy_(torch.from_numpy(b))

    def forward(self, obs: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            obs = nn.functional.elu(layer(obs))
        return torch.tanh(self.layers[-1](obs))


def test_the_written_graph_equals_the_traced_one(tmp_path: Path) -> None:
    net = random_net(45, 32, 16, 12)
    written = export_policy(net, CONTRACT, tmp_path / "written.onnx", provenance=ABOUT)
    traced = export_policy(Plain(net), CONTRACT, tmp_path / "traced.onnx", provenance=ABOUT)
    np.testing.assert_allclose(run_file(written.path, observations()), run_file(traced.path, observations()), atol=1e-6)
    for (w, b), (w0, b0) in zip(read_mlp(traced.path).layers, net.layers, strict=True):
        np.testing.assert_array_equal(w, w0)
        np.testing.assert_array_equal(b, b0)
    assert traced.provenance["architecture"] == {"kind": "Plain"}


def test_the_file_is_valid_onnx_with_fixed_shapes_and_its_weights_inside(tmp_path: Path) -> None:
    path = export_policy(random_net(45, 16, 12), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    onnx.checker.check_model(str(path), full_check=True)
    model = read_model_file(path)
    assert (model.inputs, model.outputs) == ({"obs": (1, 45)}, {"actions": (1, 12)})
    assert [p.name for p in tmp_path.iterdir()] == ["p.onnx"]


def test_metadata_is_read_by_onnxruntime_and_floats_are_whole(tmp_path: Path) -> None:
    path = export_policy(random_net(45, 12), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    metadata = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert tuple(map(float, metadata["action_scale"].split(","))) == CONTRACT.action.scale
    assert tuple(map(float, metadata["default_joint_pos"].split(","))) == CONTRACT.action.offset
    assert tuple(metadata["joint_names"].split(",")) == CONTRACT.joints
    assert metadata["observation_names"].split(",") == [term.name for term in CONTRACT.obs]
    assert metadata["robot_rl.contract_sha256"] == CONTRACT.fingerprint
    about = json.loads(metadata["robot_rl.provenance"])
    assert about | dataclasses.asdict(ABOUT) == about
    assert about["architecture"] == {"kind": "mlp", "sizes": [45, 12], "activation": "elu", "output": "tanh"}
    assert about["torch"] == torch.__version__
    assert about["created"].endswith("+00:00")


def test_recorded_states_become_golden_vectors(tmp_path: Path) -> None:
    joints = GO2.joints[::-1]
    states = sample_states(CONTRACT, joints, 20, np.random.default_rng(3))
    path = tmp_path / "p.onnx"
    bundle = export_policy(random_net(45, 12), CONTRACT, path, provenance=ABOUT, joints=joints, states=states)
    recorded = states.joint_pos[-6:].astype(np.float32)
    np.testing.assert_array_equal(bundle.golden.states.joint_pos[:6].astype(np.float32), recorded)
    assert len(bundle.golden) == 12
    assert bundle.golden.joints == joints
    replay_golden(read_bundle(path), lambda obs: run_file(path, obs))


class Unfaithful(nn.Module):
    """Claims to be another perceptron than it is."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.net, self.offset = random_net(45, 12), offset

    def as_mlp(self) -> DenseNet:
        return self.net

    def forward(self, obs: Tensor) -> Tensor:
        return torch.from_numpy(graph.dense_forward(self.net)(obs.numpy())) + self.offset


@pytest.mark.parametrize("offset", [2e-5, -0.1, float("nan")])
def test_a_network_that_differs_from_torch_is_not_written(tmp_path: Path, offset: float) -> None:
    with pytest.raises(ValueError, match=r"export refused: onnxruntime and torch differ by"):
        export_policy(Unfaithful(offset), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    path = export_policy(Unfaithful(0.0), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    before = path.read_bytes()
    with pytest.raises(ValueError, match="export refused"):
        export_policy(Unfaithful(0.5), CONTRACT, path, provenance=ABOUT)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (random_net(44, 12), r"the network takes \{'obs': \(1, 44\)\}; the contract needs \{'obs': \(1, 45\)\}"),
        (random_net(45, 11), r"the network gives \{'actions': \(1, 11\)\}; the contract needs"),
        (dataclasses.replace(random_net(45, 12), activation="mish"), "no activation 'mish'; the choices are"),
        (
            DenseNet(((np.full((12, 45), np.nan, np.float32), np.zeros(12, np.float32)),), "elu"),
            "layer 0 holds weights",
        ),
        (
            DenseNet(random_net(45, 8).layers + random_net(9, 12).layers, "elu"),
            r"layer 1: weight \(12, 9\) does not fit",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused(tmp_path: Path, net: DenseNet, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        export_policy(net, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    assert list(tmp_path.iterdir()) == []


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(45, 16), nn.LayerNorm(16), nn.Linear(16, 12), nn.Tanh())

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(obs)


def test_any_module_is_exported_but_only_a_perceptron_is_read_back(tmp_path: Path) -> None:
    module = Normed()
    path = export_policy(module, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    np.testing.assert_allclose(
        run_file(path, observations()), module(torch.from_numpy(observations())).detach().numpy(), atol=1e-5
    )
    with pytest.raises(ValueError, match="LayerNormalization"):
        read_mlp(path)


def test_a_torn_file_is_not_read_back(tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(TINY.read_bytes()[:5000])
    with pytest.raises(ValueError, match="is truncated"):
        read_mlp(path)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """Another process writes the same file again and again, while this one reads."""
    path = tmp_path / "p.onnx"
    code = (
        "import sys; from pathlib import Path; from tests.learn.test_export import *\n"
        "for i in range(12):\n"
        "    export_policy(random_net(45, 64, 12, seed=i), CONTRACT, Path(sys.argv[1]), provenance=ABOUT)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2])
    seen = set()
    while writer.poll() is None:
        if path.exists():
            seen.add(read_bundle(path).graph_sha256)
        time.sleep(0.005)
    assert writer.returncode == 0
    assert len(seen | {read_bundle(path).graph_sha256}) > 3
    assert os.listdir(tmp_path) == ["p.onnx"]


def test_an_export_takes_little_processor_time(tmp_path: Path) -> None:
    net = random_net(45, 256, 128, 64, 12)
    times = []
    for _ in range(5):
        began = time.process_time()
        export_policy(net, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
        times.append(time.process_time() - began)
    assert min(times) < 0.15


def test_the_commit_of_a_checkout_is_forty_digits() -> None:
    commit = current_commit()
    assert commit == "" or len(commit.rstrip("+")) == 40


def test_only_python_numbers_enter_the_provenance(tmp_path: Path) -> None:
    about: Any = dataclasses.replace(ABOUT, steps=np.int64(3))
    with pytest.raises(TypeError, match="int64"):
        export_policy(random_net(45, 12), CONTRACT, tmp_path / "p.onnx", provenance=about)
