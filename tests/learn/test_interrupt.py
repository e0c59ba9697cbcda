"""Ctrl-C in the middle of a step: every loop saves where it came to and goes on from there as if nothing had been."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robot_rl.learn import (
    aprl_loop,
    checkpoint,
    distill_loop,
    imitation_loop,
    iql_loop,
    pixels_loop,
    ppo_loop,
    practice_loop,
    rlif_loop,
    rlpd_loop,
)
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.overseer import Overseer
from tests.learn import (
    test_aprl_loop,
    test_distill,
    test_imitation,
    test_iql,
    test_pixels,
    test_ppo_loop,
    test_practice,
    test_rlif,
    test_rlpd_loop,
)
from tests.learn.goal_world import GoalWorld, overseer, slow, straight, value
from tests.learn.spot_world import SpotWorld
from tests.learn.sprint import Sprint
from tests.learn.toy_env import PointMass
from tests.learn.yard import Yard

Train = Callable[..., Any]


@pytest.fixture(autouse=True)
def ctrl_c_raises() -> Any:
    """As in a program that a person started; runners in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pressing(act: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return ``act`` with Ctrl-C in the middle of its call number ``at``."""
    count = itertools.count(1)

    def acted(*args: Any, **kwargs: Any) -> Any:
        if next(count) == at:
            signal.raise_signal(signal.SIGINT)
        return act(*args, **kwargs)

    return acted


def rlpd(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    agent = rlpd_loop.train(test_rlpd_loop.SMALL, world, out, **kwargs)
    return [agent.critics, agent.generator.get_state(), *agent.actor.parameters()]


def rlpd_gsde(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    cfg = replace(test_rlpd_loop.SMALL, exploration="gsde", mean_clip=2.0)
    agent = rlpd_loop.train(cfg, world, out, **kwargs)
    return [agent.critics, agent.generator.get_state(), *agent.actor.parameters()]


def ppo(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    return list(ppo_loop.train(test_ppo_loop.TINY, world, out, **kwargs).actor.state_dict().values())


def distill(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    student = distill_loop.train(test_distill.TINY, world, out, test_distill.teacher(), **kwargs)
    return list(student.actor.state_dict().values())


def aprl(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    agent = aprl_loop.train(replace(test_aprl_loop.CFG, total_steps=300), world, out, **kwargs).agent
    return [agent.critics, *agent.actor.parameters()]


def rlif(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    cfg = test_rlif.SMALL
    agent = rlif_loop.train(cfg, world, out, overseer(cfg.strategy, 4, seed=0), **kwargs).agent
    return [agent.critics, *agent.actor.parameters()]


def imitation(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    boss = Overseer(test_imitation.CFG.strategy, 4, expert=slow, judge=value, reference=straight, seed=0)
    return list(imitation_loop.train(test_imitation.CFG, world, out, boss, **kwargs).actor.parameters())


def practice(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    cfg = replace(test_practice.CFG, total_steps=600)
    return [agent.critics for agent in practice_loop.train(cfg, world, out, **kwargs).agents]


def pixels(world: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    cfg = replace(test_pixels.SMALL, offline_blocks=3)
    seer = pixels_loop.train(cfg, world, out, prior=test_pixels.shown(4), **kwargs)
    return [seer.heads.critics, *seer.encoder.parameters()]


def iql(data: Any, out: Path, **kwargs: Any) -> list[torch.Tensor]:
    student = iql_loop.train(test_iql.SMALL, data, out, **kwargs)
    return [student.critics, *student.policy.parameters()]


def point(num_envs: int) -> Callable[[], PointMass]:
    return lambda: PointMass(num_envs, seed=1, episode=5)


CASES: dict[str, tuple[Train, Callable[[], Any], str, int, int]] = {
    "rlpd before it learns": (rlpd, point(8), "step", 5, 40),
    "rlpd": (rlpd, point(8), "step", 31, 248),
    "rlpd with gSDE": (rlpd_gsde, point(8), "step", 31, 248),
    "rlpd in its last step": (rlpd, point(8), "step", 50, 400),
    "ppo before it learns": (ppo, point(32), "step", 3, 0),
    "ppo": (ppo, point(32), "step", 43, 5),
    "distill": (distill, point(32), "step", 54, 5),
    "aprl": (aprl, Sprint, "step", 237, 237),
    "rlif while the expert shows": (rlif, lambda: GoalWorld(4), "step", 3, 12),
    "rlif": (rlif, lambda: GoalWorld(4), "step", 150, 600),
    "imitation": (imitation, lambda: GoalWorld(4), "step", 3, 1),
    "practice": (practice, Yard, "step", 450, 450),
    "pixels": (pixels, lambda: SpotWorld(2), "step", 29, 58),
    "iql": (iql, lambda: test_iql.bandit(1.0, 0.0, 0.5), "sample_many", 13, 65),
}
"""Who learns, in what, Ctrl-C in which call of which of its methods, and the checkpoint that is then the newest."""


@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_run_is_saved_where_it_was_and_goes_on_exactly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, make, method, call, newest = CASES[name]
    torch.set_num_threads(1)
    whole = train(make(), tmp_path / "whole", progress=False)
    world = make()
    monkeypatch.setattr(world, method, pressing(getattr(world, method), call))
    with pytest.raises(KeyboardInterrupt):
        train(world, tmp_path / "cut", progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert checkpoint.latest(tmp_path / "cut/checkpoints") == checkpoint.numbered(tmp_path / "cut/checkpoints", newest)
    again = train(make(), tmp_path / "cut", resume=True, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    rows = [read_metrics(tmp_path / folder / "metrics.jsonl") for folder in ("whole", "cut")]
    whole_rows, cut_rows = ([{k: v for k, v in r.items() if not k.startswith("time/")} for r in x] for x in rows)
    assert whole_rows == cut_rows


def test_pixels_saves_what_it_learnt_before_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pixels(SpotWorld(2), tmp_path / "whole", progress=False)
    monkeypatch.setattr(pixels_loop, "update", pressing(pixels_loop.update, 2))
    with pytest.raises(KeyboardInterrupt):
        pixels(SpotWorld(2), tmp_path / "cut", progress=False)
    path = checkpoint.latest(tmp_path / "cut/checkpoints")
    assert path is not None and checkpoint.load(path)["seer"]["offline"] == 2 and path.stem == "00000000"
    again = pixels(SpotWorld(2), tmp_path / "cut", resume=True, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_the_first_ctrl_c_waits_and_the_second_does_not() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), held_interrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        done.append("after the first")
        assert stop.asked
        signal.raise_signal(signal.SIGINT)
        done.append("after the second")
    assert done == ["after the first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_no_loop_answered_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), held_interrupt():
        signal.raise_signal(signal.SIGINT)
    with held_interrupt() as stop:
        stop.leave()  # nobody asked


def test_an_error_is_told_though_somebody_wants_to_stop() -> None:
    with pytest.raises(FloatingPointError), held_interrupt():
        signal.raise_signal(signal.SIGINT)
        raise FloatingPointError


def test_a_callers_own_handler_and_other_threads_are_left_alone() -> None:
    asked: list[int] = []

    def ours(number: int, frame: object) -> None:
        asked.append(number)

    signal.signal(signal.SIGINT, ours)
    with held_interrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        assert asked == [signal.SIGINT] and not stop.asked
    assert signal.getsignal(signal.SIGINT) is ours
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen: list[Any] = []

    def elsewhere() -> None:
        with held_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
