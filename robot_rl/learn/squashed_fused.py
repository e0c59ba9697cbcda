"""What a squashed actor draws, with the way back in closed form: no graph is recorded.

The same numbers as ``Actor.sample`` and autograd, up to rounding, in less than half the time where minibatches are
small and the time goes into calls. Actors without a closed form take autograd's way behind the same face.

Knows: the two laws of ``squashed.Actor`` and their derivatives (Raffin et al. 2021, arXiv 2005.05719, eq. 6, for the
deviations of gSDE). Does not know: losses, optimisers.

Shapes: B minibatch · D observation · F features · A actions · M noise matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robot_rl.learn import fused, gsde
from robot_rl.learn.nets import Mlp
from robot_rl.learn.squashed import Actor

Back = Callable[[Tensor, float, Tensor | None], None]


class Drawn(NamedTuple):
    """Actions and the way back from them."""

    action: Tensor
    """(B, A)"""
    log_prob: Tensor
    """(B,)"""
    mean: Tensor
    """The deterministic action, (B, A)."""
    back: Back
    """Overwrites every parameter's gradient, given those of a loss by ``action`` (B, A), by each row's ``log_prob``
    (one number for all) and by ``mean`` (B, A) or None."""


class _Law(NamedTuple):
    """One law's numbers."""

    u: Tensor
    log_prob: Tensor
    back: Callable[[Tensor, float], Tensor | None]
    """From the gradients by u (B, A) and by the log-probability to that by the features (B, F), None where none
    reaches them; fills the gradients of the deviations."""


def fits(actor: Actor) -> bool:
    """Return whether the actor has a closed form here."""
    return type(actor) is Actor and type(actor.mlp) is Mlp and actor.mlp.activation in fused.SLOPES


def sample(actor: Actor, obs: Tensor, xi: Tensor) -> Drawn:
    """Draw as ``actor.sample`` does.

    Args:
        actor: Its gradients are there already (``fused.gather``).
        obs: (B, D).
        xi: Of ``actor.noise``.
    """
    return _closed(actor, obs, xi) if fits(actor) else _recorded(actor, obs, xi)


def _recorded(actor: Actor, obs: Tensor, xi: Tensor) -> Drawn:
    with torch.enable_grad():
        results = actor.sample(obs, xi)

    def back(d_action: Tensor, d_log_prob: float, d_mean: Tensor | None) -> None:
        actor.zero_grad(set_to_none=False)
        d_each = torch.full_like(results[1], d_log_prob)
        d_mean = torch.zeros_like(results[2]) if d_mean is None else d_mean
        torch.autograd.backward(results, (d_action, d_each, d_mean))

    action, log_prob, mean = (x.detach() for x in results)
    return Drawn(action, log_prob, mean, back)


@torch.no_grad()
def _closed(actor: Actor, obs: Tensor, xi: Tensor) -> Drawn:
    tape = fused.run(actor.mlp, obs)
    raw, most = tape[-1], actor.mean_clip
    centre = raw if most == float("inf") else raw.clamp(-most, most)
    law = (_structured if actor.exploration == "gsde" else _plain)(actor, tape[-2], centre, xi)
    action, mean = law.u.tanh(), centre.tanh()

    @torch.no_grad()
    def back(d_action: Tensor, d_log_prob: float, d_mean: Tensor | None) -> None:
        # the tanh's Jacobian is part of the log-probability: d(-log(1 - tanh(u)^2))/du = 2 tanh(u)
        d_u = torch.ops.aten.tanh_backward(d_action, action).add_(action, alpha=2.0 * d_log_prob)
        d_features = law.back(d_u, d_log_prob)
        d_raw = d_u if d_mean is None else d_u + torch.ops.aten.tanh_backward(d_mean, mean)
        if centre is not raw:
            d_raw = d_raw * (raw.abs() <= most)
        fused.backward(actor.mlp, tape, d_raw, d_features=d_features)

    return Drawn(action, law.log_prob, mean, back)


def _plain(actor: Actor, z: Tensor, centre: Tensor, xi: Tensor) -> _Law:
    """Independent noise, ``u = centre + exp(log_std(z)) xi``."""
    head = actor.log_std
    t = torch.addmm(head.bias, z, head.weight.t()).tanh_()  # (B, A)
    std = (actor.middle + actor.half_range * t).exp_()
    gap = std * xi
    u = centre + gap

    def back(d_u: Tensor, d_log_prob: float) -> Tensor:
        d = torch.ops.aten.tanh_backward((d_u * gap).sub_(d_log_prob), t).mul_(actor.half_range)
        torch.mm(d.t(), z, out=fused.grad_of(head.weight))
        torch.sum(d, 0, out=fused.grad_of(head.bias))
        return d @ head.weight

    return _Law(u, gsde.squashed_log_prob(u, centre, std), back)


def _structured(actor: Actor, z: Tensor, centre: Tensor, xi: Tensor) -> _Law:
    """gSDE, ``u = centre + W^T z``."""
    free, blocks = actor.sde_log_std, z.view(xi.shape[0], -1, z.shape[-1])  # (F, A) or (F, 1), (M, B / M, F)
    sigma = gsde.positive_std(free, expln=actor.expln)
    matrix, sigma2, z2 = sigma * xi, sigma.square(), z.square()  # (M, F, A), like free, (B, F)
    variance = (z2 @ sigma2).add_(gsde.VARIANCE_FLOOR)  # (B, A) or (B, 1)
    gap = torch.bmm(blocks, matrix).view_as(centre)
    u = centre + gap

    def back(d_u: Tensor, d_log_prob: float) -> Tensor | None:
        pull = gap / variance
        d_gap = torch.add(d_u, pull, alpha=-d_log_prob)
        d_variance = (pull.square_() - 1.0 / variance).mul_(0.5 * d_log_prob)  # (B, A)
        if variance.shape[-1] != d_variance.shape[-1]:
            d_variance = d_variance.sum(-1, keepdim=True)
        d_blocks = d_gap.view(len(matrix), -1, d_gap.shape[-1])
        d_sigma = (torch.bmm(blocks.transpose(1, 2), d_blocks) * xi).sum(0)  # (F, A)
        if sigma.shape != d_sigma.shape:
            d_sigma = d_sigma.sum(-1, keepdim=True)
        d_sigma.addcmul_(z2.t() @ d_variance, sigma, value=2.0)
        slope = torch.where(free > 0.0, 1.0 / (1.0 + free.clamp(min=0.0)), sigma) if actor.expln else sigma
        torch.mul(d_sigma, slope, out=fused.grad_of(free))
        if not actor.learn_features:
            return None
        d_z = torch.bmm(d_blocks, matrix.transpose(1, 2)).view_as(z)
        return d_z.addcmul_(d_variance @ sigma2.t(), z, value=2.0)

    return _Law(u, gsde.squashed_log_prob(u, centre, variance.sqrt()), back)
