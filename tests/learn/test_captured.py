"""Critic steps recorded once and replayed: the numbers of the plain steps; a card itself is not needed to test it.

A CPU has no graphs. Here a symbolic trace takes the place: like a graph it keeps a fixed list of operations on fixed
memory, and it refuses whatever looks at a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from robot_rl.learn import critic_steps, dropout
from robot_rl.learn.agent import Agent
from robot_rl.learn.captured import WARM_UP, Captured
from robot_rl.learn.on_device import OnDevice
from robot_rl.learn.rlpd import Config, fix_statistics, make_agent, update
from robot_rl.learn.rlpd_loop import train
from tests.learn.test_rlpd import ROWS, A, D, make_batch
from tests.learn.toy_env import PointMass


def traced(agent: Agent) -> Callable[[Callable[[], Tensor]], Callable[[], Tensor]]:
    """Return a recorder by tracing, which executes what it records: the agent is put back afterwards."""

    def record(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        state = agent.critic_adam.state[agent.critics]
        kept = [agent.critics.detach(), agent.targets, *state.values()]
        before = [x.clone() for x in kept]
        graph = make_fx(call)()
        with torch.no_grad():
            for x, old in zip(kept, before, strict=True):
                x.copy_(old)
        return graph

    return record


def fresh(cfg: Config) -> Agent:
    agent = make_agent(replace(cfg, seed=1), obs_size=D, num_actions=A)
    fix_statistics(agent, make_batch(200, seed=9).obs)
    return agent


@pytest.mark.parametrize("name", ["sac", "rlpd", "rlpd with gsde", "fine-tuning"])
def test_replayed_steps_are_the_plain_ones(name: str) -> None:
    cfg = replace(ROWS[name], grad_clip=1.0)
    plain, replayed = fresh(cfg), fresh(cfg)
    captured = Captured(partial(critic_steps.fit, replayed, cfg), traced(replayed))
    for seed in range(WARM_UP + 3):
        batch = make_batch(cfg.utd * cfg.batch, seed=seed)
        found = critic_steps.fit(plain, cfg, critic_steps.prepare(plain, batch, cfg))
        again = captured(critic_steps.prepare(replayed, batch, cfg))
        torch.testing.assert_close(again, found, atol=0.0, rtol=0.0)
        for one, other in ((plain.critics, replayed.critics), (plain.targets, replayed.targets)):
            assert torch.equal(one, other)
    before = replayed.critics.detach().clone()
    captured(critic_steps.prepare(replayed, batch, cfg))
    assert not torch.equal(before, replayed.critics)


def test_another_shape_begins_anew_and_results_stay() -> None:
    recorded: list[int] = []

    def record(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        recorded.append(1)
        return call

    captured = Captured(lambda x, scale: x.sum() * scale, record)
    results = [captured(torch.full((3,), float(i)), 2.0) for i in range(5)]
    assert [float(x) for x in results] == [0.0, 6.0, 12.0, 18.0, 24.0] and len(recorded) == 1
    assert float(captured(torch.ones(4), 2.0)) == 8.0 and float(captured(torch.ones(4), 3.0)) == 12.0
    assert len(recorded) == 1  # both are new: neither has been seen often enough


def test_what_looks_at_a_number_is_no_graph() -> None:
    captured = Captured(lambda x: x * float(x.sum()), lambda call: make_fx(call)())
    for _ in range(WARM_UP):
        assert captured(torch.ones(2)).tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match="value out of a tracing tensor"):
        captured(torch.ones(2))


def test_lists_of_dropped_units_are_equally_long_and_say_the_same() -> None:
    def drawn(device: str) -> list[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(3)
        passes = dropout.draw(0.1, (40, 30), members=2, rows=16, passes=4, generator=generator, device=device)
        return [x.at for x in passes if x is not None]

    plain = drawn("cpu")
    generator = torch.Generator().manual_seed(3)
    found = dropout.draw(0.1, (40, 30), members=2, rows=16, passes=4, generator=generator)
    assert len(plain) == len(found) == 4
    for layer, size in enumerate((2 * 16 * 40, 2 * 16 * 30)):
        filled = [dropout.filled(x[layer], 0.1 * size) for x in plain]
        assert len({len(x) for x in filled}) == 1
        assert all(set(x.tolist()) == set(y[layer].tolist()) for x, y in zip(filled, plain, strict=True))
    assert len(dropout.filled(torch.empty(0, dtype=torch.int64), 3.0)) == 0
    many = torch.arange(100)
    assert dropout.filled(many, 1.0) is many


def test_a_run_through_the_adapter_is_the_same_run(tmp_path: Path) -> None:
    cfg = Config(
        critics=3, hidden=(8,), actor_hidden=(8,), utd=2, batch=8, total_steps=120, start_steps=40, save_every=60,
        log_every=60, dropout=0.1,
    )  # fmt: skip
    plain = train(cfg, PointMass(2, seed=1, episode=5), tmp_path / "plain", progress=False)
    moved = train(cfg, OnDevice(PointMass(2, seed=1, episode=5), "cpu"), tmp_path / "moved", progress=False)
    assert torch.equal(plain.critics, moved.critics)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
@pytest.mark.parametrize("name", ROWS)
def test_a_card_learns_what_the_cpu_does(name: str) -> None:
    cfg = ROWS[name]
    agents = fresh(cfg), fresh(cfg).to("cuda")
    for seed in range(WARM_UP + 4):
        batch = make_batch(cfg.utd * cfg.batch, seed=seed)
        here, there = (update(agent, batch, cfg) for agent in agents)
        assert there == pytest.approx(here, rel=1e-3, abs=1e-4)
    torch.testing.assert_close(agents[1].critics.cpu(), agents[0].critics, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(agents[1].targets.cpu(), agents[0].targets, atol=1e-4, rtol=1e-3)
    kept = agents[1].snapshot()
    back = fresh(cfg).to("cuda")
    back.restore(kept)
    batch = make_batch(cfg.utd * cfg.batch, seed=99)
    assert update(back, batch, cfg) == pytest.approx(update(agents[1], batch, cfg), rel=1e-4)
