"""Random network distillation, Burda et al. 2018 (arXiv:1810.12894), in RSL-RL's variant: curiosity as a reward.

A *target* network with random, frozen weights maps observations to numbers; a *predictor* learns to give the same ones.
It errs where it has seldom been: the bonus of a step is ``|target(s') - predictor(s')|_2`` (eq. 1), divided by the
running deviation of its discounted sum (sec. 2.4).

Deviations from the paper, as in RSL-RL: one critic for the sum of both rewards, the weight follows a schedule, and the
norm is not squared. The successor is the true one, before any reset; observations are clipped at 5 deviations.

Knows: networks, the bonus, how the predictor learns.
Does not know: policies, losses of PPO.

Shapes: T time · N environments · D observation · E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.learn.nets import Mlp, Normaliser
from robot_rl.learn.ranks import ALONE, Ranks
from robot_rl.learn.rollout import Rollout, require_finite

OBS_CLIP = 5.0
"""Normalised observations are cut here."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the bonus."""

    group: str = "policy"
    """Observation group that novelty is seen in."""
    weight: float = 1.0
    """Of the bonus, beside the task's reward per step, in deviations of the discounted bonus."""
    final_weight: float | None = None
    """Weight at the end of the schedule; None keeps ``weight``."""
    steps: tuple[int, int] = (0, 0)
    """Environment steps between which the weight moves to ``final_weight`` in a straight line; equal is a step."""
    embedding: int = 32
    """E."""
    target_hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the target."""
    predictor_hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the predictor."""
    learning_rate: float = 1e-3
    """Adam's for the predictor."""
    epochs: int = 5
    """The predictor's passes over a rollout."""
    minibatches: int = 4
    """Parts that a pass is cut into."""
    normalise: bool = True
    """Whether observations are normalised by running statistics and clipped."""

    def __post_init__(self) -> None:
        for name in ("embedding", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"rnd config: {name} is {getattr(self, name)}; it must be at least 1")
        if self.steps[0] > self.steps[1]:
            raise ValueError(f"rnd config: steps are {self.steps}; the first must not exceed the second")
        if self.weight < 0.0 or (self.final_weight or 0.0) < 0.0:
            weights = (self.weight, self.final_weight)
            raise ValueError(f"rnd config: weights are {weights}; they must not be negative")


@dataclass(slots=True)
class Curiosity:
    """All that a run's bonus needs to go on exactly."""

    target: Mlp
    predictor: Mlp
    norm: Normaliser
    optimiser: torch.optim.Adam
    sums: Tensor
    """Discounted bonus of each environment, (N,); empty before the first rollout."""
    spread: Normaliser
    """Statistics of ``sums``; only its deviation is used."""


def make_curiosity(
    cfg: Config, sizes: Mapping[str, int], *, seed: int, device: torch.device | str = "cpu"
) -> Curiosity:
    """Build target and predictor.

    Args:
        cfg: Settings.
        sizes: Widths of the observation groups.
        seed: Of the weights.
        device: Where the networks live.

    Raises:
        ValueError: The environment has no group ``cfg.group``.
    """
    groups = sorted(set(sizes) - {"action"})
    if cfg.group not in groups:
        raise ValueError(f"rnd config: no observation group {cfg.group!r}; the choices are {groups}")
    width, seeder = sizes[cfg.group], torch.Generator().manual_seed(seed)

    def net(hidden: tuple[int, ...]) -> Mlp:
        return Mlp((width, *hidden, cfg.embedding), generator=seeder).to(device)

    target, predictor = net(cfg.target_hidden).requires_grad_(False), net(cfg.predictor_hidden)
    optimiser = torch.optim.Adam(predictor.parameters(), lr=cfg.learning_rate, fused=True)
    sums = torch.zeros(0, device=device)
    return Curiosity(target, predictor, Normaliser(width).to(device), optimiser, sums, Normaliser(1).to(device))


def weight_at(cfg: Config, steps: int) -> float:
    """Return the weight of the bonus after so many environment steps."""
    if cfg.final_weight is None or steps < cfg.steps[0]:
        return cfg.weight
    begin, end = cfg.steps
    share = 1.0 if steps >= end else (steps - begin) / (end - begin)
    return cfg.weight + share * (cfg.final_weight - cfg.weight)


@torch.no_grad()
def bonus(curiosity: Curiosity, cfg: Config, successor: Tensor, ranks: Ranks = ALONE, *, discount: float) -> Tensor:
    """Return the normalised bonus of each step, (T, N), and take the steps into the statistics.

    Args:
        curiosity: Its statistics move; its networks do not.
        cfg: Settings.
        successor: Raw observations of the group after each step, before any reset, (T, N, D).
        ranks: The processes whose rows make the statistics.
        discount: Of the sums whose deviation normalises the bonus; they run on over ends of episodes, as in the paper.
    """
    if cfg.normalise:
        curiosity.norm.update(ranks.rows(successor.flatten(0, 1)))
    raw = _error(curiosity, _seen(curiosity, cfg, successor)).norm(dim=-1)  # (T, N)
    if len(curiosity.sums) != raw.shape[1]:
        curiosity.sums = torch.zeros_like(raw[0])
    sums = torch.empty_like(raw)
    for t, row in enumerate(raw):
        torch.add(row, curiosity.sums, alpha=discount, out=sums[t])
        curiosity.sums.copy_(sums[t])
    curiosity.spread.update(ranks.rows(sums.view(-1, 1)))
    return raw / (curiosity.spread.var.sqrt() + 1e-8)


def watch(rollout: Rollout, cfg: Config) -> None:
    """Let ``collect`` keep the true successors that the bonus is of."""
    if cfg.group not in rollout.successor:
        rollout.successor[cfg.group] = torch.zeros_like(rollout.obs[cfg.group])


def add_bonus(
    curiosity: Curiosity | None, cfg: Config, rollout: Rollout, ranks: Ranks = ALONE, *, steps: int, discount: float
) -> dict[str, float]:
    """Add the weighted bonus to the rewards of ``rollout``, after so many environment steps, and say how much it was.

    Raises:
        FloatingPointError: The bonus is not finite.
    """
    assert curiosity is not None, "rnd: the agent has no curiosity"
    weight = weight_at(cfg, steps)
    extra = bonus(curiosity, cfg, rollout.successor[cfg.group], ranks, discount=discount)
    require_finite({"rnd/bonus": extra})
    rollout.reward.add_(extra, alpha=weight)
    return {"rnd/bonus": float(extra.mean()), "rnd/weight": weight}


def learn(
    curiosity: Curiosity | None, cfg: Config, rollout: Rollout, generator: torch.Generator, ranks: Ranks = ALONE
) -> dict[str, float]:
    """Let the predictor learn from the successors of ``rollout``, shuffled, and return its mean loss.

    Raises:
        FloatingPointError: A loss is not finite.
    """
    assert curiosity is not None, "rnd: the agent has no curiosity"
    seen = _seen(curiosity, cfg, rollout.successor[cfg.group].flatten(0, 1))
    total = torch.zeros((), device=seen.device)
    for _ in range(cfg.epochs):
        order = torch.randperm(len(seen), generator=generator, device=seen.device)
        for part in order.tensor_split(cfg.minibatches):
            loss = _error(curiosity, seen[part]).square().mean()
            curiosity.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            ranks.mean_([p.grad for p in curiosity.predictor.parameters() if p.grad is not None])
            curiosity.optimiser.step()
            total += loss.detach()
    require_finite({"rnd/loss": total})
    return {"rnd/loss": float(total) / (cfg.epochs * cfg.minibatches)}


def read_config(tree: Mapping[str, Any] | None) -> Config | None:
    """Return the settings that a checkpoint stores; None where it has none."""
    if tree is None:
        return None
    stored: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in tree.items()}
    return Config(**stored)


def pack(curiosity: Curiosity) -> dict[str, Any]:
    """Return the state as a tree for ``checkpoint.save``."""
    nets = _modules(curiosity)
    states = {name: net.state_dict() for name, net in nets.items()}
    return states | {"optimiser": curiosity.optimiser.state_dict(), "sums": curiosity.sums}


def unpack(curiosity: Curiosity, tree: Mapping[str, Any]) -> None:
    """Continue from a state that ``pack`` returned.

    Raises:
        ValueError: Its networks have other shapes.
    """
    for name, net in _modules(curiosity).items():
        ours, theirs = ([tuple(x.shape) for x in state.values()] for state in (net.state_dict(), tree[name]))
        if ours != theirs:
            raise ValueError(f"rnd: the checkpoint's {name} has the shapes {theirs}; the recipe's has {ours}")
        net.load_state_dict(tree[name])
    curiosity.optimiser.load_state_dict(tree["optimiser"])
    curiosity.sums = tree["sums"].to(curiosity.sums.device)


def _modules(curiosity: Curiosity) -> dict[str, nn.Module]:
    return {
        "target": curiosity.target, "predictor": curiosity.predictor,
        "norm": curiosity.norm, "spread": curiosity.spread,
    }  # fmt: skip


def _seen(curiosity: Curiosity, cfg: Config, obs: Tensor) -> Tensor:
    if not cfg.normalise:
        return obs
    return curiosity.norm(obs).clamp(-OBS_CLIP, OBS_CLIP)


def _error(curiosity: Curiosity, seen: Tensor) -> Tensor:
    return curiosity.target(seen) - curiosity.predictor(seen)
