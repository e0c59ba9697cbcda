"""Gradient steps per second of ``learn/rlpd`` beside Stable-Baselines3's SAC, interleaved in one run, one thread each.

Same sizes: observation 48, action 12, two critics and an actor of 2 x 256, batch 256, blocks of 20 updates. A gradient
step is one update of all critics and their targets, drawing its minibatch included. RLPD moves the actor once per
block (its paper's schedule), SAC with every step (its own); RLPD's critics carry LayerNorm, SAC's do not. Set
``critics=10`` and ``subset=2`` for RLPD's own ensemble; the peer keeps its two.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import torch

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn.rlpd import Config, draw, make_agent, update

OBS, ACTIONS, ROWS = 48, 12, 20_000
Block = Any


def run(
    *, rounds: int = 12, critics: int = 2, subset: int = 2, layer_norm: bool = True, utd: int = 20
) -> dict[str, Any]:
    """Measure ``rounds`` blocks of each, in turns.

    Args:
        rounds: Blocks measured, after two for warming up.
        critics: Members of our ensemble.
        subset: Members in the minimum of our target.
        layer_norm: Whether our critics carry LayerNorm.
        utd: Critic updates per block.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours = _ours(Config(critics=critics, subset=subset, layer_norm=layer_norm, utd=utd))
        peer = _peer(utd)
        times = np.array([(_seconds(ours), _seconds(peer)) for _ in range(rounds + 2)])[2:]  # (rounds, 2)
    finally:
        torch.set_num_threads(threads)
    step_us = times[:, 0] / utd * 1e6
    value, floor = (float(utd / np.median(column)) for column in times.T)
    return {
        "bench": "learner",
        "value": round(value, 1),
        "unit": "gradient steps/s",
        "floor": round(floor, 1),
        "ratio": round(float(np.median(times[:, 1] / times[:, 0])), 3),
        "p50_us": round(float(np.percentile(step_us, 50)), 1),
        "p99_us": round(float(np.percentile(step_us, 99)), 1),
        "setup": f"floor: SB3 SAC train(); UTD {utd}, {critics} critics (SB3 2), subset {subset}, LN {layer_norm}"
        f" (SB3 no LN), batch 256, 2x256, obs {OBS}, act {ACTIONS}, 1 thread each, {rounds} blocks in turns, "
        f"load {os.getloadavg()[0]:.1f}",
    }


def _seconds(block: Block) -> float:
    began = time.perf_counter()
    block()
    return time.perf_counter() - began


def _ours(cfg: Config) -> Block:
    agent = make_agent(cfg, obs_size=OBS, num_actions=ACTIONS)
    replay, rng = Replay(ROWS, transition_columns(OBS, ACTIONS)), np.random.default_rng(0)
    columns = {name: np.tanh(rng.normal(size=(ROWS, w) if w else ROWS)) for name, w in replay.columns.items()}
    replay.extend(columns | {"terminated": np.zeros(ROWS)})

    def block() -> None:
        update(agent, draw(replay, None, cfg, rng), cfg)

    return block


def _peer(utd: int) -> Block:
    import gymnasium
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import configure

    class Blank(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-9.0, 9.0, (OBS,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    sac = SAC("MlpPolicy", Blank(), batch_size=256, buffer_size=ROWS, device="cpu", seed=0)
    sac.set_logger(configure(None, []))
    rng = np.random.default_rng(0)
    for obs, next_obs, action in zip(
        rng.normal(size=(ROWS, 1, OBS)),
        rng.normal(size=(ROWS, 1, OBS)),
        rng.uniform(-1, 1, (ROWS, 1, ACTIONS)),
        strict=True,
    ):
        sac.replay_buffer.add(obs, next_obs, action, np.zeros(1), np.zeros(1), [{}])  # pyright: ignore[reportOptionalMemberAccess]
    return lambda: sac.train(gradient_steps=utd, batch_size=256)
