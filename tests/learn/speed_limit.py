"""A cart that is paid for speed and has a speed limit: the best lawful return is known in closed form.

v <- 0.9 v + 0.2 a, so that full throttle ends at 2 m/s and the limit of 1 m/s is held by half of it. Reward v / 2.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from robot_rl.learn.env import Step
from robot_rl.sim.cat import Cat
from robot_rl.sim.task import Constraint, Constraints

LIMIT, STEPS = 1.0, 50


class Cart:
    """N carts; with ``p_max`` their constraint cuts the stream of rewards, without it nobody minds."""

    def __init__(self, num_envs: int = 64, *, p_max: float | None = None, penalty: float = 0.0, seed: int = 0) -> None:
        self.num_envs, self.obs_sizes, self.num_actions = num_envs, {"policy": 1}, 1
        terms = {"speed": Constraint(lambda o: o.speed[:, None] - LIMIT, p_max or 0.0)}
        self.cat = Cat(Constraints(terms, ramp_steps=400)) if p_max is not None else None
        self.penalty = penalty
        self._generator = torch.Generator().manual_seed(seed)
        self._v, self._age = torch.zeros(num_envs), torch.zeros(num_envs, dtype=torch.int64)

    def reset(self) -> dict[str, Tensor]:
        self._start(torch.ones(self.num_envs, dtype=torch.bool))
        return {"policy": self._v[:, None].clone()}

    def step(self, action: Tensor) -> Step:
        self._v = 0.9 * self._v + 0.2 * action[:, 0]
        self._age += 1
        chance = torch.zeros(self.num_envs)
        if self.cat:
            chance = self.cat.chance(SimpleNamespace(action=action, speed=self._v))  # type: ignore[arg-type]
        reward = self._v.clamp(min=0.0) / 2.0 * (1.0 - chance) + self.penalty
        truncated = self._age >= STEPS
        next_obs = {"policy": self._v[:, None].clone()}
        self._start(truncated)
        log = self.cat.log if self.cat else {}
        return Step({"policy": self._v[:, None].clone()}, reward, chance, truncated, next_obs, log)

    def close(self) -> None:
        pass

    def _start(self, which: Tensor) -> None:
        fresh = 0.2 * torch.rand(self.num_envs, generator=self._generator)
        self._v = torch.where(which, fresh, self._v)
        self._age = torch.where(which, torch.zeros_like(self._age), self._age)


def drive(policy: object) -> tuple[float, float]:
    """Return the share of steps beyond the limit and the return of one episode from rest."""
    v, fast, total = torch.zeros(1), 0, 0.0
    for _ in range(STEPS):
        v = 0.9 * v + 0.2 * policy(v[:, None])[:, 0]  # type: ignore[operator]
        fast += int(v[0] > LIMIT)
        total += float(v[0].clamp(min=0.0)) / 2.0
    return fast / STEPS, total


def lawful(v: Tensor) -> Tensor:
    """The best policy that keeps the limit: as much throttle as just does not break it."""
    return ((LIMIT - 0.9 * v) / 0.2).clamp(-1.0, 1.0)
