"""The online learner on a tiny robot's store: it improves the policy, survives SIGKILL, and repeats itself exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from robot_rl.contract.golden import read_bundle
from robot_rl.learn import rlpd
from robot_rl.learn.graph import dense_forward, read_mlp
from robot_rl.learn.learner import Config, Job, Learner, Offer, learn
from robot_rl.learn.metrics import read_metrics
from tests.learn.tiny_robot import CONTRACT, ROBOT, Slider, released_net, reward, write_released

SMALL = rlpd.Config(
    critics=2, hidden=(32, 32), utd=4, batch=64, discount=0.9, backup_entropy=False, temperature=1e-3, start_std=0.2,
    std_range=(0.05, 0.5), warmup=200, actor_lr=1e-3, critic_lr=1e-3, scale_value=True,
)  # fmt: skip
CONFIG = Config(
    rlpd=SMALL,
    first_transitions=200,
    updates_per_transition=4.0,
    offer_every_s=0.2,
    save_every_s=0.05,
    log_every=1,
)


def make_job(folder: Path, announce=lambda offer: None) -> Job:
    released = folder / "released.onnx"
    if not released.exists():
        write_released(released)
    return Job(
        released=released, robot=ROBOT, episodes=folder / "store", inbox=folder / "inbox", out=folder / "run",
        reward=reward, recipe="slider_tune", announce=announce,
    )  # fmt: skip


def load(path: Path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda obs: session.run(None, {"obs": np.asarray(obs, np.float32).reshape(1, -1)})[0]


def numbers(folder: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in row.items() if not k.startswith("time/")}
        for row in read_metrics(folder / "run" / "metrics.jsonl")
    ]


def test_first_policy_is_the_released_one_and_carries_its_origin(tmp_path: Path) -> None:
    offers: list[Offer] = []
    slider = Slider(tmp_path / "store", wind=0.0)
    slider.run(load(write_released(tmp_path / "released.onnx")), 10)
    learner = Learner(make_job(tmp_path, offers.append), CONFIG)
    learner.follow()
    made = learner.offer(final=True)
    bundle = read_bundle(made.path)
    assert offers == [made]
    assert made.sha256 == bundle.file_sha256
    assert bundle.contract == CONTRACT
    assert bundle.provenance["parent"] == read_bundle(tmp_path / "released.onnx").file_sha256 == made.parent
    for (w, b), (w0, b0) in zip(read_mlp(made.path).layers, released_net().layers, strict=True):
        assert np.array_equal(w, w0)
        assert np.array_equal(b, b0)


def test_learning_waits_for_its_event(tmp_path: Path) -> None:
    learner = Learner(make_job(tmp_path), replace(CONFIG, start_event="explore"))
    slider = Slider(tmp_path / "store", wind=0.0)
    slider.run(dense_forward(released_net()), 6)
    assert learner.follow() == 0
    slider.writer.event({"event": "explore", "std": 0.1})
    slider.writer.flush()
    assert learner.follow() == 0
    slider.run(dense_forward(released_net()), 2)
    assert learner.follow() == 2 * 49 == len(learner.replay)


def test_offered_policy_is_the_average_of_the_actors(tmp_path: Path) -> None:
    Slider(tmp_path / "store", wind=0.4).run(dense_forward(released_net()), 12)
    learner = Learner(make_job(tmp_path), replace(CONFIG, rlpd=replace(SMALL, warmup=0), average=0.75))
    learner.follow()
    expected = learner.agent.actor.as_mlp().layers[0][0].astype(np.float64)
    for _ in range(3):
        learner.step()
        expected = 0.75 * expected + 0.25 * learner.agent.actor.as_mlp().layers[0][0]
    offered = read_mlp(learner.offer(final=True).path).layers[0][0]
    assert np.allclose(offered, expected, atol=1e-6)
    assert not np.allclose(offered, released_net().layers[0][0], atol=1e-6)


def test_updates_never_outrun_the_transitions_that_pay_for_them(tmp_path: Path) -> None:
    slider = Slider(tmp_path / "store", wind=0.0)
    slider.run(dense_forward(released_net()), 2)
    learner = Learner(make_job(tmp_path), replace(CONFIG, updates_per_transition=0.5))
    learner.follow()
    assert not learner.due, "98 transitions, learning starts at 200"
    slider.run(dense_forward(released_net()), 4)
    assert learner.follow() == 4 * 49
    while learner.due:
        learner.step()
    assert learner.agent.critic_updates == 6 * 49 // 2 // 4 * 4


@pytest.mark.timeout(900)  # starts three processes, which import torch
def test_learner_killed_at_any_moment_repeats_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    store = tmp_path / "store"
    slider = Slider(store, wind=0.4)
    slider.run(dense_forward(released_net()), 12)
    slider.writer.close()
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys, pathlib, dataclasses
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.learn import test_learner as t
        folder = pathlib.Path(sys.argv[1])
        (folder / "store").symlink_to({str(store)!r}) if not (folder / "store").exists() else None
        t.torch.set_num_threads(1)
        t.learn(t.make_job(folder), dataclasses.replace(t.CONFIG, max_updates=320, updates_per_s=float(sys.argv[2])))
        """)
    )

    def start(folder: Path, updates_per_s: float = 0.0) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, str(program), str(folder), str(updates_per_s)]
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})

    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    (calm / "store").symlink_to(store)
    learn(make_job(calm), replace(CONFIG, max_updates=320))
    kills = 0
    for blocks in (12, 40):
        process = start(wild, updates_per_s=100.0)  # slow enough to be hit
        while process.poll() is None and len(numbers_or_none(wild)) < blocks:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2, "the learner was too quick to be killed"
    assert start(wild).wait(240) == 0
    assert numbers(wild) == numbers(calm)
    assert len(numbers(calm)) == 80
    finals = [read_mlp(next((folder / "inbox").glob("policy_final_*.onnx"))) for folder in (calm, wild)]
    for (w, b), (w0, b0) in zip(*(net.layers for net in finals), strict=True):
        assert np.array_equal(w, w0)
        assert np.array_equal(b, b0)


def numbers_or_none(folder: Path) -> list[dict[str, float]]:
    try:
        return numbers(folder)
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def test_checkpoint_of_another_policy_is_refused(tmp_path: Path) -> None:
    slider = Slider(tmp_path / "store", wind=0.0)
    slider.run(dense_forward(released_net()), 6)
    learn(make_job(tmp_path), replace(CONFIG, max_updates=8))
    (tmp_path / "released.onnx").unlink()
    time.sleep(1.1)  # the file's creation time, in seconds, is part of it
    with pytest.raises(ValueError, match="another job"):
        Learner(make_job(tmp_path), CONFIG)


def test_prior_store_fills_half_of_every_minibatch(tmp_path: Path) -> None:
    for name, wind in (("prior", 0.0), ("store", 0.4)):
        Slider(tmp_path / name, wind=wind).run(dense_forward(released_net()), 6)
    learner = Learner(replace(make_job(tmp_path), prior=tmp_path / "prior"), CONFIG)
    learner.follow()
    batch = rlpd.draw(learner.replay, learner.prior, SMALL, learner.rng)
    pushed = (batch.next_obs[:, 1] - batch.obs[:, 1]) / 0.2 - batch.action[:, 0]  # the wind of each transition
    assert torch.allclose(pushed.view(4, 2, 32)[:, 0], torch.tensor(0.0), atol=1e-4)
    assert torch.allclose(pushed.view(4, 2, 32)[:, 1], torch.tensor(0.4), atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_policy_improves_on_a_changed_robot(tmp_path: Path) -> None:
    """Wind pushes the robot 0.4 off; the released policy stays there, the learnt one comes back by a third or more."""
    learner = Learner(make_job(tmp_path), replace(CONFIG, updates_per_transition=2.0))
    slider = Slider(tmp_path / "store", wind=0.4)
    act = load(learner.job.released)
    before = slider.run(act, 10)
    for _ in range(15):
        slider.run(act, 4, explore=0.2)
        learner.follow()
        while learner.due:
            learner.step()
        act = load(learner.offer().path)
    after = slider.run(load(learner.offer(final=True).path), 10)
    assert before == pytest.approx(0.42, abs=0.06)
    assert after < 0.7 * before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_updates": -1}, "fine-tuning: max_updates is -1; it must be a whole number, at least 0"),
        ({"log_every": 0}, "log_every is 0; it must be a whole number, at least 1"),
        ({"window": 0}, "window is 0"),
        ({"first_transitions": "500"}, "first_transitions is '500'"),
        ({"average": 1.5}, r"average is 1\.5; it must be a number in \[0, 1\]"),
        ({"updates_per_s": -1.0}, r"updates_per_s is -1\.0; it must be a finite number, at least 0"),
        ({"max_minutes": float("nan")}, "max_minutes is nan"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **change)
