"""``robot-rl train`` with APRL: a policy for the robot comes out that tells its box, and it stands on the twin."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from robot_rl import zoo
from robot_rl.cli import train
from robot_rl.cli.learning import load_learnt
from robot_rl.contract.box import box_of, without_box
from robot_rl.contract.golden import read_bundle
from robot_rl.data.transition import Mode
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import aprl, checkpoint
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.recipe import Recipe
from robot_rl.runtime.clock import SimClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.shield import Reason
from robot_rl.sim.twin import Twin

SMALL = aprl.Config(
    rlpd=replace(
        aprl.LEARNER, hidden=(16,), actor_hidden=(16,), batch=16, utd=2, start_steps=30, log_every=20, save_every=30
    ),
    dynamics_hidden=(16,), hold_margin=0.2,
)  # fmt: skip


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> str:
    whole = zoo.load("policies", "recipes/go2_aprl").recipe()
    small = Recipe(whole.task, SMALL, algorithm="aprl", num_envs=1, threads=1)
    module = type("Module", (), {"recipe": staticmethod(lambda: small)})
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("go2_aprl_small") else load(room, name))
    return "go2_aprl_small"


def test_policy_tells_its_box_and_stands_on_the_twin(recipe: str, tmp_path: Path) -> None:
    def args(steps: int, *, resume: bool = False) -> train.Args:
        return train.Args(recipe, seed=1, total_steps=steps, out=tmp_path, progress=False, resume=resume)

    assert train.run(args(60)) == 0
    assert train.run(args(80, resume=True)) == 0
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["steps"] for row in rows] == [20, 40, 60, 80] and abs(rows[0]["watched/speed"]) < 2.0
    path = checkpoint.latest(tmp_path / "checkpoints")
    assert path is not None and load_learnt(path).steps == 80

    go2, policy = load_robot("go2"), tmp_path / "policy.onnx"
    bundle = read_bundle(policy)
    told = box_of(bundle.contract)
    assert told is not None and told.half_width == pytest.approx(0.35 + 0.25 * 80 / 30_000) and told.hold_margin == 0.2
    about = json.loads((tmp_path / "run.json").read_text())
    assert without_box(bundle.contract).fingerprint == about["contract"]
    assert (bundle.provenance["algorithm"], bundle.contract.action.lowpass_hz) == ("aprl", 8.0)

    clock = SimClock(20.0)
    twin = Twin(go2, clock=clock)
    twin.connect()
    loop = ControlLoop(twin, Policy.load(policy, go2), clock)
    for seconds, request in ((0.1, Request.DAMP), (2.5, Request.STAND), (1.0, Request.POLICY)):
        loop.requests.ask(request)
        for _ in range(round(20 * seconds)):
            loop.tick()
            clock.wait()
    twin.close()
    assert loop.situation.mode is Mode.POLICY
    assert not loop.latest.reasons & ~int(Reason.BEYOND_BOX | Reason.JOINT_AT_LIMIT | Reason.EFFORT_CLIPPED)
