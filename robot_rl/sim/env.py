"""A ``World`` as a learner wants it: torch tensors in and out. Satisfies ``robot_rl.learn.env.VecEnv``.

Tensors share memory with the world's arrays; every step gives fresh ones.

Knows: torch. Does not know: what a step is made of (``world``), learners.

Shapes: N environments · D observation · A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robot_rl.contract.state import RobotState
from robot_rl.sim.backends import PHYSICS, make_physics
from robot_rl.sim.physics import Physics
from robot_rl.sim.task import Task
from robot_rl.sim.world import World, state_rows

__all__ = ["PHYSICS", "Env", "EnvStep", "make_env", "make_physics"]


class EnvStep(NamedTuple):
    """One control step; the fields and meanings of ``robot_rl.learn.env.Step``."""

    obs: dict[str, Tensor]
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_obs: dict[str, Tensor]
    log: dict[str, float]


def make_env(task: Task, *, num_envs: int, seed: int, physics: str = "mujoco_cpu", threads: int = 0) -> Env:
    """Build N environments of ``task``; ``threads`` 0 is one per CPU."""
    backend = make_physics(task, num_envs=num_envs, physics=physics, threads=threads)
    return Env(task, backend, seed=seed)


class Env:
    """N environments in torch."""

    def __init__(self, task: Task, physics: Physics, *, seed: int) -> None:
        """Randomise the copies once; call ``reset`` before the first ``step``."""
        self.world = World(task, physics, seed=seed)
        self.task, self.physics, self.robot = task, physics, physics.robot
        self.contract, self.commands = self.world.contract, self.world.commands
        self.num_envs, self.num_actions = self.world.num_envs, self.world.num_actions
        self.obs_sizes, self.dt_s = self.world.obs_sizes, self.world.dt_s

    def reset(self) -> dict[str, Tensor]:
        """Reset every copy and return the first observations, each (N, D_group)."""
        return _tensors(self.world.reset())

    def stagger(self) -> None:
        """Give the running episodes random ages, so that training does not see them all end at once."""
        self.world.stagger()

    def step(self, action: Tensor) -> EnvStep:
        """Apply raw actions in [-1, 1], shape (N, A), for one control period."""
        s = self.world.step(action.numpy())
        next_obs = _tensors(s.next_obs)
        return EnvStep(
            next_obs if s.obs is s.next_obs else _tensors(s.obs),
            torch.from_numpy(s.reward),
            torch.from_numpy(s.terminated),
            torch.from_numpy(s.truncated),
            next_obs,
            s.log,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return all that the next step depends on; empty where the backend cannot be stored."""
        return self.world.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned, bit for bit."""
        self.world.restore(_arrays(snapshot))

    def close(self) -> None:
        """Free the backend."""
        self.world.close()

    def recorded_states(self, n: int) -> RobotState:
        """Return the present states of the first ``n`` copies, robot order, for golden vectors."""
        return state_rows(self.world.state, slice(n))


def _arrays(tree: Any) -> Any:
    """Return a tree of dicts with NumPy arrays where it has tensors, as a checkpoint read from disk does."""
    if isinstance(tree, Mapping):
        return {name: _arrays(x) for name, x in tree.items()}
    return tree.numpy() if isinstance(tree, Tensor) else tree


def _tensors(obs: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(x) for name, x in obs.items()}
