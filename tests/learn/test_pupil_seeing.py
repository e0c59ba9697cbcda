"""A policy that sees is fine-tuned from a recording: it begins at its run, goes on exactly, and refuses other runs."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.contract.golden import read_bundle
from robot_rl.contract.spec import Contract, ImageTerm
from robot_rl.data.episodes import EpisodeWriter
from robot_rl.data.transition import Mode, Who, row_dtype
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import checkpoint, encoder, pixels, rlpd
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.learner import Config, Job, Learner
from robot_rl.learn.pixels import Seer
from robot_rl.zoo import load

PANDA = load_robot("panda")
LEARN = rlpd.Config(
    critics=2, hidden=(16,), actor_hidden=(16,), utd=2, batch=8, discount=0.9, actor_lr=1e-3, critic_lr=1e-3
)
RUN = pixels.Config(rlpd=LEARN, encoder=encoder.Config(channels=(4, 4), strides=(2, 2), features=6, shift=1))
TUNE = Config(rlpd=replace(LEARN, actor_hidden=(64, 64)), first_transitions=20, average=0.5, window=200)


def contract() -> Contract:
    task = load("sim", "tasks/panda_lift_pixels").task()
    return dataclasses.replace(task, cameras=(ImageTerm("wrist", 16, 16),)).contract(PANDA)


def make_run(folder: Path, seed: int = 0) -> tuple[Seer, Path]:
    """Return what a run has learnt, and its checkpoint."""
    cfg = replace(RUN, seed=seed)
    seer = pixels.make_seer(cfg, obs_size=contract().obs_size, num_actions=8, shape=(16, 16, 3))
    path = checkpoint.numbered(folder / "checkpoints", 100)
    checkpoint.save(path, pixels.pack(seer, cfg))
    return seer, path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run, its policy, and 60 rows that a robot recorded under it."""
    folder = tmp_path_factory.mktemp("home")
    seer, run = make_run(folder / "run")
    bundle = export_policy(
        seer.actor, contract(), folder / "policy.onnx", provenance=Provenance("panda_lift_pixels", seed=0, steps=100)
    )
    rng, rows = np.random.default_rng(0), np.zeros(60, row_dtype(contract(), PANDA))
    rows["tick"] = np.arange(60)
    rows["mode"], rows["who"] = Mode.POLICY, Who.POLICY
    rows["obs"], rows["sent_action"] = rng.normal(size=rows["obs"].shape), rng.uniform(-1, 1, (60, 8))
    rows["quat_xyzw"], rows["joint_pos"] = (0.0, 0.0, 0.0, 1.0), PANDA.default_pos
    rows["tool_quat_xyzw"], rows["object_quat_xyzw"] = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0)
    rows["pixels_wrist"] = rng.integers(0, 256, rows["pixels_wrist"].shape)
    writer = EpisodeWriter(folder / "store", contract(), PANDA)
    writer.start_episode()
    writer.append(rows)
    writer.close()
    return {"folder": folder, "run": run, "policy": bundle.path, "seer": seer}


def make_job(home: dict[str, Any], out: Path, **changes: Any) -> Job:
    job = Job(
        released=home["policy"], robot=PANDA, episodes=home["folder"] / "store", inbox=out / "inbox", out=out,
        reward=lambda now, then: then["pixels_wrist"].mean((1, 2, 3)) / 128.0, recipe="tune", critics=home["run"],
    )  # fmt: skip
    return replace(job, **changes)


def begin(home: dict[str, Any], out: Path) -> Learner:
    learner = Learner(make_job(home, out), TUNE)
    assert learner.follow() == 59 and learner.started
    return learner


def test_it_begins_with_all_that_its_run_knows_and_learns_on(home: dict[str, Any], tmp_path: Path) -> None:
    learner, seer = begin(home, tmp_path), home["seer"]
    for name in ("critics", "obs_mean", "obs_scale"):
        assert torch.equal(getattr(learner.agent, name).detach(), getattr(seer.heads, name).detach()), name
    before = {k: x.clone() for k, x in learner.pupil.actor.state_dict().items()}
    assert all(torch.equal(x, seer.actor.state_dict()[k]) for k, x in before.items())
    for _ in range(4):
        metrics = learner.step()
    assert np.isfinite(metrics["critic_loss"]) and metrics["imitation"] == 0.0
    after = learner.pupil.actor.state_dict()
    moved = {k for k, x in before.items() if not torch.equal(x, after[k])}
    assert any(k.startswith("encoder") for k in moved) and any(k.startswith("actor") for k in moved)
    offer = learner.offer()
    bundle = read_bundle(offer.path)
    assert bundle.contract == read_bundle(home["policy"]).contract
    assert bundle.provenance["parent"] == read_bundle(home["policy"]).file_sha256
    assert bundle.provenance["algorithm"] == "pixels"
    learner.close()


def test_one_that_was_stopped_goes_on_exactly(home: dict[str, Any], tmp_path: Path) -> None:
    whole, cut = begin(home, tmp_path / "whole"), begin(home, tmp_path / "cut")
    for _ in range(6):
        expected = whole.step()
    for _ in range(3):
        cut.step()
    cut.save()
    cut.close()
    again = Learner(make_job(home, tmp_path / "cut"), TUNE)
    assert again.follow() == 0 and again.started and again.agent.critic_updates == 3 * 2
    for _ in range(3):
        found = again.step()
    assert found == expected
    for name, x in whole.steady.state_dict().items():
        assert torch.equal(x, again.steady.state_dict()[name]), name
    whole.close()
    again.close()


def test_runs_that_do_not_fit_are_refused(home: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy\.onnx sees; name the run .* with --critics"):
        Learner(make_job(home, tmp_path, critics=None), TUNE)
    with pytest.raises(ValueError, match="its critics have no privileged terms, got 3"):
        Learner(make_job(home, tmp_path, num_features=3), TUNE)
    with pytest.raises(ValueError, match="is of another policy than"):
        Learner(make_job(home, tmp_path, critics=make_run(tmp_path / "other", seed=1)[1]), TUNE)
    with pytest.raises(ValueError, match=r"discount 0\.9; the recipe has .* and 0\.95"):
        Learner(make_job(home, tmp_path), replace(TUNE, rlpd=replace(TUNE.rlpd, discount=0.95)))
    with pytest.raises(ValueError, match="has critics"):
        Learner(make_job(home, tmp_path), replace(TUNE, rlpd=replace(TUNE.rlpd, hidden=(32,))))
    foreign = tmp_path / "foreign.npz"
    checkpoint.save(foreign, {"algorithm": "ppo"})
    with pytest.raises(ValueError, match="is of 'ppo'; a policy that sees comes from a run of 'pixels'"):
        Learner(make_job(home, tmp_path, critics=foreign), TUNE)
