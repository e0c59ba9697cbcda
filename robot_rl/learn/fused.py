"""Perceptrons forwards and backwards in closed form: no graph is recorded, gradients lie side by side.

The same numbers as autograd, up to rounding, in half the time where minibatches are small and the time goes into calls.

Knows: layers and their derivatives. Does not know: losses (``ppo_fused``, ``squashed_fused``), optimisers.

Shapes: B minibatch · F features of a layer · P all parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robot_rl.learn.nets import ACTIVATIONS, Mlp

SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elu": lambda d, h: torch.ops.aten.elu_backward(d, 1.0, 1.0, 1.0, True, h),
    "relu": lambda d, h: torch.ops.aten.threshold_backward(d, h, 0.0),
    "tanh": lambda d, h: torch.ops.aten.tanh_backward(d, h),
}
"""Gradient before an activation from that behind it and the activation's result, both (B, F)."""


def gather(net: nn.Module) -> Tensor:
    """Lay the gradients of all parameters side by side in one memory, (P,), and return it; ``backward`` fills it."""
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


def run(mlp: Mlp, x: Tensor) -> list[Tensor]:
    """Return the input and every layer's result, the last without an activation."""
    act, layers = ACTIVATIONS[mlp.activation], mlp.linears()
    tape = [x]
    for layer in layers[:-1]:
        tape.append(act(torch.addmm(layer.bias, tape[-1], layer.weight.t())))
    last = layers[-1]
    tape.append(torch.addmm(last.bias, tape[-1], last.weight.t()))
    return tape


def backward(mlp: Mlp, tape: list[Tensor], d: Tensor, *, d_features: Tensor | None = None) -> None:
    """Put the gradients of all layers where they belong.

    Args:
        mlp: See ``gather``.
        tape: Of ``run``.
        d: Gradient by the result, (B, ...).
        d_features: What reaches the last hidden layer from elsewhere, (B, F).
    """
    slope, layers = SLOPES[mlp.activation], mlp.linears()
    for i in range(len(layers) - 1, -1, -1):
        layer: nn.Linear = layers[i]
        torch.mm(d.t(), tape[i], out=grad_of(layer.weight))
        torch.sum(d, 0, out=grad_of(layer.bias))
        if i:
            d = d @ layer.weight
            if d_features is not None and i == len(layers) - 1:
                d = d + d_features
            d = slope(d, tape[i])


def adam_step(adam: torch.optim.Adam) -> None:
    """Take the step that ``adam.step()`` would, bit for bit, without its bookkeeping.

    For a fused Adam or AdamW with one group and fixed rates on a CPU; its state stays where it is.
    """
    (group,) = adam.param_groups
    parameters = group["params"]
    if len(adam.state) < len(parameters):  # the first step makes the state
        adam.step()
        return
    state = [adam.state[p] for p in parameters]
    steps = [s["step"] for s in state]
    beta1, beta2 = group["betas"]
    update = torch.ops.aten._fused_adamw_ if isinstance(adam, torch.optim.AdamW) else torch.ops.aten._fused_adam_
    with torch.no_grad():
        for step in steps:
            step.add_(1)
        update(
            parameters, [grad_of(p) for p in parameters], [s["exp_avg"] for s in state],
            [s["exp_avg_sq"] for s in state], [], steps, lr=group["lr"], beta1=beta1, beta2=beta2,
            weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip


def grad_of(parameter: Tensor) -> Tensor:
    """Return where a parameter's gradient lies."""
    assert parameter.grad is not None, "closed-form gradients: call gather(net) first"
    return parameter.grad
