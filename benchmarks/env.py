"""Environment steps per second, observations and rewards included, over the raw batched physics below them.

Peer: ``mujoco.batch.Batch.step`` of the same model on the same threads with the joint targets that the environment
just sent, nothing read back, nobody reset. Both run in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import os
import time
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch

from robot_rl import zoo
from robot_rl.sim.env import Env, make_env
from robot_rl.sim.mujoco_cpu import MujocoCpu

SPREAD = ("geom_friction", "body_mass", "body_inertia", "body_ipos", "dof_damping", "actuator_delay")
"""Model fields that the task's randomisation spreads over the copies."""


def run(
    *,
    task: str = "go2_velocity",
    num_envs: int = 256,
    steps: int = 25,
    rounds: int = 20,
    threads: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Time ``rounds`` turns of ``steps`` control steps each; the medians over turns count."""
    torch.set_num_threads(1)
    env = make_env(zoo.load("sim", f"tasks/{task}").task(), num_envs=num_envs, seed=seed, threads=threads)
    actions = _actions(num_envs, env.num_actions, steps, seed)
    env.reset()
    env.stagger()
    for action in actions[:20]:
        env.step(action)
    raw = RawPhysics(env, threads)
    ours: list[float] = []
    floor: list[float] = []
    latency: list[float] = []
    for _ in range(rounds):
        raw.begin_like_env()
        table, took = _turn(env, actions)
        ours.append(sum(took))
        latency += took
        floor.append(raw.time(table))
    env.close()
    per_turn = num_envs * steps
    ratios = np.array(floor) / np.array(ours)
    return {
        "bench": "env",
        "value": per_turn / float(np.median(ours)),
        "unit": "env steps/s",
        "floor": per_turn / float(np.median(floor)),
        "ratio": float(np.median(ratios)),
        "p50_us": float(np.percentile(latency, 50) * 1e6),
        "p99_us": float(np.percentile(latency, 99) * 1e6),
        "setup": f"{task}, {num_envs} envs, {threads or os.cpu_count()} threads, {env.task.decimation} substeps, "
        f"mujoco {mujoco.__version__}, {rounds} turns of {steps} steps",
    }


def _actions(num_envs: int, size: int, steps: int, seed: int) -> list[torch.Tensor]:
    """Smooth random actions, so that the robots move but mostly stand: (N, A) each."""
    generator = torch.Generator().manual_seed(seed)
    action, out = torch.zeros(num_envs, size), []
    for _ in range(steps):
        action = 0.9 * action + 0.1 * (2.0 * torch.rand(num_envs, size, generator=generator) - 1.0)
        out.append(action)
    return out


def _turn(env: Env, actions: list[torch.Tensor]) -> tuple[list[np.ndarray], list[float]]:
    """Step through ``actions``; return the controls in force after each step, (N, M), and its time [s]."""
    table, took = [], []
    control = backend(env).batch.bind("ctrl")
    for action in actions:
        begin = time.perf_counter()
        env.step(action)
        took.append(time.perf_counter() - begin)
        table.append(np.array(control))
    return table, took


class RawPhysics:
    """A bare batch of the environment's model, randomised alike; every turn begins where the environment's began."""

    def __init__(self, env: Env, threads: int) -> None:
        """Copy the environment's model and its spread fields."""
        self._substeps, self._from = env.task.decimation, backend(env).batch
        self._batch = Batch(backend(env).model, env.num_envs, nthread=threads)
        for field in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange", *SPREAD):
            values = self._from.expanded(field)
            if values is not None:
                self._batch.expand(field)[:] = values
        self._batch.set_const()
        self._control = self._batch.bind("ctrl")

    def begin_like_env(self) -> None:
        """Take over positions, velocities, controls that are still under way, and the solver's warm start."""
        self._batch.state[:] = self._from.state

    def time(self, table: list[np.ndarray]) -> float:
        """Step through the controls and return the time it took [s]."""
        begin = time.perf_counter()
        for control in table:
            self._control[:] = control
            self._batch.step(nstep=self._substeps)
        return time.perf_counter() - begin


def backend(env: Env) -> MujocoCpu:
    """Return the environment's physics, which must be the CPU's."""
    assert isinstance(env.physics, MujocoCpu), "the peer is the batch of this backend"
    return env.physics
