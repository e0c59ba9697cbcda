"""What APRL is for, in a small world: further than hard limits in the end, no worse before, calmer when surprised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from robot_rl.learn import aprl, aprl_loop, checkpoint
from robot_rl.learn.aprl_dynamics import Gate
from robot_rl.learn.metrics import read_metrics
from tests.learn.sprint import Sprint
from tests.learn.test_aprl_loop import CFG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def learn(cfg: aprl.Config, out: Path, world: Sprint, start: Path | None = None) -> dict[str, list[float]]:
    aprl_loop.train(cfg, world, out, start=start, watch=world.speed, progress=False)
    rows = read_metrics(out / "metrics.jsonl")
    return {name: [row.get(name, 0.0) for row in rows] for name in rows[-1]}


def test_it_is_as_good_as_hard_limits_early_and_better_in_the_end(tmp_path: Path) -> None:
    """A fifth of the range allows a speed of 1, worth 0.75 per step; 2 is best, worth 1."""
    cfg = replace(CFG, total_steps=1_500)
    boxed = learn(cfg, tmp_path / "aprl", Sprint())
    narrow = learn(replace(cfg, growth=aprl.UNLIMITED), tmp_path / "narrow", Sprint(reach=0.2))
    assert boxed["watched/speed"][4] > 0.9 * narrow["watched/speed"][4]
    assert min(boxed["watched/speed"][-3:]) > 1.15 * max(narrow["watched/speed"][-3:])
    assert max(boxed["box/beyond"][-5:]) < 0.1
    assert sum(boxed["episode/falls"][-5:]) == 0.0


def test_gate_spares_falls_when_the_motors_become_stronger(tmp_path: Path) -> None:
    base = replace(CFG, total_steps=700)
    before = aprl_loop.train(base, Sprint(), tmp_path / "before", progress=False)
    start, falls = checkpoint.latest(tmp_path / "before" / "checkpoints"), {}
    for name, threshold in (("gated", 4.0 * before.error), ("ungated", float("inf"))):
        falls[name] = 0.0
        for seed in (1, 2):
            world = Sprint(seed=seed)
            world.gain *= 2.0
            cfg = replace(base, total_steps=1_000, gate=Gate(threshold, window=64, warmup=1))
            rows = learn(cfg, tmp_path / f"{name}{seed}", world, start)
            falls[name] += sum(rows["episode/falls"])
    assert falls["gated"] <= 0.6 * falls["ungated"]
