"""Exported gSDE policies: the mean by default, seeded exploration on request, both as torch computes them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from robot_rl.contract.exploration import KEY_EXPLORATION, draw, draw_index
from robot_rl.contract.golden import KEY_GRAPH_SHA256, read_bundle
from robot_rl.contract.model_file import parse_model, read_model_file, with_metadata
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import gsde, nets, squashed
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.graph import dense_forward, read_mlp
from robot_rl.learn.nets import DenseNet
from robot_rl.runtime.policy import Policy

CONTRACT = read_bundle(Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx").contract
ABOUT = Provenance(recipe="test", seed=0, steps=0)
Explorer = nets.Actor | squashed.Actor


def rows(n: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(0.0, 2.0, (n, 45)).astype(np.float32)


def spread(parameter: nn.Parameter) -> None:
    """Deviations on both sides of 1, where the two positive functions differ."""
    with torch.no_grad():
        parameter.copy_(torch.linspace(-3.0, 0.5, parameter.numel()).view_as(parameter))


def ppo_actor(*, full_std: bool = True, expln: bool = False, activation: str = "elu") -> nets.Actor:
    generator = torch.Generator().manual_seed(0)
    actor = nets.Actor(
        45, 12, hidden=(64, 32), exploration="gsde", full_std=full_std, expln=expln,
        activation=activation, generator=generator,
    )  # fmt: skip
    actor.norm.update(torch.from_numpy(rows(256)) * 3.0 + 0.5)
    with torch.no_grad():
        actor.mlp.layers[-1].weight.mul_(100.0)
    spread(actor.log_std)
    return actor


def sac_actor(*, full_std: bool = True, expln: bool = False, mean_clip: float = 2.0) -> squashed.Actor:
    actor = squashed.Actor(
        45, 12, hidden=(64, 32), activation="relu", start_std=0.5, std_range=(0.01, 1.0), exploration="gsde",
        sde_full_std=full_std, sde_expln=expln, mean_clip=mean_clip, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    with torch.no_grad():
        actor.mlp.layers[-1].weight.mul_(20.0)
    spread(actor.sde_log_std)
    return actor


ACTORS = {
    "ppo": ppo_actor(),
    "ppo diagonal": ppo_actor(full_std=False),
    "ppo expln": ppo_actor(expln=True, activation="silu"),
    "sac": sac_actor(),
    "sac diagonal, expln": sac_actor(full_std=False, expln=True),
    "sac unclipped": sac_actor(mean_clip=math.inf),
}
"""Every kind of gSDE that can be learnt."""


def by_torch(actor: Explorer, obs: np.ndarray, xi: np.ndarray) -> np.ndarray:
    """The action as training takes it, by other functions than those the export compares with."""
    x, noise = torch.from_numpy(obs), torch.from_numpy(np.array(xi))
    with torch.no_grad():
        if isinstance(actor, squashed.Actor):
            return actor.sample(x, noise.expand(1, *noise.shape))[0].numpy()
        actor.matrix = (gsde.positive_std(actor.log_std, expln=actor.expln) * noise).expand(len(x), -1, -1)
        return torch.tanh(actor.explore(actor.norm(x))[0]).numpy()


def session(path: Path, level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ACTORS)
def test_mean_and_seeded_exploration_agree_with_torch(tmp_path: Path, name: str) -> None:
    actor = ACTORS[name]
    path = export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT, observations=rows()).path
    run = session(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    with torch.no_grad():
        mean = actor(torch.from_numpy(rows())).numpy()
    got = np.concatenate([run.run(None, {"obs": row[None]})[0] for row in rows()])
    np.testing.assert_allclose(got, mean, rtol=0.0, atol=1e-5)
    for index in range(3):
        xi = draw(7, index, (32, 12))
        expected = by_torch(actor, rows(), xi)
        got = np.concatenate([run.run(None, {"obs": row[None], "exploration": xi})[0] for row in rows()])
        assert np.abs(expected - mean).max() > 0.3  # it explores
        np.testing.assert_allclose(got, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_the_input_is_optional_and_its_default_is_not_folded_away(tmp_path: Path, level: str) -> None:
    path = export_policy(ACTORS["sac"], CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    onnx.checker.check_model(str(path), full_check=True)
    run = session(path, getattr(onnxruntime.GraphOptimizationLevel, level))
    assert [i.name for i in run.get_inputs()] == ["obs"]
    assert [(i.name, i.shape) for i in run.get_overridable_initializers()] == [("exploration", [32, 12])]
    obs = rows(1)
    default, explored, again = (
        run.run(None, {"obs": obs, **more})[0] for more in ({}, {"exploration": draw(1, 0, (32, 12))}, {})
    )
    assert np.array_equal(default, again)
    assert np.abs(default - explored).max() > 0.1


@pytest.mark.parametrize("mean_clip", [2.0, math.inf])
def test_the_default_is_to_the_bit_the_network_without_exploration(tmp_path: Path, mean_clip: float) -> None:
    net = sac_actor(mean_clip=mean_clip).as_mlp()
    paths = [
        export_policy(n, CONTRACT, tmp_path / f"{i}.onnx", provenance=ABOUT).path
        for i, n in enumerate((net, dataclasses.replace(net, std=None)))
    ]
    a, b = (session(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL) for path in paths)
    for row in rows():
        assert np.array_equal(a.run(None, {"obs": row[None]})[0], b.run(None, {"obs": row[None]})[0])


def test_torch_repeats_the_matrix_bit_for_bit() -> None:
    """W = sigma xi of the robot, NumPy only, against torch's own."""
    actor = ppo_actor(expln=True)
    std, xi = actor.as_mlp().std, draw(7, 3, (32, 12))
    assert std is not None
    with torch.no_grad():
        matrix = gsde.positive_std(actor.log_std, expln=True) * torch.from_numpy(np.array(xi))
    assert np.array_equal(std * xi, matrix.numpy())


@pytest.mark.parametrize("name", ACTORS)
def test_the_way_back_is_exact(tmp_path: Path, name: str) -> None:
    net = ACTORS[name].as_mlp()
    again = read_mlp(export_policy(net, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path)
    assert (again.activation, again.mean_clip) == (net.activation, net.mean_clip)
    assert net.std is not None and again.std is not None and np.array_equal(again.std, net.std)
    assert again.std.shape == ((32, 1) if "diagonal" in name else (32, 12))
    for (w, b), (w0, b0) in zip(again.layers, net.layers, strict=True):
        assert np.array_equal(w, w0) and np.array_equal(b, b0)
    xi = draw(0, 0, (32, 12))
    assert np.array_equal(dense_forward(again)(rows(), xi), dense_forward(net)(rows(), xi))


def test_an_actor_starts_at_a_policy_of_the_same_mean_clip_only() -> None:
    source, other = sac_actor(), sac_actor(mean_clip=math.inf)
    target = sac_actor()
    with torch.no_grad():
        target.mlp.layers[0].weight.zero_()
    target.start_at(source.as_mlp())
    assert torch.equal(target(torch.from_numpy(rows())), source(torch.from_numpy(rows())))
    with pytest.raises(ValueError, match=r"policy has mean_clip 2.0; the actor inf"):
        other.start_at(source.as_mlp())


class Wrong(nn.Module):
    """Explores a little further than its arrays say."""

    def __init__(self, actor: nets.Actor) -> None:
        super().__init__()
        self.actor = actor

    def as_mlp(self) -> DenseNet:
        return self.actor.as_mlp()

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.actor(obs)

    def explored(self, obs: torch.Tensor, xi: torch.Tensor) -> torch.Tensor:
        return self.actor.explored(obs, 1.01 * xi)


def test_exploration_that_differs_from_torch_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"differ by .* recorded observations while exploring \(allowed 1e-05"):
        export_policy(Wrong(ppo_actor()), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("std", "reason"),
    [
        (np.ones((31, 12), np.float32), r"std has shape \(31, 12\); gSDE needs \(32, 12\) or \(32, 1\)"),
        (np.full((32, 1), np.inf, np.float32), "std holds deviations that are not finite"),
    ],
)
def test_deviations_that_do_not_fit_are_refused(tmp_path: Path, std: np.ndarray, reason: str) -> None:
    net = dataclasses.replace(ppo_actor().as_mlp(), std=std)
    with pytest.raises(ValueError, match=reason):
        export_policy(net, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)


def test_a_changed_deviation_is_found_even_where_the_file_is_signed_again(tmp_path: Path) -> None:
    path = export_policy(ppo_actor(), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    model, go2 = onnx.load(path), load_robot("go2")
    std = next(t for t in model.graph.initializer if t.name == "exploration_std")
    changed = onnx.numpy_helper.to_array(std).copy()
    changed[5, 3] *= 1.1
    std.CopyFrom(onnx.numpy_helper.from_array(changed, std.name))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="the network or its weights were changed after export"):
        Policy.load(path, go2)
    data, metadata = path.read_bytes(), read_model_file(path).metadata
    path.write_bytes(with_metadata(data, metadata | {KEY_GRAPH_SHA256: parse_model(data, path).graph_sha256}))
    with pytest.raises(ValueError, match="does not reproduce its golden exploration: step 0, joint"):
        Policy.load(path, go2)


@pytest.mark.parametrize("interval", [1, 4, 8, 100])
def test_the_interval_of_training_travels_and_the_golden_steps_prove_it(tmp_path: Path, interval: int) -> None:
    path = export_policy(ppo_actor(), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT, sde_every=interval).path
    bundle = read_bundle(path)
    assert bundle.exploration is not None and bundle.exploration.interval == interval
    first = bundle.exploration.first
    assert len({draw_index(first + step, interval) for step in range(len(bundle.golden))}) > 1
    metadata = read_model_file(path).metadata
    text = metadata[KEY_EXPLORATION].replace(f'"interval":{interval},', f'"interval":{interval + 1},')
    path.write_bytes(with_metadata(path.read_bytes(), metadata | {KEY_EXPLORATION: text}))
    with pytest.raises(ValueError, match="does not reproduce its golden exploration"):
        Policy.load(path, load_robot("go2"))


def test_a_policy_without_gsde_has_no_such_input(tmp_path: Path) -> None:
    actor = nets.Actor(45, 12, hidden=(32,), generator=torch.Generator().manual_seed(0))
    bundle = export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    model = read_model_file(bundle.path)
    assert bundle.exploration is None
    assert model.inputs == {"obs": (1, 45)} and KEY_EXPLORATION not in model.metadata
