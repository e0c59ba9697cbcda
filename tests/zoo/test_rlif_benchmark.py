"""The study of RLIF: every method runs on the Panda, nothing runs twice, its card says what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from robot_rl.cli.bench import KEYS, load

SMALL: dict[str, Any] = {
    "levels": (20,), "seeds": 1, "steps": 1_000, "expert_steps": 1_000, "stage_steps": 500, "updates": 1, "width": 8,
    "critics": 2,
}  # fmt: skip


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = sys.modules[load("rlif").__module__]
    monkeypatch.setattr(module, "EPISODES", 4)
    return module


def test_every_method_runs_on_the_panda_and_is_not_run_twice(study: Any, tmp_path: Path) -> None:
    out, card = tmp_path / "runs", tmp_path / "card"
    said = study.run(**SMALL, tasks=("panda_reach",), out=str(out), card=str(card))
    assert set(said) == set(KEYS)
    cells = json.loads((card / "rlif.json").read_text())
    assert [cell["method"] for cell in cells] == list(study.METHODS)
    assert {(cell["steps"], cell["expert_steps"]) for cell in cells} == {(1_000, 200)}  # a fifth
    assert all(0.0 <= cell[name] <= 100.0 for cell in cells for name in ("score", "expert_score"))
    text = (card / "rlif.md").read_text()
    assert f"| panda_reach | {cells[0]['judge_score']:.0f}, {cells[0]['expert_score']:.0f} | here |" in text
    assert "| rlif_random |" in text.partition("take-overs per own step")[2]
    assert "steps=1000 expert_steps=1000 stage_steps=500 updates=1 width=8 critics=2 hindsight=1 seeds=1" in text
    path = next(out.glob("panda_reach_60_rlif_value_*.json"))
    path.write_text(json.dumps(cells[0] | {"score": 77.0}))  # a second training would not say 77
    assert study.run(**SMALL, tasks=("panda_reach",), methods=("rlif_value",), out=str(out))["value"] == 77.0
    with pytest.raises(ValueError, match="run rlif_value first"):
        study.run(**SMALL | {"seeds": 2}, tasks=("panda_reach",), methods=("bc",), out=str(out))


def test_scores_are_shares_of_success_or_normalised_returns(study: Any) -> None:
    assert study.score("panda_reach", lambda obs: torch.zeros(len(obs), 8)) <= 20.0
    still = study.score("Hopper-v5", lambda obs: torch.zeros(len(obs), 3))
    assert 0.0 < still < 15.0  # it stands a while before it falls
