"""A judge beside a policy on the twin labels episodes as an operator would, and fine-tuning is paid by either."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robot_rl import zoo
from robot_rl.cli import finetune
from robot_rl.cli.robot_site import load, make_site
from robot_rl.contract.judge import Judge
from robot_rl.data.episodes import read_episodes
from robot_rl.data.labels import Labelled
from robot_rl.data.rewards import judged_reward, operator_reward
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import rlpd, success
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.success_file import export_judge
from robot_rl.learn.tuning import Config, FineTuning
from robot_rl.runtime.loop import LoopConfig
from robot_rl.runtime.modes import Request
from robot_rl.runtime.verdict import Verdict, look_at

ROBOT = load_robot("cartpole")
CONTRACT = zoo.load("sim", "tasks/cartpole_swingup").task().contract(ROBOT)
SPEED = 4  # place of the cart's speed in the observation, after two sines and two cosines
FAST = 0.05
"""What counts as a success here: the cart moves to the right, scaled as it is observed."""


def make_judge(path: Path, **about: str) -> Judge:
    """Learnt from drawn observations."""
    rng = np.random.default_rng(0)
    seen = np.concatenate((rng.uniform(-1.0, 1.0, (1_200, 4)), rng.uniform(-0.4, 0.4, (1_200, 2))), 1).astype("f4")
    data = Labelled(
        seen, seen[:, SPEED] > FAST, np.arange(1_200) // 10, "policy", "cartpole_swingup", CONTRACT.fingerprint
    )
    data = replace(data, **about)
    cfg = success.Config(hidden=32, updates=200, learning_rate=3e-3)
    return export_judge(success.train(data, cfg), data, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that pushes to the right, the judge, and a store of four episodes with the judge beside it."""
    folder = tmp_path_factory.mktemp("judged")
    sizes, rng = (CONTRACT.obs_size, 8, 1), np.random.default_rng(0)
    layers = [(rng.normal(0.0, 0.1, (b, a)).astype("f4"), np.full(b, 0.1, "f4")) for a, b in pairwise(sizes)]
    about = Provenance(recipe="push", seed=0, steps=0)
    export_policy(
        DenseNet(tuple(layers), "elu"), CONTRACT, folder / "policy.onnx", provenance=about, joints=ROBOT.joints
    )
    judge = make_judge(folder / "judge.onnx")
    robot, policy = load(str(folder / "policy.onnx"))
    site = make_site(
        policy, robot, record=folder / "store", speed=1e6, config=LoopConfig(episode_s=2.0, explore=0.5)
    )  # fmt: skip
    loop = site.loop
    verdict = Verdict(loop, judge, look_at(loop, judge), patience=3)
    loop.driver.connect()
    assert loop.recorder is not None
    loop.recorder.start()
    for ticks, ask in ((10, Request.DAMP), (200, Request.STAND), (400, Request.POLICY)):
        loop.requests.ask(ask)
        for _ in range(ticks):
            loop.tick()
            verdict.poll()
            loop.clock.wait()
    loop.recorder.close()
    loop.driver.close()
    return folder


def test_episodes_are_labelled_after_patient_looks(folder: Path) -> None:
    episodes, judge = read_episodes(folder / "store"), Judge(folder / "judge.onnx")
    labelled = [episode for episode in episodes if episode.label == 1]
    assert labelled
    for episode in labelled:
        assert 1 in [event.get("label") for event in episode.events if event["event"] == "label"]
        runs = "".join("x" if yes else " " for yes in judge.success(episode.rows["obs"])).split()
        assert max(map(len, runs)) >= 3
    rows = np.concatenate([episode.rows for episode in episodes])
    right = judge.success(rows["obs"]) == (rows["obs"][:, SPEED] > FAST)
    assert right.mean() > 0.9


def test_the_operators_key_pays_in_the_moment_it_is_pressed() -> None:
    rows = np.zeros(7, [("label", "i1")])
    rows["label"] = (0, 0, 1, 1, -1, -1, 0)
    assert operator_reward()(rows[:-1], rows[1:]).tolist() == [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]
    assert operator_reward(failure=0.0)(rows[:-1], rows[1:]).tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("reward", ["operator", "judge.onnx"])
def test_fine_tuning_is_paid_by_keys_or_by_a_judge(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reward: str
) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    learning = rlpd.Config(critics=2, hidden=(16, 16), utd=2, batch=32, start_std=0.2)
    recipe = FineTuning("cartpole_swingup", Config(rlpd=learning, first_transitions=100, log_every=1))
    module, find = type("Module", (), {"recipe": staticmethod(lambda: recipe)}), zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("_tune") else find(room, name))
    source = reward if reward == "operator" else str(folder / reward)
    args = finetune.Args(
        "cartpole_tune", folder / "policy.onnx", folder / "store", tmp_path / "inbox", max_updates=20, reward=source,
        progress=False,
    )  # fmt: skip
    assert finetune.run(args) == 0
    assert len(list((tmp_path / "inbox").glob("policy_final_*.onnx"))) == 1
    rows = [json.loads(line) for line in (tmp_path / "inbox/run/metrics.jsonl").read_text().splitlines()]
    paid = np.mean([row["loss/reward"] for row in rows])
    assert (0.0 < paid < 0.1) if reward == "operator" else (0.1 < paid < 1.0)
    with pytest.raises(ValueError, match=rf"not of 'task'; repeat --reward {source}, or choose another --out"):
        finetune.run(replace(args, reward=None))  # it would go on in a replay that another reward filled


def test_a_judge_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    other = make_judge(tmp_path / "other.onnx", contract="f" * 64)
    with pytest.raises(ValueError, match=r"was taught under contract ffffffffffff…; the policy has"):
        judged_reward(other, CONTRACT)
    robot, policy = load(str(folder / "policy.onnx"))
    site = make_site(policy, robot, driver="mirror", speed=1e6)
    with pytest.raises(ValueError, match="was taught under contract"):
        look_at(site.loop, other)
    with pytest.raises(ValueError, match=r"no reward 'money'; the choices are .* and a judge's"):
        FineTuning("cartpole_swingup", Config(), reward="money")


def test_in_its_own_thread_it_labels_while_the_loop_runs(folder: Path) -> None:
    robot, policy = load(str(folder / "policy.onnx"))
    site = make_site(policy, robot, speed=1e6, config=LoopConfig(explore=0.5))
    loop, judge, told = site.loop, Judge(folder / "judge.onnx"), []
    verdict = Verdict(loop, judge, look_at(loop, judge), rate_hz=500.0, patience=1)
    loop.driver.connect()
    verdict.start()
    for ticks, ask in ((10, Request.DAMP), (200, Request.STAND), (5_000, Request.POLICY)):
        loop.requests.ask(ask)
        for _ in range(ticks):
            loop.tick()
            loop.clock.wait()
            while (event := loop.events.take()) is not None:
                told += [event["label"]] if event["event"] == "label" else []
            if told:
                break
    verdict.close()
    loop.driver.close()
    assert told[0] == 1
