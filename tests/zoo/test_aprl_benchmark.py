"""The study of APRL: what it counts, that it goes on where it stopped, that its card says what was measured."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from robot_rl.cli.bench import KEYS, load

SMALL = {"variants": ("aprl", "restricted"), "changes": ("payload",), "seeds": 1, "steps": 40, "more": 10}
SMALL |= {"updates": 1, "width": 8}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = sys.modules[load("aprl").__module__]
    monkeypatch.setattr(module, "EPISODES", 1)
    return module


def test_study_runs_goes_on_after_a_change_and_is_not_run_twice(study: Any, tmp_path: Path) -> None:
    out, card = tmp_path / "runs", tmp_path / "card"
    said = study.run(**SMALL, out=str(out), card=str(card))
    assert set(said) == set(KEYS) and said["p50_us"] > 0.0
    cells = json.loads((card / "aprl.json").read_text())
    assert [(c["variant"], c["change"], c["steps"]) for c in cells] == [
        ("aprl", "", 40), ("restricted", "", 40), ("aprl", "payload", 50),
    ]  # fmt: skip
    assert [row[0] for row in cells[0]["curve"]] == list(range(2, 41, 2))
    assert [row[0] for row in cells[2]["curve"]] == list(range(42, 51, 2))
    assert cells[0]["half_width"] == pytest.approx(0.35 + 0.25 * 40 / 30_000) and cells[1]["half_width"] == 1.0
    text = (card / "aprl.md").read_text()
    assert "`robot-rl bench aprl steps=40 more=10 updates=1 width=8 seeds=1`" in text
    assert (
        f"| aprl | 1 | {cells[0]['speed']:.2f} ± 0.00 |" in text and "| 0.62 |" in text and "| payload | aprl |" in text
    )
    assert (card / "aprl.svg").read_text().startswith("<?xml")
    path = out / "aprl_seed0_40_1_8.json"
    path.write_text(json.dumps(cells[0] | {"speed": 7.7}))  # a second training would not say 7.7
    alone = SMALL | {"variants": ("aprl",)}
    assert study.run(**alone | {"more": 0}, out=str(out))["value"] == 7.7
    (out / "aprl_seed0_40_1_8_payload_10.json").unlink()
    for folder in ("aprl_seed0_40_1_8", "aprl_seed0_40_1_8_payload_10"):
        shutil.rmtree(out / folder / "checkpoints")
    with pytest.raises(ValueError, match="goes on from the run before the change"):
        study.run(**alone, out=str(out))


def test_changed_robots_are_those_that_are_named(study: Any) -> None:
    assert study.world("aprl", "").randomize == {}
    weak = study.world("restricted", "weak_knee")
    assert weak.action_scale == (0.2, 0.4, 0.4) * 4 and weak.randomize["motor_strength"].low[8] == 0.5
    assert sum(weak.randomize["motor_strength"].low) == 11.5
