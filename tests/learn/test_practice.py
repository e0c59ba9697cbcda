"""Practice without resets: turns are counted, a person is asked when they fail, and it learns what episodes teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.practice import Config, Turns, unpack
from robot_rl.learn.practice_loop import train
from tests.learn.yard import Yard, arrives

LEARNING = rlpd.Config(
    critics=2, subset=2, hidden=(32, 32), actor_hidden=(32, 32), utd=2, batch=64, blocks_per_step=0.5, discount=0.95,
    temperature=0.05, target_entropy=-2.0, start_steps=200, log_every=100, save_every=500, capacity=5_000,
    critic_lr=2e-3, actor_lr=2e-3, tau=0.02, backup_entropy=False,
)  # fmt: skip
CFG = Config(rlpd=LEARNING, turn_steps=25, patience=3, total_steps=2_000)


def test_turns_go_round_and_a_person_comes_when_the_way_back_fails() -> None:
    turns, cfg = Turns(2), Config(turn_steps=2, patience=2)
    assert turns.count(cfg, reached=False, stuck=False) == (False, False)
    assert turns.count(cfg, reached=False, stuck=False) == (True, False)  # time is up; the way back begins
    assert turns.phase == 1
    assert turns.count(cfg, reached=True, stuck=False) == (True, False)
    assert (turns.phase, turns.failed) == (0, 0)
    for _ in range(2):
        assert turns.count(cfg, reached=True, stuck=False) == (True, False)
        turns.count(cfg, reached=False, stuck=False)
        last = turns.count(cfg, reached=False, stuck=False)
    assert last == (True, True)  # the second failure in a row
    assert (turns.phase, turns.failed, turns.hard_resets, turns.steps) == (0, 0, 1, 9)
    assert turns.count(cfg, reached=False, stuck=True) == (True, True)
    row = turns.watched()
    assert row["practice/resets_per_1000"] == pytest.approx(200.0)
    assert row["practice/success_0"] == pytest.approx(2 / 4)
    assert row["practice/success_1"] == pytest.approx(1 / 3)


def test_without_patience_a_person_resets_after_every_turn() -> None:
    turns, cfg = Turns(2), Config(turn_steps=5, patience=0)
    assert turns.count(cfg, reached=True, stuck=False) == (True, True)
    assert (turns.phase, turns.hard_resets) == (0, 1)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policies is \(0, 2\); expected 0, 1, \.\.\. without a gap"):
        Config(policies=(0, 2))
    with pytest.raises(ValueError, match=r"the world has 2 phases; policies \(0,\) are for others"):
        train(replace(CFG, policies=(0,)), Yard(), tmp_path, progress=False)


def test_a_resumed_practice_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    cfg = replace(CFG, total_steps=800, rlpd=replace(LEARNING, save_every=400))
    whole = train(cfg, Yard(), tmp_path / "whole", progress=False)
    train(replace(cfg, total_steps=400), Yard(), tmp_path / "halves", progress=False)
    halves = train(cfg, Yard(seed=5), tmp_path / "halves", resume=True, progress=False)
    for a, b in zip(whole.agents, halves.agents, strict=True):
        assert torch.equal(a.critics, b.critics)
        assert all(torch.equal(x, y) for x, y in zip(a.actor.parameters(), b.actor.parameters(), strict=True))
    assert whole.turns.snapshot() == halves.turns.snapshot()
    stored = checkpoint.latest(tmp_path / "whole/checkpoints")
    assert stored is not None
    again, settings = unpack(checkpoint.load(stored))
    assert settings == cfg
    assert torch.equal(again.actor(torch.ones(1, 2)), whole.actor(torch.ones(1, 2)))
    with pytest.raises(ValueError, match="was trained with turn_steps = 25; the recipe says 30"):
        train(replace(cfg, turn_steps=30), Yard(), tmp_path / "halves", resume=True, progress=False)


def test_practice_learns_as_episodes_do_with_far_less_work_for_a_person(tmp_path: Path) -> None:
    practised = train(CFG, Yard(), tmp_path / "practice", progress=False)
    taught = train(replace(CFG, patience=0), Yard(), tmp_path / "episodes", progress=False)
    assert arrives(practised.actor) >= 0.9
    assert arrives(taught.actor) >= 0.9
    assert arrives(practised.agents[1].actor, phase=1) >= 0.9
    assert taught.turns.hard_resets >= 100
    assert practised.turns.hard_resets <= 0.3 * taught.turns.hard_resets
    rows = read_metrics(tmp_path / "practice/metrics.jsonl")
    assert rows[-1]["practice/resets_per_1000"] == pytest.approx(practised.turns.hard_resets / 2.0)
