"""Policies with a memory as ONNX graphs, written node by node, and as functions of arrays that go on from call to call.

The cell is one node ``GRU`` or ``LSTM`` of ONNX, whose gates stand in another order than torch's; the normaliser is
folded into its weights. Behind it comes the perceptron as ``graph`` writes it. Names and shapes of the memory's tensors
are those of ``contract.memory``.

Knows: the cells of torch and of ONNX.
Does not know: files, how policies learn.

Shapes: n rows · D observation · F features · W memory width · G gates · A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import nn

from robot_rl.contract.exploration import EXPLORATION
from robot_rl.contract.golden import INPUT, OUTPUT
from robot_rl.contract.memory import Memory
from robot_rl.learn import gsde
from robot_rl.learn.graph import check_dense, dense_nodes, model_of, tensor, tensor_info
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.recurrent import RecurrentActor

_GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""Where torch has ONNX's gates: z, r, n among r, z, n; i, o, f, c among i, f, c, o."""
_FEATURES = "features"

Step = Callable[[NDArray[Any], NDArray[Any] | None, NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]
"""Maps an observation (1, D), a noise matrix (F, A) or None and the memory (W,) to the action (1, A) and the memory
after it, all float32."""


@dataclass(frozen=True, slots=True)
class RecurrentNet:
    """A deterministic policy with a memory as plain arrays: float32, gates in torch's order, normaliser folded in."""

    memory: Memory
    input_weight: np.ndarray
    """(G F, D)."""
    hidden_weight: np.ndarray
    """(G F, F)."""
    biases: tuple[np.ndarray, np.ndarray]
    """Of input and hidden weights, (G F,) each."""
    head: DenseNet
    """From features (F,) to actions (A,)."""


class Remembering:
    """A policy with a memory as a function of arrays: rows are consecutive steps, and so are calls."""

    def __init__(self, step: Step, memory: Memory) -> None:
        """Begin with an empty memory."""
        self._step, self._width = step, memory.width
        self.state = np.zeros(memory.width, np.float32)
        """What is remembered, (W,)."""

    def __call__(self, obs: NDArray[Any], xi: NDArray[Any] | None = None, /) -> NDArray[np.float32]:
        """Act at each row of ``obs`` (n, D), one after the other, with noise matrix ``xi`` (F, A); return (n, A)."""
        actions: list[NDArray[Any]] = []
        for row in np.asarray(obs, np.float32):
            action, self.state = self._step(row[None], xi, self.state)
            actions.append(action)
        return np.concatenate(actions)

    def forget(self) -> None:
        """Empty the memory."""
        self.state = np.zeros(self._width, np.float32)


@torch.no_grad()
def recurrent_net(actor: RecurrentActor) -> RecurrentNet:
    """Return the policy as arrays, gSDE included, the normaliser folded into the cell in float64."""
    rnn, head = actor.memory.rnn, actor.head
    kind = "gru" if isinstance(rnn, nn.GRU) else "lstm"
    parameters = {name: x.double().cpu() for name, x in rnn.named_parameters()}
    w = parameters["weight_ih_l0"] / (actor.norm.var.double().cpu().sqrt() + actor.norm.floor)
    biases = parameters["bias_ih_l0"] - w @ actor.norm.mean.double().cpu(), parameters["bias_hh_l0"]
    layers = tuple((x.weight.cpu().numpy(), x.bias.cpu().numpy()) for x in head.mlp.linears())
    std = None
    if head.exploration == "gsde":
        std = gsde.positive_std(head.log_std, expln=head.expln).cpu().numpy()
    return RecurrentNet(
        Memory(kind, actor.memory.features),
        w.float().numpy(),
        parameters["weight_hh_l0"].float().numpy(),
        (biases[0].float().numpy(), biases[1].float().numpy()),
        DenseNet(layers, head.mlp.activation, std=std),
    )


def recurrent_graph(net: RecurrentNet) -> bytes:
    """Return the ONNX model, without metadata; inputs as in ``graph.dense_graph``, and those of the memory.

    Raises:
        ValueError: A layer does not fit the one before, or a weight is not finite.
    """
    _check(net)
    memory, order = net.memory, _GATES[net.memory.kind]
    nodes, weights, more = dense_nodes(net.head, _FEATURES)
    weights += [
        tensor("memory_weight", _ordered(net.input_weight, order)[None]),
        tensor("memory_recurrence", _ordered(net.hidden_weight, order)[None]),
        tensor("memory_bias", np.concatenate([_ordered(b, order) for b in net.biases])[None]),
        onnx.numpy_helper.from_array(np.array([0], np.int64), "first_axis"),
    ]
    taken = ["sequence", "memory_weight", "memory_recurrence", "memory_bias", "", *memory.inputs]
    options: dict[str, Any] = {"hidden_size": memory.features}
    if memory.kind == "gru":
        options["linear_before_reset"] = 1  # torch resets behind the product
    cell = [
        helper.make_node("Unsqueeze", [INPUT, "first_axis"], ["sequence"]),  # (1, 1, D)
        helper.make_node(memory.kind.upper(), taken, ["", *memory.outputs], **options),
        helper.make_node("Squeeze", [memory.outputs[0], "first_axis"], [_FEATURES]),  # (1, F)
    ]
    states = [[tensor_info(name, memory.shape) for name in names] for names in (memory.inputs, memory.outputs)]
    inputs = [tensor_info(INPUT, (1, net.input_weight.shape[1])), *states[0], *more]
    outputs = [tensor_info(OUTPUT, (1, net.head.layers[-1][0].shape[0])), *states[1]]
    return model_of([*cell, *nodes], inputs, outputs, weights)


def actor_forward(actor: RecurrentActor, memory: Memory) -> Remembering:
    """Return the policy as torch computes it; its own memories of environments are left alone."""
    device = actor.log_std.device

    def step(
        obs: NDArray[Any], xi: NDArray[Any] | None, state: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        row, before = (torch.from_numpy(np.array(x, np.float32)).to(device) for x in (obs, state[None]))
        noise = None if xi is None else torch.from_numpy(np.array(xi)).to(device)
        action, after = actor.act(row, before, noise)
        return action.float().cpu().numpy(), after.float().cpu().numpy()[0]

    return Remembering(step, memory)


def session_forward(session: onnxruntime.InferenceSession, memory: Memory) -> Remembering:
    """Return the policy as onnxruntime computes it."""

    def step(
        obs: NDArray[Any], xi: NDArray[Any] | None, state: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        parts = np.split(state, len(memory.inputs))
        feed = {INPUT: obs} | {n: x.reshape(memory.shape) for n, x in zip(memory.inputs, parts, strict=True)}
        if xi is not None:
            feed[EXPLORATION] = xi
        action, *after = session.run([OUTPUT, *memory.outputs], feed)
        return np.asarray(action), np.concatenate([np.ravel(np.asarray(x)) for x in after])

    return Remembering(step, memory)


def _check(net: RecurrentNet) -> None:
    check_dense(net.head)
    if net.head.layers[0][0].shape[1] != net.memory.features:
        wide = net.head.layers[0][0].shape[1]
        raise ValueError(f"the memory has {net.memory.features} features; the perceptron behind it takes {wide}")
    for x in (net.input_weight, net.hidden_weight, *net.biases):
        if not np.all(np.isfinite(x)):
            raise ValueError("the memory holds weights that are not finite; the policy is not exported")


def _ordered(x: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return the gates of ``x``, (G F, ...), in another order."""
    gates = np.split(x, len(order))
    return np.concatenate([gates[i] for i in order])
