"""A policy that sees becomes a file: its inputs, its golden pictures, what is refused, `robot-rl check`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from robot_rl.cli import check
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.model_file import read_model_file, with_metadata
from robot_rl.contract.sight import golden_pictures
from robot_rl.contract.spec import Contract, ImageTerm
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import encoder, rlpd
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.pixels import Config, Policy, make_seer
from robot_rl.runtime.policy import Policy as Loaded
from robot_rl.zoo import load

FROM = Provenance(recipe="panda_lift_pixels", seed=0, steps=1)
WRIST_3 = "8b2fc79388fc9609"
CAMERAS = (ImageTerm("wrist", 16, 20), ImageTerm("front", 16, 20))


def contract() -> Contract:
    task = dataclasses.replace(load("sim", "tasks/panda_lift_pixels").task(), cameras=CAMERAS)
    return task.contract(load_robot("panda"))


def policy(colours: int = 6) -> Policy:
    cfg = Config(
        rlpd=rlpd.Config(critics=2, hidden=(16,), actor_hidden=(16,)),
        encoder=encoder.Config(channels=(4, 4), strides=(2, 2), features=6),
    )
    return make_seer(cfg, obs_size=contract().obs_size, num_actions=8, shape=(16, 20, colours)).actor


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "sees.onnx"
    export_policy(policy(), contract(), path, provenance=FROM)
    return path


def test_the_file_takes_what_the_contract_names_and_sees_all_of_it(exported: Path) -> None:
    """Torch and onnxruntime agree on fresh pictures, and a change in either picture changes the action."""
    assert read_model_file(exported).inputs == {
        "obs": (1, contract().obs_size),
        "pixels/wrist": (1, 16, 20, 3),
        "pixels/front": (1, 16, 20, 3),
    }
    session, rng = onnxruntime.InferenceSession(exported), np.random.default_rng(0)
    feed = {term.group: rng.integers(0, 256, (1, *term.shape), np.uint8) for term in CAMERAS}
    obs = rng.normal(size=(1, contract().obs_size)).astype(np.float32)
    action = np.asarray(session.run(None, {"obs": obs, **feed})[0])
    with torch.no_grad():
        expected = policy()(torch.from_numpy(obs), *(torch.from_numpy(x) for x in feed.values())).numpy()
    assert np.abs(action - expected).max() < 1e-5
    for name in feed:
        other = feed | {name: 255 - feed[name]}
        assert np.abs(np.asarray(session.run(None, {"obs": obs, **other})[0]) - action).max() > 1e-4, name


def test_golden_pictures_are_the_same_everywhere() -> None:
    """The first bytes of SHAKE-256 of the name, as other languages give them."""
    shown = golden_pictures(CAMERAS, 3)
    assert list(shown) == ["pixels/wrist", "pixels/front"] and shown["pixels/wrist"].shape == (1, 16, 20, 3)
    assert shown["pixels/wrist"].ravel()[:8].tobytes().hex() == WRIST_3
    assert 100 < shown["pixels/front"].mean() < 155 and (shown["pixels/front"] != shown["pixels/wrist"]).any()


def test_check_passes_it_and_the_runtime_loads_it(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(check.Args(str(exported), json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    network = next(row for row in told["findings"] if row["name"] == "network")
    assert network["severity"] == "ok" and float(network["message"].split()[-1]) < 1e-5
    bundle = read_bundle(exported)
    assert bundle.contract.images == CAMERAS
    assert Loaded.load(exported, load_robot("panda")).infer_s > 0.0


def test_other_eyes_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the policy sees 1 pictures of 20 x 16; the contract has"):
        export_policy(policy(3), contract(), tmp_path / "one.onnx", provenance=FROM)
    blind = dataclasses.replace(contract(), images=())
    model = read_model_file(exported)
    path = tmp_path / "blind.onnx"
    metadata = model.metadata | {
        "robot_rl.contract": blind.to_json(),
        "robot_rl.contract_sha256": blind.fingerprint,
    }
    path.write_bytes(with_metadata(exported.read_bytes(), metadata))
    with pytest.raises(ValueError, match=r"the network takes .*pixels/wrist.*; the contract needs \{'obs'"):
        read_bundle(path)
