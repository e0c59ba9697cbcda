"""Make the small networks that the runtime's tests turn into policies: ``python tests/golden/networks/make.py``.

They are files because the robot side's tests run without the ``onnx`` package. No metadata: the tests add contracts.
All take ``obs`` (1, 45), the go2 layout of ``tests/runtime/conftest.py``, and give ``actions`` (1, 12).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

FOLDER = Path(__file__).parent
D, A = 45, 12
GRAVITY_Z = 5  # column of projected_gravity's z
UPRIGHT = -0.9999  # below this the body is level to a degree, as it hangs in the mirror driver


def main() -> None:
    """Write every network."""
    rng = np.random.default_rng(7)
    first, second = rng.normal(0, 0.05, (D, A)), rng.normal(0, 0.05, (D, A))
    write("healthy", linear(first))
    write("improved", linear(second))
    write("constant", linear(np.zeros((D, A)), bias=np.full(A, 0.3)))
    write("saturating", linear(rng.normal(0, 100.0, (D, A))))
    write("nan_when_level", linear(first, extra="nan"))
    write("saturating_when_level", linear(first, extra="push"))
    flip = np.zeros((D, A))
    flip[D - A :] = -50.0 * np.eye(A)  # answers its own last action with the opposite
    write("flipping", linear(flip, bias=np.full(A, -1.0)))
    write("slow", slow(first))


def linear(weight: np.ndarray, *, bias: np.ndarray | None = None, extra: str = "") -> tuple[list[NodeProto], dict]:
    """Return nodes and constants of ``0.95 * tanh(obs @ weight + bias + extra)``; saturating ones reach 1."""
    constants = {"weight": weight, "bias": np.zeros(A) if bias is None else bias, "gain": np.array(0.95)}
    nodes = [helper.make_node("Gemm", ["obs", "weight", "bias"], ["sum"])]
    last = "sum"
    if extra:
        constants |= {"pick": np.eye(D)[:, [GRAVITY_Z]], "level": np.array(UPRIGHT), "large": np.array(1e6)}
        nodes += [
            helper.make_node("MatMul", ["obs", "pick"], ["gravity"]),
            helper.make_node("Sub", ["gravity", "level"], ["over"]),  # negative when level
        ]
        if extra == "nan":
            constants["nothing"] = np.array(0.0)
            nodes += [
                helper.make_node("Sqrt", ["over"], ["root"]),
                helper.make_node("Mul", ["root", "nothing"], ["term"]),
            ]
        else:
            nodes += [
                helper.make_node("Neg", ["over"], ["under"]),
                helper.make_node("Relu", ["under"], ["some"]),
                helper.make_node("Mul", ["some", "large"], ["term"]),
            ]
        nodes.append(helper.make_node("Add", ["sum", "term"], ["total"]))
        last = "total"
    saturates = extra == "push" or np.abs(weight).max() > 60.0
    constants["gain"] = np.array(1.0 if saturates else 0.95)
    nodes += [helper.make_node("Tanh", [last], ["bounded"]), helper.make_node("Mul", ["bounded", "gain"], ["actions"])]
    return nodes, constants


def slow(weight: np.ndarray) -> tuple[list[NodeProto], dict]:
    """Return a network that multiplies by a 3000 x 3000 matrix six times and adds nothing to the answer."""
    nodes, constants = linear(weight)
    sizes = {"wide": (D, 3000), "square": (3000, 3000), "narrow": (3000, A)}
    constants |= {f"{name}_size": np.array(size) for name, size in sizes.items()}
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    head = [helper.make_node("ConstantOfShape", [f"{name}_size"], [name], value=zero) for name in sizes]
    head += [
        helper.make_node("MatMul", ["obs", "wide"], ["x0"]),
    ]
    head += [helper.make_node("MatMul", [f"x{i}", "square"], [f"x{i + 1}"]) for i in range(6)]
    head.append(helper.make_node("MatMul", ["x6", "narrow"], ["waste"]))
    nodes[0].output[0] = "useful"
    return [*head, nodes[0], helper.make_node("Add", ["useful", "waste"], ["sum"]), *nodes[1:]], constants


def write(name: str, network: tuple[list[NodeProto], dict]) -> None:
    """Check a network and write it to ``<name>.onnx``."""
    nodes, constants = network
    tensors = [
        numpy_helper.from_array(np.asarray(x, np.int64 if k.endswith("_size") else np.float32), k)
        for k, x in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, [1, D])],
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, [1, A])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
