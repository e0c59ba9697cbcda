"""One on-policy rollout: preallocated buffers and the loop that fills them.

Knows: an actor that explores, a ``VecEnv``.
Does not know: losses, values, iterations.

Shapes: T time · N environments · D observation (per group) · A actions · M truncated steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robot_rl.learn.env import VecEnv
from robot_rl.learn.metrics import EpisodeTracker
from robot_rl.learn.nets import Actor


@runtime_checkable
class Staggered(Protocol):
    """An environment that can give its first episodes random ages, so that they do not all end at once."""

    def stagger(self) -> None:
        """Do so; called once, after the first reset."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """An actor with a memory of each environment."""

    def begin(self, num_envs: int) -> Tensor:
        """Return the memory as it is now, (N, W)."""
        ...

    def forget(self, ended: Tensor) -> None:
        """Clear it where the episode ended, (N,) bool."""
        ...


@dataclass(slots=True)
class Rollout:
    """T steps of N environments; the buffers are reused by every iteration."""

    obs: dict[str, Tensor]
    """Raw observations per group, (T, N, D)."""
    u: Tensor
    """Actions before the squash, (T, N, A)."""
    mean: Tensor
    """Means of u, (T, N, A)."""
    std: Tensor
    """Deviations of u, (T, N, A)."""
    reward: Tensor
    """(T, N)."""
    terminated: Tensor
    """Probability that the step ended the episode, (T, N)."""
    truncated: Tensor
    """Whether the clock ended it, (T, N), bool."""
    last: dict[str, Tensor] = field(default_factory=dict)
    """Observations after the last step, (N, D)."""
    cut_at: list[Tensor] = field(default_factory=list)
    """Flat indices t * N + n of truncated steps, (M,) in pieces."""
    cut_obs: list[Tensor] = field(default_factory=list)
    """The critic's observations of their true successors, (M, D) in the same pieces."""
    memory: Tensor | None = None
    """The actor's memory before the first step, (N, W), where it has one."""
    successor: dict[str, Tensor] = field(default_factory=dict)
    """Raw observations after each step and before any reset, (T, N, D); only of the groups put in here."""

    @property
    def critic_group(self) -> str:
        """The group that the critic reads: ``critic``, or ``policy`` where the task has no privileged terms."""
        return "critic" if "critic" in self.obs else "policy"

    @property
    def critic_obs(self) -> Tensor:
        """Raw observations of the critic, (T, N, D)."""
        return self.obs[self.critic_group]

    @property
    def last_critic_obs(self) -> Tensor:
        """The critic's observations after the last step, (N, D)."""
        return self.last[self.critic_group]


def start_rollout(obs: Mapping[str, Tensor], num_steps: int, num_actions: int) -> Rollout:
    """Allocate the buffers for observations like ``obs`` (N, D per group)."""
    n, device = obs["policy"].shape[0], obs["policy"].device

    def blank(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(num_steps, n, *shape, dtype=dtype, device=device)

    return Rollout(
        obs={name: blank(x.shape[-1]) for name, x in obs.items()},
        u=blank(num_actions),
        mean=blank(num_actions),
        std=blank(num_actions),
        reward=blank(),
        terminated=blank(),
        truncated=blank(dtype=torch.bool),
    )


@torch.no_grad()
def collect(
    actor: Actor,
    env: VecEnv,
    obs: dict[str, Tensor],
    rollout: Rollout,
    tracker: EpisodeTracker,
    generator: torch.Generator,
    *,
    sde_every: int = 0,
    group: str = "policy",
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Fill ``rollout`` with the actor's exploration.

    Args:
        actor: Explores; gSDE matrices are drawn first and every ``sde_every`` steps (0: only first).
        env: The world.
        obs: Where it stands now, (N, D per group).
        rollout: Buffers to overwrite.
        tracker: Counts episodes.
        generator: Source of the exploration.
        group: What the actor sees.

    Returns:
        The observations to act on next, and the means of what the environment logged, with ``time/env_s``.

    Raises:
        FloatingPointError: An observation or reward is not finite; names the first place.
    """
    n = env.num_envs
    rollout.cut_at.clear()
    rollout.cut_obs.clear()
    sums: dict[str, list[float]] = {}
    env_s = 0.0
    memory = actor if isinstance(actor, Remembers) else None
    rollout.memory = None if memory is None else memory.begin(n)
    for t in range(rollout.u.shape[0]):
        for name, buffer in rollout.obs.items():
            buffer[t] = obs[name]
        if t == 0 or (sde_every > 0 and t % sde_every == 0):
            actor.redraw(n, generator=generator)
        u, rollout.mean[t], rollout.std[t] = actor.explore(actor.norm(rollout.obs[group][t]), generator=generator)
        rollout.u[t] = u
        began = time.perf_counter()
        step = env.step(torch.tanh(u))
        env_s += time.perf_counter() - began
        rollout.reward[t], rollout.terminated[t], rollout.truncated[t] = step.reward, step.terminated, step.truncated
        if memory is not None:
            memory.forget((step.terminated >= 1.0) | step.truncated)
        for name, buffer in rollout.successor.items():
            buffer[t] = step.next_obs[name]
        cut = step.truncated.nonzero().squeeze(-1)
        if cut.numel():
            rollout.cut_at.append(cut + t * n)
            rollout.cut_obs.append(step.next_obs[rollout.critic_group][cut])
        tracker.add(step.reward, step.terminated, step.truncated)
        for name, value in step.log.items():
            sums.setdefault(name, []).append(value)
        obs = step.obs
    rollout.last = {name: x.clone() for name, x in obs.items()}
    require_finite({f"obs/{k}": v for k, v in rollout.obs.items()} | {"reward": rollout.reward, "u": rollout.u})
    require_finite({f"last_obs/{k}": v for k, v in rollout.last.items()})
    log = {k: sum(v) / len(v) for k, v in sums.items()}
    return rollout.last, log | {"time/env_s": env_s, "policy/continuity_cost": continuity_cost(rollout)}


def continuity_cost(rollout: Rollout) -> float:
    """Return ``100 E[((a_{t+1} - a_t) / 2)^2]`` of the executed actions ``tanh(u)`` within episodes (arXiv:2005.05719).

    Of training, exploration included: a measure of wear. 0 is a constant command, 100 from limit to limit every step.
    """
    if rollout.u.shape[0] < 2:
        return 0.0
    change = (torch.tanh(rollout.u).diff(dim=0) / 2.0).square().mean(-1)  # (T-1, N)
    within = ~((rollout.terminated >= 1.0) | rollout.truncated)[:-1]
    return 100.0 * float(change[within].mean()) if bool(within.any()) else 0.0


def shuffled(batch: Mapping[str, Tensor], count: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Cut the rows of a batch, each (B, ...), into ``count`` shuffled parts."""
    rows = next(iter(batch.values())).shape[0]
    order = torch.randperm(rows, generator=generator, device=generator.device)
    mixed = {name: x.index_select(0, order) for name, x in batch.items()}
    for part in torch.arange(rows).tensor_split(count):
        low, high = int(part[0]), int(part[-1]) + 1
        yield {name: x[low:high] for name, x in mixed.items()}


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise FloatingPointError that names the first tensor, index and value that is not finite."""
    for name, x in tensors.items():
        if not bool(x.sum().isfinite() or x.isfinite().all()):  # the sum is finite only where all are, and quicker
            index = (~x.isfinite()).nonzero()[0].tolist()
            bad = int((~x.isfinite()).sum())
            raise FloatingPointError(f"{name}{index} is {float(x[tuple(index)])}; {bad} of {x.numel()} are not finite")
