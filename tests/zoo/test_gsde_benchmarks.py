"""The studies of gSDE: what they count, that they go on where they stopped, that their cards say what was measured."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from robot_rl import zoo
from robot_rl.cli.bench import KEYS, load
from robot_rl.learn import ppo
from robot_rl.sim.env import make_env


@pytest.fixture
def mountaincar(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = sys.modules[load("gsde_mountaincar").__module__]
    monkeypatch.setattr(module, "EPISODES", 1)
    return module


@pytest.fixture
def locomotion(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = sys.modules[load("gsde_locomotion").__module__]
    monkeypatch.setattr(module, "EPISODES", 1)
    return module


def test_a_sweep_runs_writes_its_card_and_is_not_run_twice(mountaincar: Any, tmp_path: Path) -> None:
    out, card = tmp_path / "runs", tmp_path / "card"
    said = [mountaincar.run(intervals=(0, 8), seeds=1, steps=64, out=str(out), card=str(card)) for _ in range(2)]
    assert set(said[0]) == set(KEYS) and said[0]["value"] == said[1]["value"]
    cells = json.loads((card / "gsde_mountaincar.json").read_text())
    assert [(c["interval"], c["seed"], len(c["returns"])) for c in cells] == [(0, 0, 1), (8, 0, 1)]
    text = (card / "gsde_mountaincar.md").read_text()
    assert (
        "0% of the steps, 1 of the runs" in text
        and f"| gSDE, n = 8 | 1 | {cells[1]['return']:.1f} ± 0.0 | 94.8 |" in text
    )
    assert cells[0]["continuity"] > 5.0 * cells[1]["continuity"] > 0.0  # unlearnt: deviation 1 against about 0.02
    kept = sorted(path.name for path in out.iterdir())
    assert kept == ["n0_seed0_64.json", "n8_seed0_64.json"]
    path = out / kept[1]
    path.write_text(json.dumps(cells[1] | {"return": 77.0}))  # a second training would not say 77
    assert mountaincar.run(intervals=(0, 8), seeds=1, steps=64, out=str(out))["value"] == 77.0


def test_seeds_are_summed_up_as_mean_and_standard_error(mountaincar: Any) -> None:
    cells = [
        {"interval": 8, "return": r, "continuity": 1.0, "continuity_test": 0.5, "first_success": 100}
        for r in (80.0, 90.0, 100.0)
    ]
    found = mountaincar.by_interval(cells)[8]
    assert found["return"] == 90.0 and found["return_se"] == pytest.approx(10.0 / math.sqrt(3.0))
    assert found["continuity_se"] == 0.0 and found["seeds"] == 3


def test_only_the_exploration_depends_on_the_interval(mountaincar: Any) -> None:
    plain, n8, n64 = (mountaincar.config(n, 3, 1000) for n in (0, 8, 64))
    assert (plain.exploration, n8.exploration, n8.sde_every, n64.sde_every) == ("gaussian", "gsde", 8, 64)
    assert replace(n8, sde_every=64) == n64 and replace(n8, exploration="gaussian", sde_every=1) == plain


def test_the_card_of_ppo_shows_ours_beside_the_papers(locomotion: Any, tmp_path: Path) -> None:
    cell = {
        "steps": 100, "settings": "same", "continuity": 2.0, "continuity_test": 1.0, "last_training": 5.0,
        "curve": [(50, 1.0), (100, 5.0)], "task": "Hopper-v5",
    }  # fmt: skip
    cells = [cell | {"noise": "gsde", "seed": s, "return": r} for s, r in ((0, 100.0), (1, 300.0))]
    locomotion.write_card(tmp_path, cells)
    text = (tmp_path / "gsde_locomotion.md").read_text()
    assert "| Hopper-v5 | gsde | 2 | 200 ± 100 | 5 ± 0 | 2.00 ± 0.00 | 1.00 | 2508 ± 16 |" in text
    assert "| Hopper-v5 | gsde | 100, 300 |" in text
    assert "\"tasks=('Hopper-v5',)\" seeds=2 steps=100" in text and "0% of the steps, 2 of the runs" in text
    assert (tmp_path / "gsde_locomotion.svg").read_text().startswith("<?xml")


def test_the_same_settings_differ_in_exploration_alone(locomotion: Any) -> None:
    (gaussian, n), (gsde, m) = (locomotion.config("Ant-v5", x, 0, 1000, "same") for x in ("gaussian", "gsde"))
    assert n == m == 16 and gsde.log_std == -3.7
    assert replace(gsde, exploration="gaussian", log_std=-2.2, sde_every=gaussian.sde_every) == gaussian
    paper, n = locomotion.config("Hopper-v5", "gsde", 0, 1000, "paper")
    assert (n, paper.num_steps, paper.minibatches, paper.log_std) == (16, 512, 64, -1.0)


@pytest.mark.parametrize("task", ["Hopper-v5", "Ant-v5"])
def test_the_same_settings_begin_with_the_same_noise(locomotion: Any, task: str) -> None:
    world, found = locomotion._world(task, 4, 0), []
    obs = world.reset()["policy"]
    for noise in locomotion.NOISES:
        cfg, _ = locomotion.config(task, noise, 0, 1000, "same")
        actor = ppo.make_agent(cfg, {**world.obs_sizes, "action": world.num_actions}).actor
        found.append(float(actor.distribution(torch.randn(500, obs.shape[1]))[1].mean()))
    assert found[1] == pytest.approx(found[0], rel=0.2)
    assert task != "Ant-v5" or obs.shape[1] == 27


def test_ppo_is_trained_and_judged_on_raw_rewards(locomotion: Any, tmp_path: Path) -> None:
    found = locomotion.run(tasks=("InvertedPendulum-v5",), seeds=1, steps=4096, out=str(tmp_path))
    cells = json.loads((tmp_path / "gsde_locomotion.json").read_text())
    assert [cell["noise"] for cell in cells] == ["gaussian", "gsde"]
    assert found["floor"] == round(cells[0]["return"], 1)
    for cell in cells:  # one per step survived, so whole numbers, at least the fall of an unlearnt policy
        assert cell["return"] == round(cell["return"]) >= 3.0
        assert cell["curve"][-1][0] <= 4096 and cell["continuity"] > 0.0


def test_the_go2_is_trained_with_both_noises_and_costs_are_compared(tmp_path: Path, monkeypatch: Any) -> None:
    go2 = sys.modules[load("gsde_go2").__module__]
    monkeypatch.setattr(go2, "EPISODES", 2)
    plain, noisy = (go2.config(noise, 1, 4_000, 6) for noise in go2.NOISES)
    assert replace(noisy, exploration="gaussian", mean_clip=math.inf) == plain and noisy.exploration == "gsde"
    small = [
        replace(
            c, start_steps=200, blocks_per_step=0.05, hidden=(8, 8), actor_hidden=(8, 8), batch=8, total_steps=1_200
        )
        for c in (plain, noisy)
    ]
    brief = replace(zoo.load("sim", f"tasks/{go2.recipe().task}").task(), episode_s=2.0)
    monkeypatch.setattr(go2, "_world", lambda n, seed: make_env(brief, num_envs=n, seed=seed, threads=1))
    with pytest.raises(ValueError, match="steps is 40: no episode ends"):
        monkeypatch.setattr(go2, "config", lambda *_: replace(plain, total_steps=40, start_steps=40))
        go2.run(seeds=1, steps=40, out=str(tmp_path))
    monkeypatch.setattr(go2, "config", lambda noise, *_: small[noise == "gsde"])
    said = [go2.run(seeds=1, steps=1_200, interval=6, out=str(tmp_path)) for _ in range(2)]
    assert set(said[0]) == set(KEYS) and said[0]["value"] == said[1]["value"]
    gaussian, gsde = json.loads((tmp_path / "gsde_go2.json").read_text())
    assert gaussian["continuity"] > 1.5 * gsde["continuity"] > 0.0
    ends = [at for at, _ in gsde["costs"]]
    assert ends == sorted(ends) and ends[0] > 0 and ends[-1] <= 1_200 and gsde["curve"][-1][0] <= 1_200
    assert all(cost > 0.0 for _, cost in gsde["costs"])
    less = 1.0 - gsde["continuity"] / gaussian["continuity"]
    assert f"gSDE costs {less:.0%} less continuity" in (tmp_path / "gsde_go2.md").read_text()
    (pair,) = go2.at_equal_return([gaussian, gsde])
    assert (said[0]["value"], said[0]["floor"]) == (round(pair["gsde"][1], 3), round(pair["gaussian"][1], 3))


def test_unknown_settings_name_the_choices(locomotion: Any) -> None:
    with pytest.raises(ValueError, match="'mine'; the choices are"):
        locomotion.run(settings="mine")


def test_costs_are_compared_where_both_have_come_to_the_same_return() -> None:
    go2 = sys.modules[load("gsde_go2").__module__]
    ends = [100, 200, 300, 400, 500, 600]
    cell = {"seed": 0, "costs": [(50, 9.0), (180, 8.0), (390, 7.0), (590, 6.0)]}
    slow = cell | {"noise": "gaussian", "curve": [(x, 10.0) for x in ends]}
    fast = cell | {"noise": "gsde", "curve": list(zip(ends, (0.0, 4.0, 16.0, 28.0, 40.0, 40.0), strict=True))}
    alone = slow | {"seed": 1}
    assert go2.at_equal_return([slow, fast, alone]) == [{"gaussian": (100, 9.0), "gsde": (400, 7.0)}]
