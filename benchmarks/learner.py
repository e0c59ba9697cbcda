"""Gradient steps per second of ``learn/rlpd`` beside Stable-Baselines3's SAC and beside its own bare products.

One thread each, in turns. Observation 48, action 12, an actor and critics of 2 x 256, batch 256, blocks of 20 updates.
A gradient step is one update of all critics and their targets, drawing its minibatch included.

``floor`` is SB3's SAC with as many critics of the same layers (its target takes the minimum over all of them, ours over
``subset``; it moves the actor with every step, ours once per block, as REDQ, DroQ and RLPD do). ``layer_norm`` and
``dropout`` are ours alone; they are off by default, so that both sides learn the same networks.

The setup also tells the share of our time that a block's matrix products, Adam and the target average need on flat
memory, with nothing between them, and every number again by CPU time, as on a machine at rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn.fused import adam_step
from robot_rl.learn.rlpd import Config, draw, make_agent, update
from robot_rl.zoo.benchmarks._study import one_thread  # pyright: ignore[reportMissingImports]  # found by zoo
from robot_rl.zoo.benchmarks.env import spent  # pyright: ignore[reportMissingImports]  # found by zoo

OBS, ACTIONS, ROWS, BATCH, HIDDEN = 48, 12, 20_000, 256, 256
Block = Callable[[], Any]


def run(
    *,
    rounds: int = 12,
    critics: int = 2,
    subset: int = 2,
    layer_norm: bool = False,
    dropout: float = 0.0,
    utd: int = 20,
) -> dict[str, Any]:
    """Measure ``rounds`` blocks of each, in turns.

    Args:
        rounds: Blocks measured, after two for warming up.
        critics: Members of the ensemble, on both sides.
        subset: Members in the minimum of our target.
        layer_norm: Whether our critics carry LayerNorm.
        dropout: Of our critics.
        utd: Critic updates per block.
    """
    cfg = Config(critics=critics, subset=subset, layer_norm=layer_norm, dropout=dropout, utd=utd)
    with one_thread():
        blocks = (_ours(cfg), _peer(utd, critics), _products(cfg))
        times = np.array([[spent(block) for block in blocks] for _ in range(rounds + 2)])[2:]  # (rounds, 3, 2)
    wall, cpu = np.moveaxis(times, -1, 0)  # (rounds, 3) each [s]
    step_us = wall[:, 0] / utd * 1e6
    ours, peer, products = utd / np.median(cpu, 0)
    return {
        "bench": "learner",
        "value": round(utd / float(np.median(wall[:, 0])), 1),
        "unit": "gradient steps/s",
        "floor": round(utd / float(np.median(wall[:, 1])), 1),
        "ratio": round(float(np.median(wall[:, 1] / wall[:, 0])), 3),
        "p50_us": round(float(np.percentile(step_us, 50)), 1),
        "p99_us": round(float(np.percentile(step_us, 99)), 1),
        "setup": f"floor: SB3 SAC train() with {critics} critics; of the bare products' "
        f"{utd / float(np.median(wall[:, 2])):.1f}/s {float(np.median(wall[:, 2] / wall[:, 0])):.3f}; by CPU time, as "
        f"on a machine at rest: {ours:.1f}/s, SB3 {peer:.1f}/s, ratio {np.median(cpu[:, 1] / cpu[:, 0]):.2f}, bare "
        f"products {products:.1f}/s, share {np.median(cpu[:, 2] / cpu[:, 0]):.3f}; UTD {utd}, {critics} critics, "
        f"subset {subset}, LN {layer_norm}, dropout {dropout} (SB3 neither), batch {BATCH}, 2x{HIDDEN}, obs {OBS}, act "
        f"{ACTIONS}, 1 thread each, {rounds} blocks in turns, load {os.getloadavg()[0]:.1f}",
    }


def _ours(cfg: Config) -> Block:
    agent = make_agent(cfg, obs_size=OBS, num_actions=ACTIONS)
    replay, rng = Replay(ROWS, transition_columns(OBS, ACTIONS)), np.random.default_rng(0)
    columns = {name: np.tanh(rng.normal(size=(ROWS, w) if w else ROWS)) for name, w in replay.columns.items()}
    replay.extend(columns | {"terminated": np.zeros(ROWS)})

    def block() -> None:
        update(agent, draw(replay, None, cfg, rng), cfg)

    return block


def _peer(utd: int, critics: int) -> Block:
    import gymnasium
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import configure

    class Blank(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-9.0, 9.0, (OBS,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    sac = SAC(
        "MlpPolicy", Blank(), batch_size=BATCH, buffer_size=ROWS, device="cpu", seed=0,
        policy_kwargs={"n_critics": critics},
    )  # fmt: skip
    sac.set_logger(configure(None, []))
    rng = np.random.default_rng(0)
    for obs, next_obs, action in zip(
        rng.normal(size=(ROWS, 1, OBS)),
        rng.normal(size=(ROWS, 1, OBS)),
        rng.uniform(-1, 1, (ROWS, 1, ACTIONS)),
        strict=True,
    ):
        sac.replay_buffer.add(obs, next_obs, action, np.zeros(1), np.zeros(1), [{}])  # pyright: ignore[reportOptionalMemberAccess]
    return lambda: sac.train(gradient_steps=utd, batch_size=BATCH)


def _products(cfg: Config) -> Block:
    """A block's matrix products into memory that is there, Adam and the target average over flat memory; no more.

    Per update the targets' values, the critics' values, gradients of all weights, and of the hidden layers; per block
    the actor's next actions, its own step through all critics, and its Adam.
    """
    e, m, wide = cfg.critics, int(cfg.subset), OBS + ACTIONS
    critics, targets = _Stack(e, wide, BATCH), _Stack(m, wide, BATCH)
    ahead, actor = _Stack(1, OBS, cfg.utd * BATCH, out=2 * ACTIONS), _Stack(1, OBS, BATCH, out=2 * ACTIONS)
    flat = torch.zeros(critics.size)
    target, mine, mover = torch.zeros_like(flat), _adam(critics.size), _adam(actor.size)

    @torch.no_grad()
    def block() -> None:
        ahead.forward()
        for _ in range(cfg.utd):
            targets.forward()
            critics.forward()
            critics.backward()
            critics.weights()
            adam_step(mine)
            target.lerp_(flat, cfg.tau)
        actor.forward()
        critics.forward()
        critics.backward()
        critics.inputs()
        actor.backward()
        actor.weights()
        adam_step(mover)

    return block


def _adam(size: int) -> torch.optim.Adam:
    flat = torch.nn.Parameter(torch.randn(size))
    flat.grad = torch.randn(size)
    return torch.optim.Adam([flat], lr=1e-9, fused=True)


class _Stack:
    """The products of E networks of two hidden layers, ``inputs`` to ``out``, over ``rows``, without anything else."""

    def __init__(self, members: int, inputs: int, rows: int, *, out: int = 1) -> None:
        def random(*shape: int) -> Tensor:
            return torch.randn(shape) * 0.05  # small: nothing grows into slow numbers

        e, h = members, HIDDEN
        self.x = random(rows, inputs).expand(e, rows, inputs)
        self.w = [random(e, inputs, h), random(e, h, h), random(e, h, out)]
        self.grad = [torch.empty_like(w) for w in self.w]
        self.z, self.d = ([random(e, rows, h) for _ in range(2)] for _ in range(2))
        self.q, self.dq, self.dx = random(e, rows, out), random(e, rows, out), random(e, rows, inputs)
        self.size = sum(w.numel() + w.shape[0] * w.shape[2] for w in self.w)

    def forward(self) -> None:
        for x, w, y in zip((self.x, *self.z), self.w, (*self.z, self.q), strict=True):
            torch.bmm(x, w, out=y)

    def backward(self) -> None:
        torch.bmm(self.dq, self.w[2].transpose(1, 2), out=self.d[1])
        torch.bmm(self.d[1], self.w[1].transpose(1, 2), out=self.d[0])

    def weights(self) -> None:
        for x, d, grad in zip((self.x, *self.z), (*self.d, self.dq), self.grad, strict=True):
            torch.bmm(x.transpose(1, 2), d, out=grad)

    def inputs(self) -> None:
        torch.bmm(self.d[0], self.w[0].transpose(1, 2), out=self.dx)
