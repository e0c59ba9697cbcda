"""The study of sample efficiency: runs are kept, its card sets them beside published numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from robot_rl.cli.bench import KEYS, load


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = sys.modules[load("sample_efficiency").__module__]
    monkeypatch.setattr(module, "EPISODES", 1)
    return module


def test_a_run_is_kept_and_its_card_holds_all_of_the_task(study: Any, tmp_path: Path) -> None:
    out, card = tmp_path / "runs", tmp_path / "card"
    size = {"task": "InvertedPendulum-v5", "steps": 80, "evaluate_every": 40, "start_steps": 60, "out": str(out)}
    short = study.run(methods=("droq",), seeds=1, card=str(card), **size | {"steps": 40})
    said = [study.run(methods=("droq",), seeds=1, card=str(card), **size) for _ in range(2)]
    assert set(said[0]) == set(KEYS) and said[0]["value"] == said[1]["value"] > 0.0
    again = study.run(methods=("droq",), seeds=1, **size | {"steps": 40})
    assert again["value"] == short["value"]  # the longer run holds it
    study.run(methods=("sac",), seeds=1, card=str(card), **size)
    cells = json.loads((card / "sample_efficiency_InvertedPendulum-v5.json").read_text())
    assert sorted((c["method"], [row[0] for row in c["curve"]]) for c in cells) == [
        ("droq", [40, 80]), ("sac", [40, 80])
    ]  # fmt: skip
    text = (card / "sample_efficiency_InvertedPendulum-v5.md").read_text()
    assert "| redq, published | 3 | – | – | – |" in text  # nobody published this task


def test_published_returns_stand_beside_ours(study: Any, tmp_path: Path) -> None:
    curve = [(50_000, 1000.0, 10.0, 60.0), (100_000, 3000.0, 10.0, 60.0)]
    cells = [{"method": "droq", "seed": s, "curve": curve} for s in range(3)]
    study.write_card(tmp_path, "Hopper-v5", cells)
    text = (tmp_path / "sample_efficiency_Hopper-v5.md").read_text()
    assert "| droq | 3 | 1000 ± 0 | 3000 ± 0 | 2 ± 0 |" in text
    assert "| redq, published | 3 | 2388 ± 1110 | 3164 ± 456 | – |" in text
    assert "redq, published" in (tmp_path / "sample_efficiency_Hopper-v5.svg").read_text()


def test_unknown_methods_and_odd_steps_are_refused(study: Any) -> None:
    with pytest.raises(ValueError, match="no method 'ppo'; the choices are"):
        study.run(methods=("ppo",))
    with pytest.raises(ValueError, match="steps is 50; it must be a multiple of evaluate_every = 20"):
        study.run(steps=50, evaluate_every=20)
