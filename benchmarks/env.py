"""Environment steps per second, observations and rewards included, over the raw batched physics below them.

Peer: ``mujoco.batch.Batch.step`` of the same model on the same threads with the joint targets that the environment
just sent, nothing read back, nobody reset or pushed. Both run in turns of a few steps, so that a busy machine slows
both alike, and each of the peer's turns begins in the environment's states: a turn is too short for robots that lie
where the environment's stand up again, whose contacts would slow the peer.

Where others use the cores, the time by the clock flatters: the physics then has less than its threads ask for, and the
rest, on one thread, weighs less. The result therefore also says the ratio by CPU time, that of a machine at rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch

from robot_rl import zoo
from robot_rl.sim.env import Env, make_env
from robot_rl.sim.mujoco_cpu import MujocoCpu

SPREAD = ("geom_friction", "body_mass", "body_inertia", "body_ipos", "dof_damping", "actuator_delay")
"""Model fields that the task's randomisation spreads over the copies."""


class Spent(NamedTuple):
    """What some work took."""

    wall_s: float
    """By the clock."""
    cpu_s: float
    """Of all threads together."""


def spent(work: Callable[[], Any]) -> Spent:
    """Do ``work`` and return what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def run(
    *,
    task: str = "go2_velocity",
    num_envs: int = 256,
    steps: int = 5,
    rounds: int = 100,
    threads: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Time ``rounds`` turns of ``steps`` control steps each; the medians over turns count."""
    torch.set_num_threads(1)
    env = make_env(zoo.load("sim", f"tasks/{task}").task(), num_envs=num_envs, seed=seed, threads=threads)
    actions = _actions(num_envs, env.num_actions, 5 * steps, seed)
    env.reset()
    env.stagger()
    for action in actions[:20]:
        env.step(action)
    raw = RawPhysics(env, threads)
    ours: list[Spent] = []
    floor: list[Spent] = []
    latency: list[float] = []
    for turn in range(rounds):
        raw.begin_like_env()
        begin = turn % 5 * steps
        table, took = _turn(env, actions[begin : begin + steps])
        ours.append(Spent(*np.sum(took, axis=0)))
        latency += [step.wall_s for step in took]
        floor.append(raw.time(table))
    env.close()
    per_turn, cores = num_envs * steps, threads or os.cpu_count() or 1
    (wall, cpu), (floor_wall, floor_cpu) = np.transpose(ours), np.transpose(floor)
    ratios = floor_wall / wall
    at_rest = np.median(floor_cpu / cores / (floor_cpu / cores + np.maximum(cpu - floor_cpu, 0.0)))
    return {
        "bench": "env",
        "value": per_turn / float(np.median(wall)),
        "unit": "env steps/s",
        "floor": per_turn / float(np.median(floor_wall)),
        "ratio": float(np.median(ratios)),
        "p50_us": float(np.percentile(latency, 50) * 1e6),
        "p99_us": float(np.percentile(latency, 99) * 1e6),
        "setup": f"{task}, {num_envs} envs, {cores} threads, {env.task.decimation} substeps, mujoco "
        f"{mujoco.__version__}, {rounds} turns of {steps} steps, half of the ratios in {_middle(ratios)}; by CPU time, "
        f"as on a machine at rest: ratio {at_rest:.3f}, {per_turn * cores / float(np.median(floor_cpu)):.0f} raw env "
        f"steps/s; load {os.getloadavg()[0]:.1f}",
    }


def _middle(x: np.ndarray) -> str:
    """Return the quartiles around the median as text."""
    low, high = np.percentile(x, (25, 75))
    return f"[{low:.2f}, {high:.2f}]"


def _actions(num_envs: int, size: int, steps: int, seed: int) -> list[torch.Tensor]:
    """Smooth random actions, so that the robots move but mostly stand: (N, A) each."""
    generator = torch.Generator().manual_seed(seed)
    action, out = torch.zeros(num_envs, size), []
    for _ in range(steps):
        action = 0.9 * action + 0.1 * (2.0 * torch.rand(num_envs, size, generator=generator) - 1.0)
        out.append(action)
    return out


def _turn(env: Env, actions: list[torch.Tensor]) -> tuple[list[np.ndarray], list[Spent]]:
    """Step through ``actions``; return the controls in force after each step, (N, M), and what each took."""
    table, took = [], []
    control = backend(env).batch.bind("ctrl")
    for action in actions:
        took.append(spent(lambda action=action: env.step(action)))
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

    def time(self, table: list[np.ndarray]) -> Spent:
        """Step through the controls and return what it took."""
        return spent(lambda: self._through(table))

    def _through(self, table: list[np.ndarray]) -> None:
        for control in table:
            self._control[:] = control
            self._batch.step(nstep=self._substeps)


def backend(env: Env) -> MujocoCpu:
    """Return the environment's physics, which must be the CPU's."""
    assert isinstance(env.physics, MujocoCpu), "the peer is the batch of this backend"
    return env.physics
