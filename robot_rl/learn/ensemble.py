"""E critics as stacked matrices in one flat vector, with a hand-written gradient.

Why by hand: on one CPU thread a loop of small autograd graphs costs more than the matrix products it wraps.
Stacked products, one flat parameter (so Adam and the target average are one call each) and no tape come close to
the cost of the products alone. The slow path, a loop of ``nn.Sequential``, is the test's reference.

One member: Linear, dropout, LayerNorm, ReLU per hidden layer, then Linear to one number (Ball et al. 2023, arXiv
2302.02948: LayerNorm bounds how far a critic can extrapolate, |Q| <= |w| sqrt(H) + |b|; Hiraoka et al. 2022, arXiv
2110.02034: the order, with dropout before LayerNorm). Both are optional.

Knows: layouts, forward, backward. Does not know: targets, actors, optimisers.

Shapes: E members · B batch · I input (observation and action) · H hidden · P all parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robot_rl.learn.dropout import Drops

EPS = 1e-5
"""Added to the variance in LayerNorm, as in ``torch.nn.LayerNorm``."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of an ensemble."""

    inputs: int
    hidden: tuple[int, ...]
    members: int
    layer_norm: bool = True

    def __post_init__(self) -> None:
        sizes = (self.inputs, *self.hidden, self.members)
        if min(sizes) < 1 or not self.hidden:
            raise ValueError(f"ensemble sizes are {sizes}; all must be positive, with at least one hidden layer")

    @property
    def widths(self) -> tuple[int, ...]:
        """Input, hidden layers, output."""
        return (self.inputs, *self.hidden, 1)

    @property
    def size(self) -> int:
        """Number of parameters P."""
        linear = sum((i + 1) * o for i, o in zip(self.widths, self.widths[1:], strict=False))
        return self.members * (linear + (2 * sum(self.hidden) if self.layer_norm else 0))


class Layer(NamedTuple):
    """One stacked layer; ``gain`` and ``shift`` are those of LayerNorm, None where there is none."""

    weight: Tensor
    """(E, in, out)"""
    bias: Tensor
    """(E, 1, out)"""
    gain: Tensor | None
    shift: Tensor | None


class Tape(NamedTuple):
    """What the backward pass needs of one hidden layer."""

    x: Tensor  # input (E, B, in)
    h: Tensor  # before LayerNorm, dropped units at zero
    y: Tensor  # normalised, before gain and shift
    mean: Tensor
    rstd: Tensor
    z: Tensor  # output, after ReLU


def split(flat: Tensor, shape: Shape) -> list[Layer]:
    """Return views of the flat vector (P,) as layers; writing to a view writes to the vector."""
    layers: list[Layer] = []
    at, e = 0, shape.members
    for index, (i, o) in enumerate(zip(shape.widths, shape.widths[1:], strict=False)):
        sizes = [(e, i, o), (e, 1, o)]
        if shape.layer_norm and index < len(shape.hidden):
            sizes += [(e, 1, o), (e, 1, o)]
        views: list[Tensor | None] = [None] * 4
        for k, size in enumerate(sizes):
            views[k] = flat[at : at + math.prod(size)].view(size)
            at += math.prod(size)
        weight, bias, gain, shift = views
        assert weight is not None and bias is not None
        layers.append(Layer(weight, bias, gain, shift))
    assert at == flat.numel(), f"flat vector has {flat.numel()} numbers, the shape needs {at}"
    return layers


def init_ensemble(shape: Shape, generator: torch.Generator) -> Tensor:
    """Return fresh parameters (P,): uniform in +-1/sqrt(in) as ``torch.nn.Linear``, LayerNorm at identity."""
    flat = torch.empty(shape.size)
    for layer in split(flat, shape):
        bound = 1.0 / math.sqrt(layer.weight.shape[1])
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
        if layer.gain is not None and layer.shift is not None:
            layer.gain.fill_(1.0)
            layer.shift.zero_()
    return flat


def pick(layers: list[Layer], members: Tensor) -> list[Layer]:
    """Return copies of the named members only, ``members`` (M,) int64."""

    def of(stack: Tensor | None) -> Tensor | None:
        return None if stack is None else stack.index_select(0, members)

    return [
        Layer(x.weight.index_select(0, members), x.bias.index_select(0, members), of(x.gain), of(x.shift))
        for x in layers
    ]


def evaluate(layers: list[Layer], x: Tensor, tape: list[Tape] | None = None, *, drops: Drops | None = None) -> Tensor:
    """Return the values of ``x`` (B, I) under every member, (E, B).

    Args:
        layers: The members.
        x: Inputs.
        tape: Gets what ``backward`` needs; None records nothing.
        drops: Which units sit out; None is none.
    """
    e, scale = layers[0].weight.shape[0], 1.0 if drops is None else drops.scale
    h = x.expand(e, *x.shape)  # (E, B, I)
    for index, layer in enumerate(layers[:-1]):
        pre = torch.baddbmm(layer.bias, h, layer.weight, beta=scale, alpha=scale)  # (E, B, H)
        if drops is not None:
            pre.view(-1).index_fill_(0, drops.at[index], 0.0)
        y, mean, rstd, z = pre, pre, pre, pre
        if layer.gain is not None and layer.shift is not None:
            y, mean, rstd = torch.native_layer_norm(pre, pre.shape[-1:], None, None, EPS)
            z = torch.addcmul(layer.shift, y, layer.gain)
        z = z.relu_()
        if tape is not None:
            tape.append(Tape(h, pre, y, mean, rstd, z))
        h = z
    return torch.baddbmm(layers[-1].bias, h, layers[-1].weight).squeeze(-1)  # (E, B)


def backward(
    layers: list[Layer], tape: list[Tape], dq: Tensor, grads: list[Layer] | None, *, drops: Drops | None = None
) -> Tensor:
    """Propagate ``dq`` (E, B) back; write parameter gradients into ``grads`` and return that of the first ``h``.

    Args:
        layers: The layers that ``evaluate`` saw.
        tape: What it recorded.
        dq: Gradient of the loss by the values, (E, B).
        grads: Views to overwrite with the gradients by the parameters; None skips them.
        drops: Those that ``evaluate`` was given.

    Returns:
        The gradient by the first hidden pre-activation, (E, B, H); ``input_gradient`` takes it to the input.
    """
    dh, scale = dq.unsqueeze(-1), 1.0 if drops is None else drops.scale  # (E, B, 1)
    for index in range(len(layers) - 1, 0, -1):
        layer, record = layers[index], tape[index - 1]
        if grads is not None:
            _write(grads[index], record.z, dh)
        dz = (
            torch.bmm(dh, layer.weight.transpose(1, 2))
            if index < len(layers) - 1
            else dh * layer.weight.transpose(1, 2)
        )
        torch.ops.aten.threshold_backward.grad_input(dz, record.z, 0, grad_input=dz)  # in place: no new pages
        below = layers[index - 1]
        if below.gain is not None:
            if grads is not None:
                gain, shift = grads[index - 1].gain, grads[index - 1].shift
                assert gain is not None and shift is not None
                torch.sum(dz * record.y, 1, keepdim=True, out=gain)
                torch.sum(dz, 1, keepdim=True, out=shift)
            dz = torch.ops.aten.native_layer_norm_backward(
                dz.mul_(below.gain * scale), record.h, dz.shape[-1:], record.mean, record.rstd, None, None,
                [True, False, False],
            )[0]  # fmt: skip
            if drops is not None:
                dz.view(-1).index_fill_(0, drops.at[index - 1], 0.0)
        elif drops is not None:
            dz.mul_(scale)  # a dropped unit is zero behind its ReLU: its gradient is, already
        dh = dz
    if grads is not None:
        _write(grads[0], tape[0].x, dh)
    return dh


def _write(grad: Layer, x: Tensor, dh: Tensor) -> None:
    torch.bmm(x.transpose(1, 2), dh, out=grad.weight)
    torch.sum(dh, 1, keepdim=True, out=grad.bias)


def regress(layers: list[Layer], grads: list[Layer], x: Tensor, y: Tensor, *, drops: Drops | None = None) -> Tensor:
    """Write into ``grads`` the gradient of ``sum_i mean_b (Q_i(x_b) - y_b)^2`` and return the values (E, B).

    The sum over members, mean over the batch is REDQ's joint loss (Chen et al. 2021, arXiv 2101.05982, eq. 1
    times N): each member learns as if it were alone.
    """
    tape: list[Tape] = []
    q = evaluate(layers, x, tape, drops=drops)
    backward(layers, tape, (q - y) * (2.0 / y.shape[0]), grads, drops=drops)
    return q


def action_gradient(
    layers: list[Layer], x: Tensor, num_actions: int, *, reduce: str, drops: Drops | None = None
) -> tuple[Tensor, Tensor]:
    """Return the reduced value (B,) and its gradient by the action, the last ``num_actions`` columns of ``x``.

    Args:
        layers: The critics.
        x: Observation and action, (B, I).
        num_actions: A.
        reduce: ``mean`` over members (REDQ, RLPD) or ``min`` (SAC).
        drops: Which units sit out.

    Returns:
        Values (B,) and gradients (B, A).
    """
    tape: list[Tape] = []
    q = evaluate(layers, x, tape, drops=drops)  # (E, B)
    if reduce == "mean":
        value, share = q.mean(0), torch.full_like(q, 1.0 / q.shape[0])
    elif reduce == "min":
        value, lowest = q.min(0)
        share = torch.zeros_like(q).scatter_(0, lowest.unsqueeze(0), 1.0)
    else:
        raise ValueError(f"reduce is {reduce!r}; the choices are 'mean' and 'min'")
    dh = backward(layers, tape, share, None, drops=drops)  # (E, B, H)
    columns = layers[0].weight[:, -num_actions:]  # (E, A, H)
    return value, torch.bmm(dh, columns.transpose(1, 2)).sum(0)  # (B, A)
