"""APRL in a small world: it keeps within its box, runs where the first box cannot, and a killed run goes on exactly."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robot_rl.learn import aprl, aprl_loop, checkpoint
from robot_rl.learn.aprl_box import Growth, Penalty
from robot_rl.learn.aprl_dynamics import Gate
from robot_rl.learn.metrics import read_metrics
from tests.learn.sprint import Sprint
from tests.learn.toy_env import PointMass

FAST = replace(
    aprl.LEARNER, hidden=(24,), actor_hidden=(24,), batch=32, utd=2, start_steps=100, discount=0.9, tau=0.02,
    actor_lr=2e-3, critic_lr=2e-3, temperature_lr=3e-3, log_every=100, save_every=100,
)  # fmt: skip
CFG = aprl.Config(
    rlpd=FAST, growth=Growth(low=0.2, high=0.6, steps=400), penalty=Penalty(linear=1.0), dynamics_hidden=(24,),
    gate=Gate(threshold=float("inf"), window=64, warmup=1), dynamics_lr=1e-3, total_steps=500,
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def learn(cfg: aprl.Config, out: Path, *, reach: float = 1.0) -> dict[str, list[float]]:
    """Columns of the metrics of a run in a fresh world."""
    world = Sprint(reach=reach)
    aprl_loop.train(cfg, world, out, watch=world.speed, progress=False)
    rows = read_metrics(out / "metrics.jsonl")
    return {name: [row.get(name, 0.0) for row in rows] for name in rows[-1]}


def test_box_holds_the_actions_and_grows_beyond_what_a_hard_limit_allows(tmp_path: Path) -> None:
    """Hard limits at the first box allow a speed of 1 of the 2 that are best; without a box the beginner falls."""
    boxed = learn(CFG, tmp_path / "aprl")
    free = learn(replace(CFG, growth=aprl.UNLIMITED, total_steps=200), tmp_path / "free")
    assert boxed["box/half_width"] == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.6])
    assert boxed["box/beyond"][0] < 0.2 and boxed["box/beyond"][-1] < 0.2
    assert sum(boxed["episode/falls"][:2]) <= 0.6 * sum(free["episode/falls"])
    assert boxed["watched/speed"][-1] > 1.15  # 15 % more than the hard limit's best


def test_stronger_motors_are_a_surprise_that_shrinks_the_box(tmp_path: Path) -> None:
    cfg = replace(CFG, total_steps=300)
    grown = aprl_loop.train(cfg, Sprint(), tmp_path / "before", progress=False)
    path, known, half_width = checkpoint.latest(tmp_path / "before" / "checkpoints"), grown.error, grown.half_width
    world = Sprint(seed=1)
    world.gain *= 3.0
    cfg = replace(cfg, total_steps=400, gate=Gate(threshold=4.0 * known, window=64, warmup=1))
    grown = aprl_loop.train(cfg, world, tmp_path / "after", start=path, progress=False)
    assert grown.shrunk > 0 and grown.half_width < 0.8 * half_width
    assert grown.agent.actor_updates == 300, "what was learnt before went on"


@pytest.mark.parametrize("at", [100, 200])  # in the random steps, and behind
def test_run_that_was_killed_goes_on_exactly(tmp_path: Path, at: int) -> None:
    cfg = replace(CFG, gate=Gate(threshold=0.2, window=64, warmup=1))
    ends = {}
    for name, parts in (("whole", (300,)), ("parts", (at, 300))):
        for total in parts:
            grown = aprl_loop.train(
                replace(cfg, total_steps=total), Sprint(), tmp_path / name, resume=total != parts[0], progress=False
            )  # fmt: skip
        ends[name] = (read_metrics(tmp_path / name / "metrics.jsonl"), grown)
    (rows, grown), (again, other) = ends["whole"], ends["parts"]
    assert rows == again
    assert torch.equal(grown.agent.critics, other.agent.critics)
    assert (grown.ramp, grown.mean_error, grown.shrunk) == (other.ramp, other.mean_error, other.shrunk)


def test_checkpoint_is_read_without_its_world_and_tells_the_box(tmp_path: Path) -> None:
    cfg = replace(CFG, total_steps=150, hold_margin=0.1)
    grown = aprl_loop.train(cfg, Sprint(), tmp_path, progress=False)
    path = checkpoint.latest(tmp_path / "checkpoints")
    assert path is not None
    read, settings = aprl.load_grown(path)
    assert settings == cfg and read.steps == 150
    obs = torch.randn(5, 2)
    assert torch.equal(read.actor(obs), grown.actor(obs))
    assert read.box.half_width == pytest.approx(0.2 + 0.4 * 150 / 400) and read.box.hold_margin == 0.1


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the world has 3"):
        aprl_loop.train(CFG, PointMass(3), tmp_path / "three", progress=False)
    with pytest.raises(ValueError, match="nothing to resume"):
        aprl_loop.train(CFG, Sprint(), tmp_path / "none", resume=True, progress=False)
    short = replace(CFG, total_steps=100)
    aprl_loop.train(short, Sprint(), tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="already holds checkpoints"):
        aprl_loop.train(short, Sprint(), tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="was trained with penalty"):
        other = replace(short, penalty=Penalty(linear=2.0))
        aprl_loop.train(other, Sprint(), tmp_path / "run", resume=True, progress=False)
    shutil.copytree(tmp_path / "run" / "checkpoints", tmp_path / "copy")
    with pytest.raises(ValueError, match="already holds"):
        aprl_loop.train(short, Sprint(), tmp_path / "run", start=tmp_path / "copy" / "00000100.npz", progress=False)
