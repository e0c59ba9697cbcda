"""Cloning: only what the expert said is learnt, by each method from its own states; resumed runs are exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.data.replay import Replay
from robot_rl.learn import checkpoint, fused
from robot_rl.learn.imitation import Clone, Config, clone_columns, fit, make_clone, reference_step, step, unpack
from robot_rl.learn.imitation_loop import train
from robot_rl.learn.overseer import Overseer
from tests.learn.goal_world import BY_VALUE, GoalWorld, slow, straight, value

CFG = Config(
    strategy=replace(BY_VALUE, errors=0.0), demos=2, rounds=2, episodes=4, pretrain_updates=20, round_updates=10,
    hidden=(32, 32), batch=64, learning_rate=3e-3,
)  # fmt: skip


def learn(cfg: Config, out: Path, *, resume: bool = False, seed: int = 0) -> Clone:
    boss = Overseer(cfg.strategy, 4, expert=slow, judge=value, reference=straight, seed=seed)
    return train(cfg, GoalWorld(4, seed=seed), out, boss, resume=resume, progress=False)


def labelled(out: Path) -> dict[str, np.ndarray]:
    path = checkpoint.latest(out / "checkpoints")
    assert path is not None
    state = checkpoint.load(path)["data"]
    replay = Replay(state["capacity"], state["columns"])
    return replay.split(state["rows"].numpy())


def of_expert(data: dict[str, np.ndarray]) -> float:
    """Share of the labels that are what the expert does there."""
    right = slow({"policy": torch.from_numpy(data["obs"].copy())}).numpy()
    return float(np.isclose(data["action"], right, atol=1e-5).all(-1).mean())


@pytest.mark.parametrize("method", ["bc", "dagger", "hg_dagger"])
def test_every_label_is_the_experts(method: str, tmp_path: Path) -> None:
    clone = learn(replace(CFG, method=method), tmp_path)
    data = labelled(tmp_path)
    assert of_expert(data) == 1.0
    assert clone.round == (1 if method == "bc" else 3)
    assert clone.updates == (20 if method == "bc" else 40)
    if method == "bc":
        assert len(data["obs"]) == clone.steps
    else:
        assert 0.2 * clone.steps < len(data["obs"]) < clone.steps


def test_the_released_baseline_clones_the_policy_itself_too(tmp_path: Path) -> None:
    clone = learn(replace(CFG, clone_robot_steps=True), tmp_path)
    data = labelled(tmp_path)
    assert len(data["obs"]) == clone.steps
    assert of_expert(data) < 0.95


def test_a_clone_does_what_it_was_shown(tmp_path: Path) -> None:
    obs = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    data = Replay(500, clone_columns(2, 2))
    data.extend({"obs": obs, "action": 0.5 * obs})
    clone = make_clone(CFG, {"policy": 2, "action": 2})
    first = fit(clone, data, 10, CFG, np.random.default_rng(0))
    fit(clone, data, 300, CFG, np.random.default_rng(0))
    last = fit(clone, data, 10, CFG, np.random.default_rng(0))
    assert last < 1e-3 < first
    data.rows[:] = np.inf
    with pytest.raises(FloatingPointError, match="cloning error"):
        fit(clone, data, 1, CFG, np.random.default_rng(0))


@pytest.mark.parametrize("activation", ["relu", "elu", "tanh"])
def test_the_closed_form_takes_the_steps_of_autograd(activation: str) -> None:
    """Thirty steps of AdamW, weights decaying."""
    cfg, rng = replace(CFG, activation=activation, weight_decay=0.1), np.random.default_rng(0)
    obs, wanted = (torch.from_numpy(rng.uniform(-1, 1, (64, 3)).astype(np.float32)) for _ in range(2))
    clones = [make_clone(cfg, {"policy": 3, "action": 3}) for _ in range(2)]
    fused.gather(clones[0].actor.mlp)
    for _ in range(30):
        errors = [one(clone, obs, wanted) for one, clone in zip((step, reference_step), clones, strict=True)]
        assert torch.allclose(*errors, rtol=1e-4)
    fast, slow = (torch.nn.utils.parameters_to_vector(clone.actor.mlp.parameters()) for clone in clones)
    assert torch.allclose(fast, slow, rtol=1e-3, atol=1e-4)
    start = torch.nn.utils.parameters_to_vector(make_clone(cfg, {"policy": 3, "action": 3}).actor.mlp.parameters())
    assert not torch.allclose(fast, start, atol=1e-2)


def test_activations_without_a_closed_form_are_cloned_too() -> None:
    data = Replay(10, clone_columns(2, 2))
    data.extend({"obs": np.ones((10, 2), np.float32), "action": np.full((10, 2), 0.5, np.float32)})
    cfg = replace(CFG, activation="silu")
    clone = make_clone(cfg, {"policy": 2, "action": 2})
    first, last = (fit(clone, data, 50, cfg, np.random.default_rng(0)) for _ in range(2))
    assert last < first


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = learn(CFG, tmp_path / "whole")
    learn(replace(CFG, rounds=1), tmp_path / "halves")
    halves = learn(CFG, tmp_path / "halves", resume=True, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(whole.actor.parameters(), halves.actor.parameters(), strict=True))
    path = checkpoint.latest(tmp_path / "halves" / "checkpoints")
    assert path is not None
    again, cfg = unpack(checkpoint.load(path))
    assert cfg == CFG and again.steps == whole.steps
    assert torch.equal(again.actor(torch.ones(1, 2)), whole.actor(torch.ones(1, 2)))
    with pytest.raises(ValueError, match="may not begin over another"):
        learn(CFG, tmp_path / "halves")


def test_settings_that_make_no_sense_are_refused() -> None:
    wrong = (({"method": "gail"}, "no method"), ({"demos": 0}, "demos is 0"), ({"relabel": 0.0}, "relabel is 0.0"))
    for setting, says in wrong:
        with pytest.raises(ValueError, match=says):
            Config(**setting)
