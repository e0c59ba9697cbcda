"""Gymnasium, both ways: train here in any of its environments, use any of our tasks there.

``GymWorld`` is a ``VecEnv`` over copies of a Gymnasium environment; ``TaskEnv`` is one of our tasks as
``gymnasium.Env``, ``TaskVectorEnv`` as ``gymnasium.vector.VectorEnv``.

Knows: Box spaces, what terminated and truncated mean on both sides. Does not know: learners, physics.

Shapes: N environments · D observation · A action.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.sim.backends import make_physics
from robot_rl.sim.env import EnvStep
from robot_rl.sim.task import Task
from robot_rl.sim.world import World

Floats = NDArray[np.float32]


class GymWorld:
    """N copies of a Gymnasium environment as a ``VecEnv``: the true successor in ``next_obs``, resets by itself."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]] | str, *, num_envs: int, seed: int) -> None:
        """Build the copies.

        Args:
            make: Builds one environment, or its registered name.
            num_envs: How many, stepped one after the other in this process.
            seed: Copy i is seeded with ``seed + i`` at its first reset.

        Raises:
            ValueError: No such name, a space that is not a Box of floats with one dimension or more, or unbounded
                actions.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; at least 1")
        try:
            builder = (lambda: gymnasium.make(make)) if isinstance(make, str) else make
            self.envs: list[gymnasium.Env[Any, Any]] = [builder() for _ in range(num_envs)]
        except gymnasium.error.UnregisteredEnv as error:
            raise ValueError(f"Gymnasium has no environment {make!r}: {error}") from error
        self._obs_space = _box("observation", self.envs[0].observation_space)
        self._action_space = _box("action", self.envs[0].action_space)
        if not np.isfinite([self._action_space.low, self._action_space.high]).all():
            raise ValueError(
                f"actions of {self.envs[0]} are unbounded, {self._action_space}; they cannot be normalised"
            )
        self.num_envs, self._seed = num_envs, seed
        self.num_actions = int(np.prod(self._action_space.shape))
        self.obs_sizes = {"policy": int(np.prod(self._obs_space.shape))}
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def reset(self) -> dict[str, Tensor]:
        """Seed and reset every copy and return the first observations, (N, D) float32."""
        self._returns[:], self._lengths[:] = 0.0, 0
        return _group([env.reset(seed=self._seed + i)[0] for i, env in enumerate(self.envs)])

    def step(self, action: Tensor) -> EnvStep:
        """Apply raw actions in [-1, 1], (N, A), scaled to the environment's own bounds."""
        sent = to_box(action.numpy(), self._action_space)
        rows = [env.step(a) for env, a in zip(self.envs, sent, strict=True)]
        next_obs = _group([row[0] for row in rows])
        reward = np.array([row[1] for row in rows], dtype=np.float32)
        terminated = np.array([row[2] for row in rows])
        truncated = np.array([row[3] for row in rows]) & ~terminated
        self._returns += reward
        self._lengths += 1
        ids = np.flatnonzero(terminated | truncated)
        obs, log = (next_obs, {}) if ids.size == 0 else self._begin_anew(ids, next_obs)
        return EnvStep(
            obs,
            torch.from_numpy(reward),
            torch.from_numpy(terminated.astype(np.float32)),
            torch.from_numpy(truncated),
            next_obs,
            log,
        )

    def close(self) -> None:
        """Close every copy."""
        for env in self.envs:
            env.close()

    def _begin_anew(
        self, ids: NDArray[np.intp], next_obs: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        log = {
            "episode/return": float(self._returns[ids].mean()),
            "episode/length": float(self._lengths[ids].mean()),
            "episode/count": float(ids.size),
        }
        obs = {"policy": next_obs["policy"].clone()}
        obs["policy"][torch.from_numpy(ids)] = _group([self.envs[i].reset()[0] for i in ids])["policy"]
        self._returns[ids], self._lengths[ids] = 0.0, 0
        return obs, log


def to_box(raw: NDArray[Any], space: Box) -> NDArray[Any]:
    """Map raw actions in [-1, 1], (N, A), onto the Box, in its shape and type, (N, ...)."""
    share = (np.clip(raw, -1.0, 1.0).reshape(-1, *space.shape) + 1.0) / 2.0
    return (space.low + share * (space.high - space.low)).astype(space.dtype)


class TaskEnv(gymnasium.Env[Floats, Floats]):
    """One copy of a task as ``gymnasium.Env``; observations and actions as the policy has them."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012  # Gymnasium's own declaration

    def __init__(self, task: Task, *, render_mode: str | None = None) -> None:
        """Prepare; the physics is built by the first ``reset``, which seeds it."""
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"no render mode {render_mode!r}; the choices are None and 'rgb_array'")
        self.render_mode, self._task = render_mode, _unconstrained(task)
        self.metadata = {**self.metadata, "render_fps": round(task.rate_hz)}
        self._physics = make_physics(task, num_envs=1, threads=1)
        self._world: World | None = None
        contract = task.contract(self._physics.robot)
        self.observation_space = _observations(contract.obs_size)
        self.action_space = Box(-1.0, 1.0, (contract.num_actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Start an episode; a seed makes it and all that follow repeatable. There are no options."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset takes no options; got {sorted(options)}")
        if self._world is None or seed is not None:
            drawn = int(self.np_random.integers(2**31))
            self._world = World(self._task, self._physics, seed=drawn)
        return self._world.reset()["policy"][0], {}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Act for one control period; the observation is the true successor."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        s = self._world.step(np.asarray(action)[None])
        return s.next_obs["policy"][0], float(s.reward[0]), bool(s.terminated[0] >= 1.0), bool(s.truncated[0]), {}

    def render(self) -> Any:
        """Return a picture, uint8 RGB, where ``render_mode`` is ``"rgb_array"``."""
        return self._physics.frame(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the physics."""
        self._physics.close()


class TaskVectorEnv(gymnasium.vector.VectorEnv[Floats, Floats, NDArray[Any]]):
    """N copies of a task as ``gymnasium.vector.VectorEnv``, resetting in the same step.

    ``info["final_obs"]`` holds the true successors where ``info["_final_obs"]`` is true.
    """

    def __init__(self, task: Task, *, num_envs: int, threads: int = 0) -> None:
        """Build N copies; ``threads`` 0 is one per CPU."""
        self.num_envs, self._task = num_envs, _unconstrained(task)
        self._physics = make_physics(task, num_envs=num_envs, threads=threads)
        self._world: World | None = None
        contract = task.contract(self._physics.robot)
        self.single_observation_space = _observations(contract.obs_size)
        self.single_action_space = Box(-1.0, 1.0, (contract.num_actions,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Reset every copy; one seed for all, since they share one generator."""
        if options or not (seed is None or isinstance(seed, int)):
            raise ValueError(f"reset takes one seed and no options; got seed {seed!r}, options {options!r}")
        super().reset(seed=seed)
        if self._world is None or seed is not None:
            self._world = World(self._task, self._physics, seed=int(self.np_random.integers(2**31)))
        return self._world.reset()["policy"], {}

    def step(self, actions: Floats) -> tuple[Floats, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act for one control period in every copy."""
        if self._world is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        s = self._world.step(np.asarray(actions))
        terminated = s.terminated >= 1.0
        ended = terminated | s.truncated
        info: dict[str, Any] = {}
        if ended.any():
            info = {"final_obs": s.next_obs["policy"], "_final_obs": ended, **s.log}
        return s.obs["policy"], s.reward, terminated, s.truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Free the physics; Gymnasium's hook."""
        self._physics.close()


def _unconstrained(task: Task) -> Task:
    """Return the task without constraints: Gymnasium's ``terminated`` is yes or no, so that CaT cannot pass."""
    return dataclasses.replace(task, constraints=None)


def _observations(size: int) -> Any:  # a Box of float32; its type says only "real"
    return Box(-np.inf, np.inf, (size,), np.float32)


def _box(what: str, space: gymnasium.Space[Any]) -> Box:
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating) or not space.shape:
        raise ValueError(f"{what} space is {space}; only Box spaces of floats train here")
    return space


def _group(rows: Sequence[Any]) -> dict[str, Tensor]:
    return {"policy": torch.from_numpy(np.stack(rows).reshape(len(rows), -1).astype(np.float32))}
