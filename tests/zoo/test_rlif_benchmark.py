"""The study of RLIF: every method runs on the Panda, nothing runs twice, its card says what was measured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from robot_rl.cli.bench import KEYS, load

SMALL: dict[str, Any] = {
    "seeds": 1, "steps": 2_000, "expert_steps": 1_000, "stage_steps": 500, "updates": 0.5, "width": 8,
    "critics": 2,
}  # fmt: skip
RLPD = ("rlpd_00000100", "rlpd_00000200")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = sys.modules[load("rlif").__module__]
    monkeypatch.setattr(sys.modules[module.score.__module__], "EPISODES", 4)
    monkeypatch.setattr(module, "CLONING", module.CLONING | {"pretrain_updates": 200, "round_updates": 50})
    return module


def test_every_method_runs_on_the_panda_and_is_not_run_twice(study: Any, tmp_path: Path) -> None:
    out, card = tmp_path / "runs", tmp_path / "card"
    said = study.run(**SMALL, tasks=("panda_reach",), out=str(out), card=str(card))
    assert set(said) == set(KEYS)
    cells = json.loads((card / "rlif.json").read_text())
    assert [cell["method"] for cell in cells] == list(study.METHODS)
    assert {(cell["steps"], cell["expert_steps"]) for cell in cells} == {(2_000, 200)}
    assert all(0.0 <= cell[name] <= 100.0 for cell in cells for name in ("score", "expert_score"))
    text = (card / "rlif.md").read_text()
    assert f"| panda_reach | {cells[0]['judge_score']:.0f}, {cells[0]['expert_score']:.0f} | here |" in text
    assert "| rlif_random |" in text.partition("take-overs per own step")[2]
    assert cells[0]["curve"][-1][0] <= 2_000 and "take-overs per own step" in (card / "rlif.svg").read_text()
    assert "rlif steps=2000 updates=0.5 ppo_steps=1000000 expert_steps=1000 stage_steps=500 width=8 critics=2" in text
    path = next(out.glob("panda_reach_60_rlif_value_*.json"))
    path.write_text(json.dumps(cells[0] | {"score": 77.0}))  # a second training would not say 77
    assert study.run(**SMALL, tasks=("panda_reach",), methods=("rlif_value",), out=str(out))["value"] == 77.0
    path.write_text(json.dumps(cells[0] | {"floor": 0.1}))
    with pytest.raises(ValueError, match=r"made with floor 0\.1, and floor is 0\.5 now"):
        study.run(**SMALL, tasks=("panda_reach",), methods=("rlif_value",), out=str(out))
    with pytest.raises(ValueError, match="run rlif_value first"):
        study.run(**SMALL | {"seeds": 2}, tasks=("panda_reach",), methods=("bc",), out=str(out))
    with pytest.raises(ValueError, match="good"):
        study.run(levels=("good",))


def test_scores_are_shares_of_success_or_normalised_returns(study: Any) -> None:
    assert study.score("panda_reach", lambda obs: torch.zeros(len(obs), 8)) <= 20.0
    still = study.score("Hopper-v5", lambda obs: torch.zeros(len(obs), 3))
    assert 0.0 < still < 15.0  # it stands a while before it falls


def test_experts_of_a_gait_are_stages_of_ppo_and_of_rlpd_which_judges(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = sys.modules[study.score.__module__]
    cfg, _ = experts.config("Hopper-v5", "gsde", 0, 2_000, "paper")
    small = replace(cfg, num_steps=100, minibatches=1, epochs=1, actor_hidden=(8,), critic_hidden=(8,))
    monkeypatch.setattr(experts, "config", lambda *_: (small, 4))
    monkeypatch.setattr(experts, "PPO_STAGES", 2)
    monkeypatch.setattr(experts, "PRIOR_STEPS", 200)
    scale = experts.Scale(1_000, 2_000, 200, 100, 1, 8, 2, True)
    stages = experts.train_experts(tmp_path, "Hopper-v5", scale)
    assert [path.stem for path in stages] == ["ppo_00001200", "ppo_00002000", *RLPD]
    before = [path.stat().st_mtime_ns for path in stages]
    assert experts.train_experts(tmp_path, "Hopper-v5", scale) == stages
    assert [path.stat().st_mtime_ns for path in stages] == before
    roles = experts.cast_roles(stages, experts.make_world("Hopper-v5", 1, 0), 0.0)
    seen = {"policy": torch.zeros(3, 11)}
    assert roles.judge(seen, roles.expert.label(seen)).shape == (3,)  # the second of two stages alone
    assert roles.scores["expert_score"] <= roles.scores["judge_score"]
    assert roles.scores["expert_score"] == pytest.approx(experts.score("Hopper-v5", roles.expert.actor))
