"""The U critic steps of a block: every random number is drawn first, then nothing waits for the host.

On a GPU the steps are therefore one graph (``captured``). Random numbers come from the agent's generator, on the CPU,
whatever the device: a run on a GPU draws those of a run without one.

Knows: targets, the ensemble, its Adam. Does not know: the actor's loss (``rlpd``), replays.

Shapes: as in ``rlpd``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from robot_rl.learn import dropout, fused
from robot_rl.learn.agent import Agent
from robot_rl.learn.captured import Captured
from robot_rl.learn.dropout import Drops
from robot_rl.learn.ensemble import evaluate, pick, regress, split

if TYPE_CHECKING:
    from robot_rl.learn.rlpd import Batch, Config


class Block(NamedTuple):
    """What U critic steps take."""

    x: Tensor
    """Inputs of the critics, (U*B, D+A)."""
    next_x: Tensor
    """Those of their targets, (U*B, D+A)."""
    reward: Tensor
    """(U*B,)"""
    mask: Tensor
    """What is left of the bootstrap, discount included, (U*B,)."""
    bonus: Tensor
    """What the next action's probability costs, (U*B,)."""
    chosen: Tensor | None
    """Critics in each minimum, (U, M); None is all."""
    drops: list[Drops] | list[None]
    next_drops: list[Drops] | list[None]


@torch.no_grad()
def prepare(agent: Agent, batch: Batch, cfg: Config) -> Block:
    """Draw the next actions of all minibatches at once, and who sits out; ``batch`` is on the agent's device."""
    xi = agent.actor.noise(len(batch.action), matrices=cfg.utd, generator=agent.generator)
    action, log_prob, _ = agent.actor.sample(batch.next_obs[:, : agent.actor.obs_size], xi)
    x = torch.cat(((batch.obs - agent.obs_mean) * agent.obs_scale, batch.action * agent.action_scale), -1)
    next_x = torch.cat(((batch.next_obs - agent.obs_mean) * agent.obs_scale, action * agent.action_scale), -1)
    bonus = log_prob * agent.log_temperature.detach().exp() if cfg.backup_entropy else torch.zeros_like(log_prob)
    mask = cfg.discount * (1.0 - batch.terminated)
    rows = len(x) // cfg.utd
    drops = draw_drops(agent, cfg, members=cfg.critics, rows=rows, passes=cfg.utd)
    next_drops = draw_drops(agent, cfg, members=math.ceil(cfg.subset), rows=rows, passes=cfg.utd)
    return Block(x, next_x, batch.reward, mask, bonus, _choose(agent, cfg), drops, next_drops)


def draw_drops(agent: Agent, cfg: Config, *, members: int, rows: int, passes: int) -> list[Drops] | list[None]:
    """Draw the units that sit out in some passes through ``members`` critics, on the agent's device."""
    return dropout.draw(
        cfg.dropout, cfg.hidden, members=members, rows=rows, passes=passes, generator=agent.generator,
        device=agent.device,
    )  # fmt: skip


def _choose(agent: Agent, cfg: Config) -> Tensor | None:
    """Draw the critics of every minibatch, (U, M)."""
    if cfg.subset == cfg.critics:
        return None
    return torch.stack([draw_subset(cfg, agent.generator) for _ in range(cfg.utd)]).to(agent.device)


def draw_subset(cfg: Config, generator: torch.Generator) -> Tensor:
    """Draw the critics of one minimum, (M,), without replacement (REDQ, algorithm 1).

    Where M is not whole it is rounded up or down at random, so that it is M on average; one critic stands twice in what
    was rounded down, because shapes stay as they are and the minimum is the same.
    """
    chosen = torch.randperm(cfg.critics, generator=generator)[: math.ceil(cfg.subset)]
    if cfg.subset % 1.0 and torch.rand((), generator=generator) >= cfg.subset % 1.0:
        chosen[-1] = chosen[0]
    return chosen


def take(agent: Agent, block: Block, cfg: Config) -> tuple[float, float]:
    """Take the steps; return the sums of their losses and of the critics' mean values."""
    if agent.device.type == "cpu":
        found = fit(agent, cfg, block)
    else:
        if agent.captured is None or agent.captured[0] != cfg:
            agent.captured = cfg, Captured(partial(fit, agent, cfg))
        found = agent.captured[1](block)
    loss, value = found.tolist()
    return loss, value


@torch.no_grad()
def fit(agent: Agent, cfg: Config, block: Block) -> Tensor:
    """Take the steps without a look at any number; return what ``take`` does, (2,)."""
    layers, targets = split(agent.critics.detach(), agent.shape), split(agent.targets, agent.shape)
    assert agent.critics.grad is not None
    grads, size = split(agent.critics.grad, agent.shape), len(block.x) // cfg.utd
    found = torch.zeros(2, device=agent.device)
    for u in range(cfg.utd):
        at = slice(u * size, (u + 1) * size)
        those = targets if block.chosen is None else pick(targets, block.chosen[u])
        next_q = evaluate(those, block.next_x[at], drops=block.next_drops[u]).amin(0)
        y = torch.addcmul(block.reward[at], block.mask[at], next_q - block.bonus[at]).clamp_(*cfg.target_range)  # (B,)
        q = regress(layers, grads, block.x[at], y, drops=block.drops[u])
        if cfg.grad_clip > 0.0:
            nn.utils.clip_grad_norm_([agent.critics], cfg.grad_clip)
        fused.adam_step(agent.critic_adam)
        agent.targets.lerp_(agent.critics.detach(), cfg.tau)
        found += torch.stack(((q - y).square().mean(), q.mean()))
    return found
