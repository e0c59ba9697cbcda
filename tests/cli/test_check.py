"""``robot-rl check``: a table with every row, or one JSON object; the exit code says whether a robot may run it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robot_rl.cli import check
from robot_rl.cli.main import main
from robot_rl.contract.golden import KEY_CONTRACT, KEY_CONTRACT_SHA256, KEY_GRAPH_SHA256
from robot_rl.contract.model_file import parse_model, read_model_file, with_metadata
from robot_rl.contract.spec import Contract

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
TINY = POLICIES / "go2_tiny.onnx"


def test_a_fitting_policy_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(check.Args(str(TINY), robot="go2")) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("ok ")]
    assert len(rows) == 16
    assert lines[-1] == "accepted"
    assert "seed 1" in " ".join(lines)


def test_another_robots_policy_is_refused_in_every_row_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(check.Args(str(TINY), robot="cartpole", json=True)) == 1
    found = json.loads(capsys.readouterr().out)
    refused = {f["name"]: f["message"] for f in found["findings"] if f["severity"] == "error"}
    assert set(refused) == {"robot", "joints", "IMU frame"}
    assert refused["robot"] == "the policy was trained for robot 'go2'; this is 'cartpole'"
    assert "the policy lacks ['pole', 'slider']" in refused["joints"]
    assert found["accepted"] is False


def test_the_policys_own_robot_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(check.Args(str(POLICIES / "cartpole_tiny.onnx"), json=True)) == 0
    assert json.loads(capsys.readouterr().out)["robot"] == "cartpole"


def test_a_spoilt_file_is_one_row_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(TINY.read_bytes()[:9000])
    assert check.run(check.Args(str(path), robot="go2")) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "REFUSED file torn.onnx is truncated: field 7 at byte" in out
    assert "refused for 1 reason" in out


def test_a_network_that_was_changed_and_signed_again_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = POLICIES / "go2_tiny2.onnx"  # the same contract, other weights
    metadata = read_model_file(TINY).metadata
    graph = parse_model(other.read_bytes(), other)
    path = tmp_path / "mixed.onnx"
    path.write_bytes(with_metadata(other.read_bytes(), metadata | {KEY_GRAPH_SHA256: graph.graph_sha256}))
    assert check.run(check.Args(str(path), robot="go2", json=True)) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [f["name"] for f in findings if f["severity"] == "error"] == ["network"]
    assert findings[-1]["message"].startswith("the network does not reproduce its golden actions: step 0, joint")


def test_a_wrong_rate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(check.Args(str(TINY), robot="go2", rate_hz=100.0)) == 1
    assert "the control loop runs at" in " ".join(capsys.readouterr().out.split())


def test_a_released_policy_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies" / "released").mkdir(parents=True)
    shutil.copy(TINY, tmp_path / "policies" / "released" / "my_walk.onnx")
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    assert check.run(check.Args("my_walk", json=True)) == 0
    assert json.loads(capsys.readouterr().out)["policy"].endswith("released/my_walk.onnx")


def test_wrong_use_has_its_own_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "no_such_policy"]) == 2
    assert "no 'no_such_policy' in policies/released; it has [" in capsys.readouterr().err
    assert main(["check", str(TINY), "--robot", "go3"]) == 2
    assert "no 'go3' in hardware; it has ['cartpole', 'go2'" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "missing.onnx")]) == 2
    assert "missing.onnx" in capsys.readouterr().err


def test_an_unknown_robot_in_the_contract_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = Contract.from_json(read_model_file(TINY).metadata[KEY_CONTRACT])
    other = dataclasses.replace(contract, robot="go9")
    metadata = read_model_file(TINY).metadata | {
        KEY_CONTRACT: other.to_json(),
        KEY_CONTRACT_SHA256: other.fingerprint,
    }
    path = tmp_path / "go9.onnx"
    path.write_bytes(with_metadata(TINY.read_bytes(), metadata))
    assert main(["check", str(path)]) == 2
    assert "no 'go9' in hardware" in capsys.readouterr().err
    assert main(["check", str(path), "--robot", "go2", "--json"]) == 1
    assert "the policy was trained for robot 'go9'; this is 'go2'" in capsys.readouterr().out


def test_it_loads_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; from robot_rl.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'onnx', 'mujoco', 'zarr'} & set(sys.modules); assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(TINY), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
