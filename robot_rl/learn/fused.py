"""The gradient of PPO's loss in closed form, for perceptrons with one deviation per action: no graph is recorded.

The same numbers as ``ppo.losses`` and ``backward``, up to rounding, in half the time where minibatches are small and
the time goes into calls.

Knows: layers and their derivatives, the loss of ``ppo``. Does not know: optimisers, rollouts, other losses.

Shapes: B minibatch · D observation · A actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from robot_rl.learn.nets import ACTIVATIONS, Actor, Critic, Mlp

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elu": lambda d, h: torch.ops.aten.elu_backward(d, 1.0, 1.0, 1.0, True, h),
    "relu": lambda d, h: torch.ops.aten.threshold_backward(d, h, 0.0),
    "tanh": lambda d, h: torch.ops.aten.tanh_backward(d, h),
}
"""Gradient before an activation from that behind it and the activation's result, both (B, F)."""


class Weights(Protocol):
    """The settings of the loss; those of ``ppo.Config``, where they are explained."""

    @property
    def clip(self) -> float: ...  # noqa: D102
    @property
    def value_coef(self) -> float: ...  # noqa: D102
    @property
    def entropy_coef(self) -> float: ...  # noqa: D102
    @property
    def mean_bound(self) -> float: ...  # noqa: D102
    @property
    def mean_bound_coef(self) -> float: ...  # noqa: D102


def fits(actor: object, critic: object) -> bool:
    """Return whether these networks have a gradient here."""
    return (
        type(actor) is Actor
        and type(critic) is Critic
        and actor.exploration == "gaussian"
        and all(type(net.mlp) is Mlp and net.mlp.activation in SLOPES for net in (actor, critic))
    )


def gather(net: nn.Module) -> Tensor:
    """Lay the gradients of all parameters side by side in one memory, (P,), and return it; ``gradients`` fills it."""
    parameters = list(net.parameters())
    flat = torch.zeros_like(torch.nn.utils.parameters_to_vector(parameters), requires_grad=False)
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)
    return flat


def clip_norm_(flat: Tensor, most: float) -> Tensor:
    """Shorten a gradient (P,) to the norm ``most`` and return the norm it had, as torch's ``clip_grad_norm_``."""
    norm = flat.norm()
    flat.mul_((most / (norm + 1e-6)).clamp_(max=1.0))
    return norm


@torch.no_grad()
def gradients(actor: Actor, critic: Critic, mb: dict[str, Tensor], cfg: Weights) -> dict[str, Tensor]:
    """Put the gradient of one minibatch's loss into every parameter's ``grad`` and return the parts of the loss.

    Args:
        actor: The policy; see ``fits``. Its gradients, and those of the critic, are there already (``gather``).
        critic: The value.
        mb: Rows of ``ppo.as_batch``.
        cfg: Weights of the parts; the value loss is not clipped.
    """
    policy_tape, value_tape = _run(actor.mlp, mb["obs"]), _run(critic.mlp, mb["critic_obs"])
    d_mean, d_log_std, parts = _policy(policy_tape[-1], actor.log_std, mb, cfg)
    error = value_tape[-1].squeeze(-1) - mb["ret"]  # (B,)
    rows = error.shape[0]
    _backward(actor.mlp, policy_tape, d_mean)
    _backward(critic.mlp, value_tape, (error * (2.0 * cfg.value_coef / rows)).unsqueeze(-1))
    _grad(actor.log_std).copy_(d_log_std)
    return parts | {"value_loss": error.dot(error) / rows}


def _policy(
    mean: Tensor, log_std: Tensor, mb: dict[str, Tensor], cfg: Weights
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the gradients at mean (B, A) and log deviation (A,), and the parts of the loss."""
    rows, width = mean.shape
    precision = (-2.0 * log_std).exp()  # (A,)
    gap = mb["u"] - mean  # (B, A)
    square = gap.square()
    entropy = log_std.sum() + width * (0.5 + _HALF_LOG_2PI)
    log_prob = torch.mv(square, precision).mul_(-0.5).sub_(entropy - 0.5 * width)
    ratio = log_prob.sub_(mb["log_prob"]).exp_()  # (B,)
    gain = ratio * mb["advantage"]
    trusted = ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip).mul_(mb["advantage"])
    push = (gain * (gain <= trusted)).mul_(-1.0 / rows)  # d loss / d log_prob; nothing where the clip holds
    d_log_std = torch.mv(square.t(), push).mul_(precision).sub_(push.sum() + cfg.entropy_coef)
    beyond = mean - mean.clamp(-cfg.mean_bound, cfg.mean_bound)  # (B, A), signed
    d_mean = gap.mul_(push.unsqueeze(-1)).mul_(precision).add_(beyond, alpha=2.0 * cfg.mean_bound_coef / rows)
    old_std = mb["std"][0]  # all rows of a rollout were explored with one deviation
    spread = old_std.square() + (mb["mean"] - mean).square_().mean(0)
    kl = (log_std - old_std.log() + 0.5 * spread * precision - 0.5).sum()
    outside = ((ratio - 1.0).abs_() > cfg.clip).to(ratio.dtype).mean()
    bound = beyond.square_().sum() / rows
    loss = -torch.minimum(gain, trusted).mean()
    parts = {"policy_loss": loss, "entropy": entropy, "mean_bound": bound, "kl": kl, "clip_fraction": outside}
    return d_mean, d_log_std, parts


def _run(mlp: Mlp, x: Tensor) -> list[Tensor]:
    """Return the input and every layer's result, the last without an activation."""
    act, layers = ACTIVATIONS[mlp.activation], mlp.linears()
    tape = [x]
    for layer in layers[:-1]:
        tape.append(act(torch.addmm(layer.bias, tape[-1], layer.weight.t())))
    last = layers[-1]
    tape.append(torch.addmm(last.bias, tape[-1], last.weight.t()))
    return tape


def _backward(mlp: Mlp, tape: list[Tensor], d: Tensor) -> None:
    """Put the gradients of all layers where they belong, from that of the result, (B, ...)."""
    slope, layers = SLOPES[mlp.activation], mlp.linears()
    for i in range(len(layers) - 1, -1, -1):
        layer: nn.Linear = layers[i]
        torch.mm(d.t(), tape[i], out=_grad(layer.weight))
        torch.sum(d, 0, out=_grad(layer.bias))
        if i:
            d = slope(d @ layer.weight, tape[i])


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "closed-form gradients: call gather(net) first"
    return parameter.grad
