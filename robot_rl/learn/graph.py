"""Policies as ONNX graphs: a perceptron written layer by layer, any other module traced, and the way back.

Knows: nodes, initialisers, tensor names.
Does not know: contracts, metadata, files' provenance (``export``).

Shapes: n rows · D observation · F last hidden layer · A action.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from robot_rl.contract.exploration import EXPLORATION
from robot_rl.contract.golden import INPUT, OUTPUT
from robot_rl.contract.memory import of_network
from robot_rl.contract.model_file import parse_model, with_metadata
from robot_rl.learn import gsde
from robot_rl.learn.nets import ACTIVATIONS, DenseNet

OPSET = 17
IR_VERSION = 8  # with opset 17 the oldest onnxruntime we support reads it

_NODES = {"elu": "Elu", "relu": "Relu", "tanh": "Tanh"}

_STD, _MATRIX, _NOISY, _CLIPPED = "exploration_std", "exploration_matrix", "explored", "clipped"
"""Tensors of the tail that a policy with gSDE, or with a clipped mean, has between its last layer and its tanh."""


class Forward(Protocol):
    """Maps observations (n, D), and for a policy with gSDE a noise matrix xi (F, A), to actions (n, A)."""

    def __call__(self, obs: NDArray[Any], xi: NDArray[Any] | None = None, /) -> NDArray[np.float32]:
        """Return the deterministic actions, or those of gSDE where there is ``xi``."""
        ...


class _Explores(Protocol):
    def explored(self, obs: Tensor, xi: Tensor) -> Tensor: ...


def dense_graph(net: DenseNet) -> bytes:
    """Return the ONNX model of a perceptron, input ``obs`` (1, D), output ``actions`` (1, A), without metadata.

    With gSDE it has a second input, ``exploration`` (F, A), whose default is an initialiser of the same name, zeros:
    who does not feed it gets the deterministic action, to the bit that of the network without it.

    Raises:
        ValueError: The activation is unknown, a layer does not fit the one before, or a weight is not finite.
    """
    check_dense(net)
    nodes, weights, more = dense_nodes(net, INPUT)
    taken = [tensor_info(INPUT, (1, net.layers[0][0].shape[1])), *more]
    return model_of(nodes, taken, [tensor_info(OUTPUT, (1, net.layers[-1][0].shape[0]))], weights)


def dense_nodes(
    net: DenseNet, x: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[onnx.ValueInfoProto]]:
    """Return what computes ``actions`` from tensor ``x``: nodes, initialisers, and inputs beside ``x``."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    taken: list[onnx.ValueInfoProto] = []
    for i, (w, b) in enumerate(net.layers):
        weights += [tensor(f"weight_{i}", w.T), tensor(f"bias_{i}", b)]
        nodes.append(helper.make_node("Gemm", [x, f"weight_{i}", f"bias_{i}"], [f"layer_{i}"]))
        if i == len(net.layers) - 1:
            nodes += _tail(net, features=x, mean=f"layer_{i}")
            break
        x = f"hidden_{i}"
        nodes += _activation(net.activation, f"layer_{i}", x)
    actions, features = net.layers[-1][0].shape
    if net.std is not None:
        taken.append(tensor_info(EXPLORATION, (features, actions)))
        weights += [tensor(_STD, net.std), tensor(EXPLORATION, np.zeros((features, actions)))]
    if math.isfinite(net.mean_clip):
        for name, bound in (("low", -net.mean_clip), ("high", net.mean_clip)):
            weights.append(numpy_helper.from_array(np.array(bound, np.float32), f"{_CLIPPED}_{name}"))
    return nodes, weights, taken


def trace_graph(module: nn.Module, obs_size: int) -> bytes:
    """Return the ONNX model of any module that maps (1, D) to (1, A), by ``torch.onnx``; weights inside."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The exporter by torch.export takes ten times as long and logs what it skips; both give the same nodes.
            warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
            torch.onnx.export(
                module,
                (torch.zeros(1, obs_size, device=device),),
                buffer,  # pyright: ignore[reportArgumentType]
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        module.train(was_training)
    return with_metadata(buffer.getvalue(), {})


def read_mlp(path: Path) -> DenseNet:
    """Read the perceptron back out of a policy file, exactly, so that fine-tuning can start from a release alone.

    Raises:
        ValueError: The file is torn, has a memory, or is no chain of Gemm and one activation that ends in Tanh.
    """
    model = parse_model(path.read_bytes(), path)  # a torn file gets its exact reason here
    if memory := of_network(model.inputs):
        raise ValueError(f"{path} has the memory {memory.kind!r}; only a policy without one can be read back")
    graph = onnx.load(path, load_external_data=False).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes, tail = _without_tail(list(graph.node))
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    activations: list[str] = []
    at, x, features = 0, graph.input[0].name, ""
    while at < len(nodes):
        w, b = _read_gemm(path, nodes[at], x, arrays)
        layers.append((w, b))
        activation, used = _read_activation(path, nodes[at + 1 : at + 3], nodes[at].output[0])
        activations.append(activation)
        at += 1 + used
        features, x = x, nodes[at - 1].output[0]
    if not activations or activations.pop() != "tanh" or x != graph.output[0].name:
        raise ValueError(f"{path}: the network does not end in Tanh; it is no robot_rl perceptron")
    if len(set(activations)) > 1:
        raise ValueError(f"{path}: the network mixes the activations {sorted(set(activations))}; one is expected")
    std, clip = arrays.get(_STD), float(arrays.get(f"{_CLIPPED}_high", math.inf))
    net = DenseNet(tuple(layers), activations[0] if activations else "tanh", std=std, mean_clip=clip)
    if tail and tail != _tail(net, features=features, mean=nodes[-1].input[0]):
        raise ValueError(f"{path}: between last layer and Tanh stand {[n.op_type for n in tail]}; no robot_rl policy")
    return net


def dense_forward(net: DenseNet) -> Forward:
    """Return the perceptron as torch computes it, from (n, D) to (n, A); raise ValueError as ``dense_graph`` does."""
    check_dense(net)
    layers = [(torch.from_numpy(np.array(w)), torch.from_numpy(np.array(b))) for w, b in net.layers]
    std = None if net.std is None else torch.from_numpy(np.array(net.std))
    act = ACTIVATIONS[net.activation]

    @torch.no_grad()
    def forward(obs: NDArray[Any], xi: NDArray[Any] | None = None) -> NDArray[np.float32]:
        x = torch.from_numpy(np.array(obs, dtype=np.float32))
        for w, b in layers[:-1]:
            x = act(nn.functional.linear(x, w, b))
        u = nn.functional.linear(x, *layers[-1]).clamp(-net.mean_clip, net.mean_clip)
        if xi is not None:
            assert std is not None, "only a policy with gSDE takes a noise matrix"
            u = u + gsde.noise(x, std * torch.from_numpy(np.array(xi)))
        return torch.tanh(u).numpy()

    return forward


def module_forward(module: nn.Module) -> Forward:
    """Return ``module`` in evaluation mode as a function of arrays; with gSDE it has the method ``explored``."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def forward(obs: NDArray[Any], xi: NDArray[Any] | None = None) -> NDArray[np.float32]:
        was_training = module.training
        module.eval()
        rows = torch.from_numpy(np.array(obs, dtype=np.float32)).to(device)
        if xi is None:
            out: Tensor = module(rows)
        else:
            out = cast("_Explores", module).explored(rows, torch.from_numpy(np.array(xi)).to(device))
        module.train(was_training)
        return out.float().cpu().numpy()

    return forward


def check_dense(net: DenseNet) -> None:
    """Raise ValueError where a layer does not fit, or something is not finite or not known."""
    if net.activation not in ACTIVATIONS:
        raise ValueError(f"no activation {net.activation!r}; the choices are {sorted(ACTIVATIONS)}")
    width = net.layers[0][0].shape[1]
    for i, (w, b) in enumerate(net.layers):
        if w.shape != (len(b), width):
            raise ValueError(f"layer {i}: weight {w.shape} does not fit bias {b.shape} and {width} inputs")
        if not (np.all(np.isfinite(w)) and np.all(np.isfinite(b))):
            raise ValueError(f"layer {i} holds weights that are not finite; the policy is not exported")
        width = len(b)
    features, actions = net.layers[-1][0].shape[::-1]
    if net.std is not None and net.std.shape not in ((features, actions), (features, 1)):
        raise ValueError(f"std has shape {net.std.shape}; gSDE needs {(features, actions)} or {(features, 1)}")
    if net.std is not None and not np.all(np.isfinite(net.std)):
        raise ValueError("std holds deviations that are not finite; the policy is not exported")


def _tail(net: DenseNet, *, features: str, mean: str) -> list[onnx.NodeProto]:
    """Return what follows the last layer: the bound of the mean, gSDE's noise and the tanh, as far as there are any."""
    nodes: list[onnx.NodeProto] = []
    if math.isfinite(net.mean_clip):
        nodes.append(helper.make_node("Clip", [mean, f"{_CLIPPED}_low", f"{_CLIPPED}_high"], [_CLIPPED]))
        mean = _CLIPPED
    if net.std is not None:  # xi -> W = sigma xi, and mu + z^T W in one node
        nodes.append(helper.make_node("Mul", [_STD, EXPLORATION], [_MATRIX]))
        nodes.append(helper.make_node("Gemm", [features, _MATRIX, mean], [_NOISY]))
        mean = _NOISY
    return [*nodes, *_activation("tanh", mean, OUTPUT)]


def _without_tail(nodes: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Split what ``_tail`` adds to a plain perceptron; return the nodes of that perceptron, and the tail."""
    chain = [node for node in nodes if not {_CLIPPED, _MATRIX, _NOISY} & set(node.output)]
    extra = len(nodes) - len(chain)
    if not extra or len(chain) < 2:
        return nodes, []
    return [*chain[:-1], *_activation("tanh", chain[-2].output[0], OUTPUT)], nodes[len(chain) - 1 :]


def model_of(
    nodes: list[onnx.NodeProto],
    taken: list[onnx.ValueInfoProto],
    given: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> bytes:
    """Return a model of these nodes, inputs, outputs and initialisers, serialised."""
    graph = helper.make_graph(nodes, "policy", taken, given, weights)
    model = helper.make_model(graph, producer_name="robot_rl", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return model.SerializeToString()


def tensor(name: str, x: np.ndarray) -> onnx.TensorProto:
    """Return an initialiser, float32."""
    return numpy_helper.from_array(np.ascontiguousarray(x, dtype=np.float32), name)


def tensor_info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    """Return an input or output, float32."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _activation(name: str, x: str, out: str) -> list[onnx.NodeProto]:
    if name == "silu":  # x * sigmoid(x); ONNX has no such node before opset 24
        gate = helper.make_node("Sigmoid", [x], [f"{out}_gate"])
        return [gate, helper.make_node("Mul", [x, f"{out}_gate"], [out])]
    return [helper.make_node(_NODES[name], [x], [out])]


def _read_gemm(
    path: Path, node: onnx.NodeProto, x: str, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    inputs = list(node.input)
    if (
        node.op_type != "Gemm"
        or inputs[:1] != [x]
        or not all(name in arrays for name in inputs[1:])
        or len(inputs) != 3
    ):
        raise ValueError(f"{path}: node {node.op_type!r} stands where a Gemm on {x!r} is expected; no plain perceptron")
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0 or options.get("transA", 0):
        raise ValueError(f"{path}: Gemm on {x!r} has the options {options}; expected none but transB")
    weight = arrays[inputs[1]]
    return np.array(weight if options.get("transB", 0) else weight.T), np.array(arrays[inputs[2]])


def _read_activation(path: Path, nodes: Sequence[onnx.NodeProto], x: str) -> tuple[str, int]:
    """Return the activation that ``nodes`` begin with, applied to ``x``, and how many nodes it takes."""
    kinds = [n.op_type for n in nodes]
    if kinds == ["Sigmoid", "Mul"] and list(nodes[0].input) == [x] and set(nodes[1].input) == {x, nodes[0].output[0]}:
        return "silu", 2
    for name, kind in _NODES.items():
        if kinds[:1] == [kind] and list(nodes[0].input) == [x]:
            return name, 1
    raise ValueError(f"{path}: after {x!r} come the nodes {kinds}; the activations known are {sorted(ACTIVATIONS)}")
