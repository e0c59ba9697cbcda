"""Exported policies with a memory: as torch computes them over a sequence, with and without exploration."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from robot_rl.contract.exploration import draw
from robot_rl.contract.golden import KEY_GRAPH_SHA256, read_bundle
from robot_rl.contract.model_file import parse_model, read_model_file, with_metadata
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import gsde, ppo
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.graph import read_mlp
from robot_rl.learn.recurrent import RecurrentActor
from robot_rl.learn.recurrent_graph import recurrent_graph, recurrent_net
from robot_rl.runtime.policy import Policy

CONTRACT = read_bundle(Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx").contract
ABOUT = Provenance(recipe="test", seed=0, steps=0)
KINDS = ("gru", "lstm")
STEPS = 100


def rows(n: int = STEPS) -> np.ndarray:
    return np.random.default_rng(1).normal(0.0, 2.0, (n, 45)).astype(np.float32)


def make_actor(kind: str, exploration: str = "gaussian", *, activation: str = "elu") -> RecurrentActor:
    cfg = ppo.Config(
        memory=kind, memory_features=24, actor_hidden=(32, 16), exploration=exploration, log_std=-1.0,
        activation=activation, sde_expln=activation == "silu",
    )  # fmt: skip
    actor = cast("RecurrentActor", ppo.make_agent(cfg, {"policy": 45, "action": 12}).actor)
    actor.norm.update(torch.from_numpy(rows(256)) * 3.0 + 0.5)
    with torch.no_grad():
        actor.head.mlp.linears()[-1].weight.mul_(100.0)
    return actor


def run(path: Path, obs: np.ndarray, memory: dict[str, np.ndarray], xi: np.ndarray | None = None) -> np.ndarray:
    """Step a bare session through ``obs``, (n, D), feeding back what comes out."""
    session, actions = opened(path), []
    for row in obs:
        feed = {"obs": row[None], **{f"{name}_in": x for name, x in memory.items()}}
        names = ["actions", *(f"{name}_out" for name in memory)]
        answer = [np.asarray(x) for x in session.run(names, feed if xi is None else {**feed, "exploration": xi})]
        actions.append(answer[0][0])
        memory = dict(zip(memory, answer[1:], strict=True))
    return np.stack(actions)


@functools.cache
def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def empty(kind: str) -> dict[str, np.ndarray]:
    return {name: np.zeros((1, 1, 24), np.float32) for name in ("h", "c")[: 1 + (kind == "lstm")]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["elu", "silu"])
def test_a_sequence_agrees_with_the_actor_that_training_steps(tmp_path: Path, kind: str, activation: str) -> None:
    actor = make_actor(kind, activation=activation)
    path = export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT, observations=rows()).path
    onnx.checker.check_model(str(path), full_check=True)
    actor.clear()
    with torch.no_grad():
        expected = np.concatenate([actor(torch.from_numpy(row[None])).numpy() for row in rows()])
    np.testing.assert_allclose(run(path, rows(), empty(kind)), expected, rtol=0.0, atol=1e-5)
    fresh = np.concatenate([run(path, row[None], empty(kind)) for row in rows()])
    assert np.abs(fresh - expected)[1:].max(-1).min() > 0.01  # the memory matters in every step


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["elu", "silu"])
def test_a_sequence_of_exploration_agrees_with_the_actor_that_training_steps(
    tmp_path: Path, kind: str, activation: str
) -> None:
    actor, xi = make_actor(kind, "gsde", activation=activation), draw(7, 3, (16, 12))
    path = export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT, observations=rows()).path
    actor.clear()
    with torch.no_grad():
        std = gsde.positive_std(actor.log_std, expln=actor.head.expln)
        actor.head.matrix = (std * torch.from_numpy(np.array(xi)))[None]
        normalised = actor.norm(torch.from_numpy(rows()))
        expected = np.concatenate([torch.tanh(actor.explore(row[None])[0]).numpy() for row in normalised])
    np.testing.assert_allclose(run(path, rows(), empty(kind), xi), expected, rtol=0.0, atol=1e-5)
    mean = run(path, rows(), empty(kind))
    assert np.abs(mean - expected).max() > 0.1  # it explores
    bundle = read_bundle(path)
    assert bundle.exploration is not None and bundle.memory is not None
    assert np.abs(bundle.exploration.actions - bundle.golden.actions).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_robot_runs_the_same_sequence_and_a_foreign_runtime_can_verify_it(tmp_path: Path, kind: str) -> None:
    path = export_policy(make_actor(kind), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    policy = Policy.load(path, load_robot("go2"))
    expected = run(path, rows(), empty(kind))
    for _ in range(2):  # forgetting begins anew
        assert np.array_equal(np.stack([policy.infer(row) for row in rows()]), expected)
        policy.forget()
    golden = policy.bundle.golden
    np.testing.assert_allclose(run(path, golden.obs.astype(np.float32), empty(kind)), golden.actions, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_who_does_not_feed_the_memory_gets_an_error(tmp_path: Path, kind: str) -> None:
    path = export_policy(make_actor(kind), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    with pytest.raises(ValueError, match="h_in"):
        run(path, rows(1), {})


def test_copies_of_a_robot_each_have_their_own_memory(tmp_path: Path) -> None:
    path = export_policy(make_actor("lstm"), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    policy = Policy.load(path, load_robot("go2"))
    memories, obs = np.zeros((2, 48), np.float32), np.stack((rows(), rows()[::-1]))
    got = np.array([[policy.infer(obs[i, t], memory=memories[i]) for t in range(STEPS)] for i in range(2)])
    for i in range(2):
        assert np.array_equal(got[i], run(path, obs[i], empty("lstm")))
    first = rows(1)[0]
    assert np.array_equal(policy.infer(first), got[0, 0])  # its own memory is still empty


def test_training_goes_on_where_it_was_after_an_export(tmp_path: Path) -> None:
    actor = make_actor("gru")
    before = actor.begin(8)
    actor(torch.from_numpy(rows(8)))
    kept = actor.begin(8)
    assert not torch.equal(before, kept)
    export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    assert torch.equal(actor.begin(8), kept)


def test_a_provenance_says_what_remembers(tmp_path: Path) -> None:
    bundle = export_policy(make_actor("gru"), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    about = bundle.provenance["architecture"]
    assert (about["memory"], about["memory_features"], about["sizes"]) == ("gru", 24, [24, 32, 16, 12])


@pytest.mark.parametrize("name", ["weight_hh_l0", "bias_ih_l0"])
def test_a_memory_that_is_not_finite_is_not_exported(tmp_path: Path, name: str) -> None:
    actor = make_actor("gru")
    with torch.no_grad():
        getattr(actor.memory.rnn, name)[0] = math.nan
    with pytest.raises(ValueError, match="the memory holds weights that are not finite"):
        export_policy(actor, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    assert list(tmp_path.iterdir()) == []


class Wrong(RecurrentActor):
    """Remembers a little less than its arrays say."""

    def act(
        self, obs: torch.Tensor, state: torch.Tensor, xi: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return super().act(obs, 0.99 * state, xi)


def test_a_memory_that_differs_from_torch_is_not_written(tmp_path: Path) -> None:
    right = make_actor("gru")
    wrong = Wrong("gru", 45, 24, right.head)
    wrong.load_state_dict(right.state_dict())
    with pytest.raises(ValueError, match=r"differ by .* recorded observations \(allowed 1e-05"):
        export_policy(wrong, CONTRACT, tmp_path / "p.onnx", provenance=ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_memory_that_magnifies_rounding_errors_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    """Chaos is exported where it takes longer than the golden steps to show, and refused where it does not."""
    mild, wild = make_actor("gru"), make_actor("lstm")
    for actor, gain in ((mild, 8.0), (wild, 100.0)):
        with torch.no_grad():
            cast("torch.Tensor", actor.memory.rnn.weight_hh_l0).mul_(gain)
    export_policy(mild, CONTRACT, tmp_path / "mild.onnx", provenance=ABOUT, observations=rows(400))
    with pytest.raises(ValueError, match=r"agree in every step, but drift .* apart in 12 .* magnifies rounding"):
        export_policy(wild, CONTRACT, tmp_path / "wild.onnx", provenance=ABOUT, observations=rows(400))
    assert [path.name for path in tmp_path.iterdir()] == ["mild.onnx"]


@pytest.mark.parametrize("tensor", ["memory_recurrence", "memory_bias"])
def test_a_changed_memory_is_found_even_where_the_file_is_signed_again(tmp_path: Path, tensor: str) -> None:
    path = export_policy(make_actor("lstm"), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    model = onnx.load(path)
    found = next(t for t in model.graph.initializer if t.name == tensor)
    found.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(found) * np.float32(1.1), found.name))
    data, metadata = model.SerializeToString(), read_model_file(path).metadata
    path.write_bytes(with_metadata(data, metadata | {KEY_GRAPH_SHA256: parse_model(data, path).graph_sha256}))
    with pytest.raises(ValueError, match=r"does not reproduce its golden actions: step [01], joint"):
        Policy.load(path, load_robot("go2"))


def test_what_reads_a_perceptron_back_refuses_a_memory(tmp_path: Path) -> None:
    path = export_policy(make_actor("gru"), CONTRACT, tmp_path / "p.onnx", provenance=ABOUT).path
    with pytest.raises(ValueError, match=r"p.onnx has the memory 'gru'; only a policy without one can be read back"):
        read_mlp(path)


def test_the_same_weights_give_the_same_bytes() -> None:
    one, two = (recurrent_graph(recurrent_net(make_actor("lstm", "gsde"))) for _ in range(2))
    assert one == two
