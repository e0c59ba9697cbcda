"""The gradient of PPO's loss in closed form, for perceptrons with either exploration: no graph is recorded.

The same numbers as ``ppo.losses`` and ``backward``, up to rounding, in half the time where minibatches are small and
the time goes into calls. Actor and critic share nothing, so that the critic's part can run on a second core.

Knows: the loss of ``ppo``, with its mirror, and the deviations of both explorations (gSDE: arXiv:2005.05719, eq. 6).
Does not know: optimisers, rollouts, memories.

Shapes: B minibatch · S rows of the surrogate, B or with their images 2 B · D observation · F features · A actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from robot_rl.learn import beside, gsde, symmetry
from robot_rl.learn.fused import SLOPES, backward, grad_of, run
from robot_rl.learn.nets import Actor, Critic, Mlp
from robot_rl.learn.surrogate import gaussian_kl

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Weights(Protocol):
    """The settings of the loss; those of ``ppo.Config``, where they are explained."""

    @property
    def clip(self) -> float: ...  # noqa: D102
    @property
    def clip_value(self) -> bool: ...  # noqa: D102
    @property
    def value_coef(self) -> float: ...  # noqa: D102
    @property
    def entropy_coef(self) -> float: ...  # noqa: D102
    @property
    def mean_bound(self) -> float: ...  # noqa: D102
    @property
    def mean_bound_coef(self) -> float: ...  # noqa: D102
    @property
    def symmetry(self) -> str: ...  # noqa: D102
    @property
    def symmetry_coef(self) -> float: ...  # noqa: D102


class _Law(NamedTuple):
    """What the actions were drawn from, and the way back."""

    log_prob: Tensor
    """Of u, (S,)."""
    entropy: Tensor
    """Mean over the B originals, ()."""
    kl: Tensor
    """Mean over the B originals of KL(old || new), ()."""
    back: Callable[[Tensor], Tensor]
    """From d loss / d log_prob, (S,), to d loss / d mean, (S, A); fills the gradient of ``log_std``, the entropy's
    part included."""


def fits(actor: object, critic: object) -> bool:
    """Return whether these networks have a gradient here."""
    return (
        type(actor) is Actor
        and type(critic) is Critic
        and (actor.exploration == "gaussian" or actor.detach)
        and all(type(net.mlp) is Mlp and net.mlp.activation in SLOPES for net in (actor, critic))
    )


def gradients(
    actor: Actor,
    critic: Critic,
    mb: dict[str, Tensor],
    cfg: Weights,
    *,
    mirror: symmetry.Mirror | None = None,
    processes: int = 1,
) -> dict[str, Tensor]:
    """Put the gradient of one minibatch's loss into every parameter's ``grad`` and return the parts of the loss.

    Args:
        actor: The policy; see ``fits``. Its gradients, and those of the critic, are there already (``fused.gather``).
        critic: The value.
        mb: Rows of ``ppo.as_batch``.
        cfg: Weights of the parts.
        mirror: How the world is mirrored; wanted where ``cfg.symmetry`` is not "none".
        processes: How many of them learn on this machine: whether there is a core to spare for the critic.
    """
    doubled = mirror is not None and cfg.symmetry in ("augment", "both")
    all_ = symmetry.augmented(mb, mirror) if mirror is not None and doubled else mb
    work = len(all_["u"]) * min(_size(actor.mlp), _size(critic.mlp))
    parts, value_loss = beside.both(
        partial(_learn_policy, actor, mb, all_, cfg, mirror),
        partial(_learn_value, critic, all_, cfg),
        apart=beside.spare(work, mb["u"].device, processes),
    )
    return parts | {"value_loss": value_loss}


@torch.no_grad()
def _learn_value(critic: Critic, mb: dict[str, Tensor], cfg: Weights) -> Tensor:
    """Fill the critic's gradients from S rows and return the loss."""
    tape = run(critic.mlp, mb["critic_obs"])
    value = tape[-1].squeeze(-1)
    error = value - mb["ret"]  # (S,)
    rows = error.shape[0]
    pull = error * (2.0 * cfg.value_coef / rows)
    if not cfg.clip_value:
        backward(critic.mlp, tape, pull.unsqueeze(-1))
        return error.dot(error) / rows
    moved = value - mb["value"]
    near = moved.clamp(-cfg.clip, cfg.clip).add_(mb["value"]).sub_(mb["ret"])
    worst = torch.maximum(error.square(), near.square())
    pull *= (moved.abs() <= cfg.clip) | (error.square() > near.square())  # nothing where the clip holds
    backward(critic.mlp, tape, pull.unsqueeze(-1))
    return worst.mean()


@torch.no_grad()
def _learn_policy(
    actor: Actor, mb: dict[str, Tensor], all_: dict[str, Tensor], cfg: Weights, mirror: symmetry.Mirror | None
) -> dict[str, Tensor]:
    """Fill the actor's gradients from the originals, B rows, and ``all_``, S rows; return the parts of its loss."""
    rows, count = len(mb["u"]), len(all_["u"])
    mirrored = mirror is not None and cfg.symmetry != "none"
    seen = torch.cat((mb["obs"], mb[symmetry.PREFIX + "obs"])) if mirrored and count == rows else all_["obs"]
    tape = run(actor.mlp, seen)
    means = tape[-1][:count]
    law = (_structured if actor.exploration == "gsde" else _plain)(actor, tape[-2][:count], means, mb, all_, cfg)
    ratio = law.log_prob.sub_(all_["log_prob"]).exp_()  # (S,)
    gain = ratio * all_["advantage"]
    trusted = ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip).mul_(all_["advantage"])
    push = (gain * (gain <= trusted)).mul_(-1.0 / count)  # d loss / d log_prob; nothing where the clip holds
    d = law.back(push)
    mean = means[:rows]
    beyond = mean - mean.clamp(-cfg.mean_bound, cfg.mean_bound)  # (B, A), signed
    d[:rows].add_(beyond, alpha=2.0 * cfg.mean_bound_coef / rows)
    parts = {
        "policy_loss": -torch.minimum(gain, trusted).mean(), "entropy": law.entropy,
        "mean_bound": beyond.square_().sum() / rows, "kl": law.kl,
        "clip_fraction": ((ratio[:rows] - 1.0).abs_() > cfg.clip).to(ratio.dtype).mean(),
    }  # fmt: skip
    if mirror is not None and mirrored:
        gap = tape[-1][rows:] - mirror.action(mean)  # (B, A)
        parts["asymmetry"] = gap.square().mean()
        pull = gap.mul_(2.0 * cfg.symmetry_coef / gap.numel())
        if cfg.symmetry == "loss":
            d = torch.cat((d, pull))
        elif cfg.symmetry == "both":
            d[rows:] += pull
    backward(actor.mlp, tape, d)
    return parts


def _plain(actor: Actor, z: Tensor, mean: Tensor, mb: dict[str, Tensor], all_: dict[str, Tensor], cfg: Weights) -> _Law:
    """One deviation per action; all rows of a rollout were explored with the same."""
    rows, width, log_std = len(mb["u"]), mean.shape[-1], actor.log_std
    precision = (-2.0 * log_std).exp()  # (A,)
    gap = all_["u"] - mean  # (S, A)
    square = gap.square()
    entropy = log_std.sum() + width * (0.5 + _HALF_LOG_2PI)
    old_std = mb["std"][0]
    spread = old_std.square() + (mb["mean"] - mean[:rows]).square_().mean(0)
    kl = (log_std - old_std.log() + 0.5 * spread * precision - 0.5).sum()

    def back(push: Tensor) -> Tensor:
        d_log_std = torch.mv(square.t(), push).mul_(precision).sub_(push.sum() + cfg.entropy_coef)
        grad_of(log_std).copy_(d_log_std)
        return gap.mul_(push.unsqueeze(-1)).mul_(precision)

    return _Law(torch.mv(square, precision).mul_(-0.5).sub_(entropy - 0.5 * width), entropy, kl, back)


def _structured(
    actor: Actor, z: Tensor, mean: Tensor, mb: dict[str, Tensor], all_: dict[str, Tensor], cfg: Weights
) -> _Law:
    """gSDE: ``std^2 = z^2 sigma^2 + 1e-6``, the features z (S, F) held constant."""
    rows, free = len(mb["u"]), actor.log_std  # (F, A) or (F, 1)
    sigma, z2 = gsde.positive_std(free, expln=actor.expln), z.square()
    variance = (z2 @ sigma.square()).add_(gsde.VARIANCE_FLOOR).expand_as(mean)  # (S, A)
    std = variance.sqrt()
    gap = all_["u"] - mean
    entropy = gsde.entropy(std[:rows]).mean()
    kl = gaussian_kl(mb["mean"], mb["std"], mean[:rows], std[:rows]).mean()

    def back(push: Tensor) -> Tensor:
        push = push.unsqueeze(-1)
        pull = gap / variance
        d_variance = (pull.square() - 1.0 / variance).mul_(0.5 * push)  # (S, A)
        d_variance[:rows] -= 0.5 * cfg.entropy_coef / rows / variance[:rows]
        if free.shape[-1] != d_variance.shape[-1]:
            d_variance = d_variance.sum(-1, keepdim=True)
        slope = torch.where(free > 0.0, 1.0 / (1.0 + free.clamp(min=0.0)), sigma) if actor.expln else sigma
        torch.mul((z2.t() @ d_variance).mul_(2.0 * sigma), slope, out=grad_of(free))
        return pull.mul_(push)

    return _Law(gsde.log_prob(all_["u"], mean, std), entropy, kl, back)


def _size(mlp: Mlp) -> int:
    """Return how many weights there are, each of which multiplies once per row."""
    return sum(layer.weight.numel() for layer in mlp.linears())
