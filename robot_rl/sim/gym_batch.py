"""Gymnasium's own MuJoCo tasks, N copies stepped together on threads: the numbers of ``GymWorld``, sooner.

The model is the one that Gymnasium compiles. Rewards, ends, observations and the draws of a reset follow its files of
version 5 (Towers et al. 2024, arXiv:2407.17032), so that the same seeds and actions give the same run, bit for bit.

Knows: ``mujoco.batch``, the laws of these tasks. Does not know: learners, any other environment (``gym``).

Shapes: N environments · D observation · A action · P positions · V velocities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from gymnasium.utils.seeding import np_random
from mujoco.batch import Batch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.sim.env import EnvStep
from robot_rl.sim.gym import GymWorld, to_box


@dataclass(frozen=True, slots=True)
class Law:
    """What a task rewards, shows, ends and draws; numbers from Gymnasium's files."""

    noise: float
    """Of positions and velocities at a reset: half width of a uniform law."""
    forward: float = 1.0
    """Reward per m/s of the first position."""
    control: float = 0.0
    """Penalty per squared action."""
    alive: float = 0.0
    """Reward per step that does not end the episode."""
    hidden: int = 1
    """Leading positions that are not observed."""
    max_velocity: float = math.inf
    """Observed velocities are clipped to this."""
    normal_velocity: bool = False
    """Velocities are drawn from a normal law instead; ``noise`` is its deviation."""
    healthy: tuple[tuple[int, int | None, float, float], ...] = ()
    """Columns of (positions, velocities) from, to, that must stay above, below; else the episode ends."""


LAWS: dict[str, Law] = {
    "HalfCheetah-v5": Law(noise=0.1, control=0.1, normal_velocity=True),
    "Hopper-v5": Law(
        noise=5e-3, control=1e-3, alive=1.0, max_velocity=10.0,
        healthy=((1, 2, 0.7, math.inf), (2, 3, -0.2, 0.2), (3, None, -100.0, 100.0)),
    ),
    "InvertedPendulum-v5": Law(noise=0.01, forward=0.0, alive=1.0, hidden=0, healthy=((1, 2, -0.2, 0.2),)),
    "Swimmer-v5": Law(noise=0.1, control=1e-4, hidden=2),
    "Walker2d-v5": Law(
        noise=5e-3, control=1e-3, alive=1.0, max_velocity=10.0, healthy=((1, 2, 0.8, 2.0), (2, 3, -1.0, 1.0)),
    ),
}  # fmt: skip
"""The tasks that step in a batch, by their registered names."""


def make_gym_world(name: str, *, num_envs: int, seed: int, threads: int = 0) -> GymBatch | GymWorld:
    """Build N copies of a registered environment, on threads where it is one of ``LAWS``."""
    if name in LAWS:
        return GymBatch(name, num_envs=num_envs, seed=seed, threads=threads)
    return GymWorld(name, num_envs=num_envs, seed=seed)


class GymBatch:
    """A ``VecEnv`` that equals ``GymWorld(name, ...)`` step by step; its state can be stored and restored."""

    def __init__(self, name: str, *, num_envs: int, seed: int, threads: int = 0) -> None:
        """Build the copies.

        Args:
            name: One of ``LAWS``.
            num_envs: N.
            seed: Copy i draws what Gymnasium draws with ``seed + i``.
            threads: Of the physics, 0 is one per CPU.

        Raises:
            ValueError: There is no law for ``name``, or ``num_envs`` is below 1.
        """
        if name not in LAWS:
            raise ValueError(f"no batch of {name!r}; the choices are {sorted(LAWS)}; GymWorld steps any other")
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; at least 1")
        env = gymnasium.make(name)
        inner = cast("MujocoEnv", env.unwrapped)
        self._law, self._space = LAWS[name], cast("Box", inner.action_space)
        self._limit = env.spec.max_episode_steps if env.spec and env.spec.max_episode_steps else 2**62
        self._start, self._start_vel = inner.init_qpos.copy(), inner.init_qvel.copy()
        self._substeps, self._dt_s = inner.frame_skip, inner.dt
        self.batch = Batch(inner.model, num_envs, nthread=threads)
        env.close()
        self._qpos, self._qvel, self._ctrl = (self.batch.bind(field) for field in ("qpos", "qvel", "ctrl"))
        self._low, self._high = _bounds(self._law, self._start.size + self._start_vel.size)
        self.num_envs, self._seed = num_envs, seed
        self.num_actions = int(np.prod(self._space.shape))
        self.obs_sizes = {"policy": self._start.size - self._law.hidden + self._start_vel.size}
        self._steps, self._returns = np.zeros(num_envs, dtype=np.int64), np.zeros(num_envs)
        self._rngs: list[np.random.Generator] = []

    def reset(self) -> dict[str, Tensor]:
        """Seed and reset every copy and return the first observations, (N, D) float32."""
        self._rngs = [np_random(self._seed + i)[0] for i in range(self.num_envs)]
        self._restart(np.arange(self.num_envs))
        return self._observe()

    def step(self, action: Tensor) -> EnvStep:
        """Apply raw actions in [-1, 1], (N, A), scaled to the task's own bounds."""
        law, sent = self._law, to_box(action.numpy(), self._space)
        before = self._qpos[:, 0].copy()
        self._ctrl[:] = sent
        self.batch.step(nstep=self._substeps)
        state = np.concatenate((self._qpos, self._qvel), axis=1)  # (N, P + V)
        healthy = ((self._low < state) & (state < self._high)).all(axis=1)
        velocity = (self._qpos[:, 0] - before) / self._dt_s
        gain = law.forward * velocity + law.alive * healthy
        reward = (gain - law.control * np.square(sent).sum(axis=1)).astype(np.float32)
        self._steps += 1
        self._returns += reward
        truncated = healthy & (self._steps >= self._limit)
        next_obs = self._observe()
        ids = np.flatnonzero(~healthy | truncated)
        obs, log = (next_obs, {}) if ids.size == 0 else self._begin_anew(ids, next_obs)
        ended = torch.from_numpy((~healthy).astype(np.float32))
        return EnvStep(obs, torch.from_numpy(reward), ended, torch.from_numpy(truncated), next_obs, log)

    def snapshot(self) -> dict[str, Any]:
        """Return all that the next step depends on, as a tree for ``checkpoint.save``."""
        return {
            "state": self.batch.state.copy(), "steps": self._steps.copy(), "returns": self._returns.copy(),
            "rngs": [rng.bit_generator.state for rng in self._rngs],
        }  # fmt: skip

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` of as many copies of this task returned, bit for bit.

        Raises:
            ValueError: It is of another model or number of copies.
        """
        state = np.asarray(snapshot["state"])
        if state.shape != self.batch.state.shape:
            raise ValueError(f"the snapshot has states of shape {state.shape}; here they are {self.batch.state.shape}")
        self.batch.state[:] = state
        self._steps, self._returns = (np.asarray(snapshot[name]).copy() for name in ("steps", "returns"))
        self._rngs = [np_random(0)[0] for _ in range(self.num_envs)]
        for rng, stored in zip(self._rngs, snapshot["rngs"], strict=True):
            rng.bit_generator.state = stored

    def close(self) -> None:
        """Nothing to free; the threads go with the batch."""

    # -- the parts of a step --

    def _observe(self) -> dict[str, Tensor]:
        most = self._law.max_velocity
        parts = self._qpos[:, self._law.hidden :], np.clip(self._qvel, -most, most)
        return {"policy": torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind"))}

    def _begin_anew(
        self, ids: NDArray[np.intp], next_obs: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        log = {
            "episode/return": float(self._returns[ids].mean()),
            "episode/length": float(self._steps[ids].mean()),
            "episode/count": float(ids.size),
        }
        self._restart(ids)
        obs, at = {"policy": next_obs["policy"].clone()}, torch.from_numpy(ids)
        obs["policy"][at] = self._observe()["policy"][at]
        return obs, log

    def _restart(self, ids: NDArray[np.intp]) -> None:
        """Draw as Gymnasium does: each copy from its own generator, positions first."""
        noise = self._law.noise
        self.batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for i in ids:
            rng, v = self._rngs[i], self._start_vel.size
            self._qpos[i] = self._start + rng.uniform(low=-noise, high=noise, size=self._start.size)
            wiggle = (
                noise * rng.standard_normal(v)
                if self._law.normal_velocity
                else rng.uniform(low=-noise, high=noise, size=v)
            )
            self._qvel[i] = self._start_vel + wiggle
        self.batch.forward(ids)
        self._steps[ids], self._returns[ids] = 0, 0.0


def _bounds(law: Law, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the open interval of every column that keeps an episode alive, (P + V,) each."""
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    for first, end, above, below in law.healthy:
        low[first:end], high[first:end] = above, below
    return low, high
