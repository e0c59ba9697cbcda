"""What a policy file says of its memory, and that a memory which is lost or never cleared does not reproduce it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot_rl.contract.golden import check_shapes, read_bundle, replay_golden
from robot_rl.contract.memory import KEY_MEMORY, Memory, of_network
from robot_rl.contract.model_file import ModelFile, read_model_file, with_metadata
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.policy import Policy

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
GRU, LSTM, TINY = (POLICIES / f"{name}.onnx" for name in ("go2_gru", "go2_lstm", "go2_tiny"))


def test_width_and_tensors_of_both_kinds() -> None:
    gru, lstm = Memory("gru", 16), Memory("lstm", 12)
    assert (gru.width, gru.inputs, gru.outputs) == (16, ("h_in",), ("h_out",))
    assert (lstm.width, lstm.inputs, lstm.outputs) == (24, ("h_in", "c_in"), ("h_out", "c_out"))
    assert lstm.shape == (1, 1, 12)
    assert json.loads(lstm.to_json()) == {"kind": "lstm", "features": 12, "start": "zeros"}
    assert of_network({"obs": (1, 45)}) is None


@pytest.mark.parametrize(("path", "expected"), [(GRU, Memory("gru", 16)), (LSTM, Memory("lstm", 12)), (TINY, None)])
def test_a_bundle_says_what_the_network_remembers(path: Path, expected: Memory | None) -> None:
    assert read_bundle(path).memory == expected
    assert (KEY_MEMORY in read_model_file(path).metadata) is (expected is not None)


def test_a_file_without_a_memory_has_the_contract_of_one_with(tmp_path: Path) -> None:
    assert read_bundle(TINY).contract.fingerprint == read_bundle(GRU).contract.fingerprint


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "lstm"}, "kind is 'lstm'; the network has 'gru'"),
        ({"features": 17}, "features is 17; the network has 16"),
        ({"features": 16.0}, "features is 16.0; the network has 16"),
        ({"start": "last"}, "start is 'last'; this version has 'zeros'"),
        ({"more": 1}, r"has the fields \['features', 'kind', 'more', 'start'\]; expected"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=rf"{KEY_MEMORY}\W.*{reason}"):
        read_bundle(edited(tmp_path, GRU, json.dumps(json.loads(Memory("gru", 16).to_json()) | changes)))


def test_metadata_without_inputs_and_inputs_without_metadata_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has the input 'h_in' without the metadata 'robot_rl\.memory'; the file was"):
        read_bundle(edited(tmp_path, GRU, None))
    with pytest.raises(ValueError, match=r"has the metadata 'robot_rl\.memory' without the input 'h_in'; the file was"):
        read_bundle(edited(tmp_path, TINY, Memory("gru", 16).to_json()))


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ({"c_in": (1, 1, 8)}, {}, r"the network takes \{'obs': \(1, 45\), 'c_in'.*needs .*'h_in'"),
        ({"h_in": (1, 1, 8)}, {}, r"gives \{'actions': \(1, 12\)\}; .*'h_out': \(1, 1, 8\)"),
        ({"h_in": (1, 1, 8)}, {"h_out": (1, 1, 9)}, r"'h_out': \(1, 1, 9\)\}; .*'h_out': \(1, 1, 8\)"),
        ({"h_in": (2, 1, 8)}, {"h_out": (2, 1, 8)}, r"takes .*\(2, 1, 8\)\}; .*'h_in': \(1, 1, 8\)"),
        ({}, {"h_out": (1, 1, 8)}, r"'h_out': \(1, 1, 8\)\}; the contract needs \{'actions': \(1, 12\)\}"),
    ],
)
def test_a_network_whose_memory_does_not_come_back_is_refused(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], reason: str
) -> None:
    contract = read_bundle(TINY).contract
    model = ModelFile(Path("p.onnx"), {}, {"obs": (1, 45), **inputs}, {"actions": (1, 12), **outputs}, "", "")
    with pytest.raises(ValueError, match=reason):
        check_shapes(model, contract)


@pytest.mark.parametrize("path", [GRU, LSTM])
def test_who_loses_the_memory_or_never_clears_it_does_not_reproduce_the_file(path: Path) -> None:
    policy = Policy.load(path, load_robot("go2"))

    def forgetful(obs: np.ndarray, xi: np.ndarray | None = None) -> np.ndarray:
        policy.forget()
        return policy.infer(obs[0], xi)

    with pytest.raises(ValueError, match="does not reproduce its golden actions: step 1, joint"):
        replay_golden(policy.bundle, forgetful)
    policy.forget()
    with pytest.raises(ValueError, match="does not reproduce its golden actions: step 0, joint"):
        replay_golden(policy.bundle, lambda obs, xi=None: policy.infer(obs[0], xi))
    policy.prove()


def edited(folder: Path, source: Path, memory: str | None) -> Path:
    """Return a copy of ``source`` that says ``memory`` of itself, or nothing."""
    metadata = {k: v for k, v in read_model_file(source).metadata.items() if k != KEY_MEMORY}
    path = folder / source.name
    path.write_bytes(with_metadata(source.read_bytes(), metadata | ({} if memory is None else {KEY_MEMORY: memory})))
    return path
