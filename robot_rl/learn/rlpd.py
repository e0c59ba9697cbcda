"""RLPD: soft actor-critic with prior data, a LayerNorm critic ensemble and many updates per step.

Ball et al. 2023, arXiv 2302.02948 (symmetric sampling, LayerNorm); Chen et al. 2021, arXiv 2101.05982 (REDQ: minimum
over a random subset in the target, mean in the actor); Haarnoja et al. 2018, arXiv 1812.05905 (SAC, temperature);
Hiraoka et al. 2022, arXiv 2110.02034 (DroQ: few critics with dropout, active wherever a critic is asked).
``critics=2, subset=2, layer_norm=False, utd=1, actor_reduce="min"`` is plain SAC; ``exploration="gsde"`` gives any of
them state-dependent noise (Raffin et al. 2021, arXiv 2005.05719; a fresh matrix per minibatch, as the deviations move).
For fine-tuning a released policy: the actor starts *at* that policy (same plain MLP, small deviation), the critics
warm up before it may move, and an optional anchor keeps it near the start.

Shapes: U updates per block (UTD) · B batch · E critics · M subset · D observation of the critic, whose first D_a
columns are the observation of the actor · A action.

Deviations from the paper: critics see observations normalised by fixed statistics; batches are drawn with
replacement; biases and weights start uniform as in ``torch.nn.Linear``; the anchor and the warm-up are ours.

Knows: losses and their order. Does not know: worlds, stores, files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.data.replay import Replay, sample_symmetric
from robot_rl.learn import critic_steps, fused
from robot_rl.learn.agent import Agent
from robot_rl.learn.ensemble import Shape, action_gradient, init_ensemble, split
from robot_rl.learn.limits import check_range, check_whole
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.squashed import Actor
from robot_rl.learn.squashed_fused import sample

ActorTerm = Callable[[Tensor], tuple[Tensor, Tensor]]
"""One more term of the actor's loss: maps its actions (B, A) to what each costs, (B,), and the gradients, (B, A)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Defaults are the paper's for state-based locomotion."""

    critics: int = 10
    subset: float = 2
    """Critics in the minimum of the target, drawn anew for each update; of 1.3 one or, with probability 0.3, two."""
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = True
    dropout: float = 0.0
    """Probability with which a hidden unit of a critic sits out, in the target and for the actor too (DroQ)."""
    utd: int = 20
    """Critic updates per block; the actor and the temperature take one step at the end of a block."""
    batch: int = 256
    """Even: where there is prior data, half of every minibatch is prior (section 4.1)."""
    discount: float = 0.99
    n_step: int = 1
    """Rewards in a target before it bootstraps; the entropy of the actions in between is left out."""
    target_range: tuple[float, float] = (-math.inf, math.inf)
    """Targets are clipped to it, where more is known of values than the critics do."""
    tau: float = 0.005
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    temperature_lr: float = 3e-4
    """0 keeps the temperature as it is."""
    temperature: float = 1.0
    """Initial weight of the entropy."""
    target_entropy: float | None = None
    """None is -A/2."""
    backup_entropy: bool = True
    actor_reduce: str = "mean"
    """``mean`` of the critics (REDQ, RLPD) or ``min`` (SAC)."""
    grad_clip: float = 0.0
    """Largest norm of the actor's gradient, and of each block of the critics' gradient; 0 is none."""
    actor_grad_clip: float | None = None
    """Largest norm of the actor's gradient where it is another one; 0 is none, None is ``grad_clip``."""
    warmup: int = 0
    """Critic updates before the actor and the temperature may move."""
    anchor: float = 0.0
    """Weight of the mean squared distance to the starting policy's action, in units of the scaled value."""
    anchor_half_life: float = math.inf
    """Actor updates after which the anchor weighs half."""
    scale_value: bool = False
    """Divide the actor's value by the batch mean of |Q| (Fujimoto and Gu 2021, arXiv 2106.06860, eq. 5)."""
    actor_hidden: tuple[int, ...] = (256, 256)
    actor_activation: str = "relu"
    start_std: float = 1.0
    """Deviation of the fresh actor before the tanh."""
    std_range: tuple[float, float] = (math.exp(-5.0), math.exp(2.0))
    """Bounds of the deviation before the tanh."""
    exploration: str = "gaussian"
    """``gaussian``, fresh noise every step from a deviation that depends on the observation, or ``gsde``."""
    sde_every: int = 8
    """gSDE: control steps between draws of the matrices, counted over the run (so it may exceed ``segment``)."""
    sde_log_std: float = -3.0
    """gSDE: initial log deviation of the entries of the matrix."""
    sde_full_std: bool = True
    """gSDE: one deviation per feature and action; else per feature."""
    sde_expln: bool = False
    """gSDE: let the deviation grow only logarithmically above 1."""
    sde_learn_features: bool = True
    """gSDE: let the noise shape the features."""
    mean_clip: float = math.inf
    """Hard bound of the mean before the tanh; 2 with gSDE from scratch keeps tanh alive. A clipped policy is no plain
    MLP: it cannot be exported, nor started at one."""
    action_scale: float = 1.0
    """What the critics multiply actions by; 1 over the part of their range that a policy keeps to lets its values tell
    them apart as fast as if it filled the range."""
    seed: int = 0
    total_steps: int = 250_000
    """Transitions, over all environments; 0 where whoever holds these settings says how many."""
    start_steps: int = 5_000
    """Transitions before learning starts: uniform actions, or those of the starting policy."""
    blocks_per_step: float = 1.0
    """Blocks of U critic updates per transition."""
    segment: int = 1
    """Control steps between bursts of updates; a burst pays for the whole segment."""
    capacity: int = 1_000_000
    log_every: int = 1_000
    """Transitions between rows of ``metrics.jsonl``."""
    save_every: int = 25_000
    """Transitions between checkpoints."""

    def __post_init__(self) -> None:
        ones = ("critics", "utd", "batch", "n_step", "sde_every", "segment", "capacity", "log_every")
        check_whole("rlpd config", self, *ones, "save_every", least=1)
        check_whole("rlpd config", self, "total_steps", "start_steps", "warmup", "seed", least=0)
        check_range("rlpd config", self, "discount", "tau", high=1.0)
        rates = ("actor_lr", "critic_lr", "temperature_lr", "temperature", "grad_clip", "anchor", "blocks_per_step")
        check_range("rlpd config", self, *rates)
        check_range("rlpd config", self, "subset", low=1.0, high=self.critics)
        if self.dropout and self.subset % 1.0:
            raise ValueError(f"subset is {self.subset}; with dropout it must be a whole number")
        if self.actor_reduce not in ("mean", "min"):
            raise ValueError(f"actor_reduce is {self.actor_reduce!r}; the choices are 'mean' and 'min'")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.batch % 2:
            raise ValueError(f"batch is {self.batch}; it must be even, to have a prior half and a new half")
        if not self.action_scale > 0.0:
            raise ValueError(f"action_scale is {self.action_scale}; it must be positive")
        if not 0.0 < self.std_range[0] < self.start_std < self.std_range[1]:
            raise ValueError(f"start_std is {self.start_std}; it must lie strictly inside std_range {self.std_range}")


class Batch(NamedTuple):
    """Transitions; minibatch u of a block is rows [u*B, (u+1)*B). The names are those of the replay's columns."""

    obs: Tensor
    """(U*B, D)"""
    action: Tensor
    """In [-1, 1], (U*B, A)."""
    reward: Tensor
    """(U*B,)"""
    next_obs: Tensor
    """(U*B, D)"""
    terminated: Tensor
    """1 where the episode ended in a terminal state (time-outs are 0), (U*B,); what the bootstrap loses over n steps,
    see ``Replay.ahead``."""


def make_agent(
    cfg: Config, *, obs_size: int, num_actions: int, start: DenseNet | None = None, critic_obs_size: int = 0
) -> Agent:
    """Build an agent, at the policy ``start`` where one is given (its layers then replace ``cfg.actor_*``).

    Args:
        cfg: Sizes and rates.
        obs_size: D_a, what the actor sees.
        num_actions: A.
        start: A released policy.
        critic_obs_size: D where the critics see more than the actor; 0 is D_a.
    """
    generator = torch.Generator().manual_seed(cfg.seed)
    if start is not None:
        cfg = replace(cfg, actor_hidden=tuple(len(b) for _, b in start.layers[:-1]), actor_activation=start.activation)
    actor = Actor(
        obs_size, num_actions, hidden=cfg.actor_hidden, activation=cfg.actor_activation,
        start_std=cfg.start_std, std_range=cfg.std_range, generator=generator, exploration=cfg.exploration,
        sde_log_std=cfg.sde_log_std, sde_full_std=cfg.sde_full_std, sde_expln=cfg.sde_expln,
        sde_learn_features=cfg.sde_learn_features, mean_clip=cfg.mean_clip,
    )  # fmt: skip
    if start is not None:
        actor.start_at(start)
    anchor = copy.deepcopy(actor).requires_grad_(False)
    critic_obs_size = critic_obs_size or obs_size
    shape = Shape(critic_obs_size + num_actions, cfg.hidden, cfg.critics, cfg.layer_norm)
    critics = nn.Parameter(init_ensemble(shape, generator))
    critics.grad = torch.zeros_like(critics)
    fused.gather(actor)
    log_temperature = nn.Parameter(torch.tensor(math.log(cfg.temperature)))
    return Agent(
        actor=actor,
        start=anchor,
        shape=shape,
        critics=critics,
        targets=critics.detach().clone(),
        log_temperature=log_temperature,
        obs_mean=torch.zeros(critic_obs_size),
        obs_scale=torch.ones(critic_obs_size),
        action_scale=torch.tensor(cfg.action_scale),
        actor_adam=torch.optim.Adam(actor.parameters(), lr=cfg.actor_lr, fused=True),
        critic_adam=torch.optim.Adam([critics], lr=cfg.critic_lr, fused=True),
        temperature_adam=torch.optim.Adam([log_temperature], lr=cfg.temperature_lr),
        generator=generator,
    )


@torch.no_grad()
def fix_statistics(agent: Agent, obs: Tensor, *, fresh_actor: bool = False, floor: float = 1e-2) -> None:
    """Take mean and deviation of ``obs`` (B, D) as the critics' normaliser; once, before the first update.

    A fresh actor gets them folded into its first layer; one that started at a policy has its own inside.
    """
    std, mean = torch.std_mean(obs, 0)
    agent.obs_mean.copy_(mean)
    agent.obs_scale.copy_(1.0 / (std + floor))
    if fresh_actor:
        width = agent.actor.obs_size
        agent.actor.fold(agent.obs_mean[:width], agent.obs_scale[:width])
        agent.start.fold(agent.obs_mean[:width], agent.obs_scale[:width])


def draw(online: Replay, prior: Replay | None, cfg: Config, rng: np.random.Generator) -> Batch:
    """Draw the U minibatches of one block, with replacement, half of each prior where there is prior data."""
    if prior is None:
        columns = online.sample_many(cfg.utd, cfg.batch, rng, steps=cfg.n_step, discount=cfg.discount)
    else:
        columns = sample_symmetric(prior, online, cfg.utd, cfg.batch, rng, steps=cfg.n_step, discount=cfg.discount)
    return Batch(*(torch.from_numpy(columns[name]).flatten(0, 1) for name in Batch._fields))


def update(agent: Agent, batch: Batch, cfg: Config, *, term: ActorTerm | None = None) -> dict[str, float]:
    """Take U critic steps, then one of the actor and the temperature; return means over the block.

    The actor stands still within a block, so the next actions of all U minibatches are drawn at once: the same
    numbers as one by one, in fewer and larger products. ``term`` joins the actor's loss; it does not touch the critics.
    """
    rows, size = batch.obs.shape[0], batch.obs.shape[0] // cfg.utd
    assert size * cfg.utd == rows, f"{rows} rows do not split into {cfg.utd} minibatches"
    batch = Batch(*(x.to(agent.device) for x in batch))
    block = critic_steps.prepare(agent, batch, cfg)
    loss, value = critic_steps.take(agent, block, cfg)
    agent.critic_updates += cfg.utd
    metrics = {"critic_loss": loss / cfg.utd, "q": value / cfg.utd, "reward": float(batch.reward.mean())}
    if agent.critic_updates > cfg.warmup:
        metrics |= _improve(agent, batch.obs[-size:], block.x[-size:], cfg, term)
    return metrics


@torch.no_grad()
def _improve(agent: Agent, obs: Tensor, x: Tensor, cfg: Config, term: ActorTerm | None) -> dict[str, float]:
    """One step on ``alpha log pi - Q / scale + anchor |a - a_start|^2 + term(a)`` and one of the temperature."""
    rows, num_actions = len(obs), agent.actor.num_actions
    actor_obs = obs[:, : agent.actor.obs_size]
    drawn = sample(agent.actor, actor_obs, agent.actor.noise(rows, matrices=1, generator=agent.generator))
    seen = torch.cat((x[:, :-num_actions], drawn.action * agent.action_scale), -1)
    q, dq = action_gradient(
        split(agent.critics.detach(), agent.shape), seen, num_actions,
        reduce=cfg.actor_reduce, drops=critic_steps.draw_drops(agent, cfg, members=cfg.critics, rows=rows, passes=1)[0],
    )  # fmt: skip
    scale = float(q.abs().mean()) + 1e-6 if cfg.scale_value else 1.0
    temperature = math.exp(float(agent.log_temperature))
    weight = cfg.anchor * 0.5 ** (agent.actor_updates / cfg.anchor_half_life)
    away = drawn.mean - agent.start(actor_obs) if weight > 0.0 else None  # (B, A)
    pull = None if away is None else away * (2.0 * weight / rows)
    d_action, extra = dq.mul_(agent.action_scale / (-scale * rows)), {}
    if term is not None:
        cost, d_cost = term(drawn.action)
        d_action, extra = d_action.add_(d_cost, alpha=1.0 / rows), {"term": float(cost.mean())}
    drawn.back(d_action, temperature / rows, pull)
    most = cfg.grad_clip if cfg.actor_grad_clip is None else cfg.actor_grad_clip
    if most > 0.0:
        nn.utils.clip_grad_norm_(agent.actor.parameters(), most)
    fused.adam_step(agent.actor_adam)
    entropy = -float(drawn.log_prob.mean())
    if cfg.temperature_lr > 0.0:
        goal = -0.5 * num_actions if cfg.target_entropy is None else cfg.target_entropy
        agent.log_temperature.grad = torch.full_like(agent.log_temperature, temperature * (entropy - goal))
        agent.temperature_adam.step()
    agent.actor_updates += 1
    metrics = {"actor_q": float(q.mean()), "entropy": entropy, "temperature": temperature, "anchor": weight} | extra
    return metrics if away is None else metrics | {"moved": math.sqrt(float(away.square().mean()))}
