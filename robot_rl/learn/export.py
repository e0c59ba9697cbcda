"""Export: a trained policy becomes one ``.onnx`` file that carries its contract, golden vectors and provenance.

A multi-layer perceptron, with or without a memory in front, is written layer by layer, in milliseconds, so that a
learner can export every few seconds; any other module goes through ``torch.onnx``. Either way the file is only written
where onnxruntime reproduces the torch module on recorded observations.

Knows: the metadata of a policy file, what must hold before it is written.
Does not know: graphs (``graph``), how the policy was trained.

Shapes: n recorded steps · D observation · A action · J joints.
"""

from __future__ import annotations

import datetime
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from robot_rl import __version__
from robot_rl.contract import golden as gold
from robot_rl.contract.exploration import EXPLORATION, KEY_EXPLORATION, draw, record_exploration
from robot_rl.contract.memory import KEY_MEMORY, Memory, of_network
from robot_rl.contract.model_file import parse_model, with_metadata
from robot_rl.contract.sample import sample_states
from robot_rl.contract.spec import SCHEMA, Contract
from robot_rl.contract.state import RobotState
from robot_rl.contract.vectors import golden_to_json, joined
from robot_rl.data.atomic import replacing
from robot_rl.learn.graph import Forward, dense_forward, dense_graph, module_forward, read_mlp, trace_graph
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.pixels import Policy
from robot_rl.learn.pixels_graph import Pictures, Seeing, seeing_graph, seen_with, session_seeing, torch_seeing
from robot_rl.learn.recurrent import RecurrentActor
from robot_rl.learn.recurrent_graph import (
    Remembering,
    actor_forward,
    recurrent_graph,
    recurrent_net,
    session_forward,
)

__all__ = ["Dense", "Provenance", "current_commit", "export_policy", "foreign_metadata", "read_mlp"]

_log = logging.getLogger(__name__)

PARITY = 1e-5
"""Largest difference between an action of torch and of onnxruntime."""
GOLDEN_STEPS = 12
_PARITY_DRAWS = 4


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a policy comes from. What the export itself knows (versions, time, architecture) is added to it."""

    recipe: str
    seed: int
    steps: int
    """Environment steps, or updates, behind these weights."""
    algorithm: str = ""
    parent: str = ""
    """SHA-256 of the policy file that this one was fine-tuned from; empty where trained from scratch."""
    commit: str = ""
    """Commit of the code, see ``current_commit``."""
    command: str = ""


@runtime_checkable
class Dense(Protocol):
    """A module that can describe itself as a plain multi-layer perceptron on raw observations.

    Where that has deviations of gSDE, the module also has a method ``explored``, see ``nets.Actor``.
    """

    def as_mlp(self) -> DenseNet:
        """Return the policy, normaliser folded in."""
        ...


def export_policy(
    policy: nn.Module | DenseNet,
    contract: Contract,
    path: Path,
    *,
    provenance: Provenance,
    joints: Sequence[str] = (),
    states: RobotState | None = None,
    observations: NDArray[np.floating[Any]] | None = None,
    pictures: Pictures | None = None,
    sde_every: int = 8,
) -> gold.Bundle:
    """Write ``policy`` to ``path`` in one piece and return what a robot will read.

    Args:
        policy: A module that maps raw observations (n, D) to actions (n, A) in [-1, 1], one with a memory
            (``RecurrentActor``), one that sees (``pixels.Policy``), or a plain ``DenseNet``.
        contract: What the policy assumes.
        path: The ``.onnx`` file; its folder is made.
        provenance: Where the weights come from.
        joints: Names in the order of ``states``; the contract's own order by default.
        states: Consecutive recorded states, every field (n, ...), the last of which become golden vectors. Half of
            the golden vectors, or all without ``states``, are drawn within the contract's limits, which shows
            errors that a calm recording would hide.
        observations: Recorded observations to prove parity on, (n, D), for a memory one episode after the other; the
            golden ones are always used.
        pictures: What the cameras of the contract showed with ``observations``, (n, H, W, 3) by ``ImageTerm.group``.
        sde_every: gSDE only: control steps between draws of the noise matrix; on the robot the default is the same.

    Raises:
        ValueError: onnxruntime does not reproduce torch within ``PARITY``, or sizes differ; nothing is written.
    """
    began = datetime.datetime.now(datetime.timezone.utc)
    reference, graph, architecture = _as_graph(policy, contract)
    model = parse_model(graph, path)
    gold.check_shapes(model, contract)
    memory = of_network(model.inputs)
    infer = _session(graph, memory, contract)
    names = tuple(joints) or contract.joints + contract.passive
    record = gold.record_golden(contract, names, _golden_states(contract, names, states), reference)
    shown = record.obs if observations is None else np.concatenate((record.obs, observations))
    _prove_parity(reference, infer, shown, pictures=seen_with(contract.images, len(record.obs), pictures))
    about = asdict(provenance) | {
        "created": began.isoformat(timespec="seconds"),
        "robot_rl": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "architecture": architecture,
    }
    metadata = foreign_metadata(contract, provenance) | {
        gold.KEY_SCHEMA: str(SCHEMA),
        gold.KEY_PROVENANCE: json.dumps(about, sort_keys=True, separators=(",", ":")),
        gold.KEY_GOLDEN: golden_to_json(record),
        gold.KEY_CONTRACT: contract.to_json(),
        gold.KEY_CONTRACT_SHA256: contract.fingerprint,
        gold.KEY_GRAPH_SHA256: model.graph_sha256,
    }
    if memory is not None:
        _prove_sequence(reference, infer, record.obs)
        metadata[KEY_MEMORY] = memory.to_json()
    if EXPLORATION in model.inputs:
        features, actions = model.inputs[EXPLORATION]
        _prove_parity_exploring(reference, infer, shown, (features, actions))
        _forget(reference)
        explores = record_exploration(record.obs, reference, shape=(features, actions), interval=sde_every)
        metadata[KEY_EXPLORATION] = explores.to_json()
    return _write(path, with_metadata(graph, metadata), infer)


def foreign_metadata(contract: Contract, provenance: Provenance) -> dict[str, str]:
    """Return the keys that mjlab's and BeyondMimic's deployers read, with floats in full where those write "%.3f"."""
    terms, law = contract.obs, contract.action
    scale = {} if law.scale_below or law.lowpass_hz else {"action_scale": _csv(law.scale)}  # their law has neither
    return {
        "run_path": provenance.recipe,
        "joint_names": ",".join(contract.joints),
        "joint_stiffness": _csv(contract.stiffness),
        "joint_damping": _csv(contract.damping),
        "default_joint_pos": _csv(law.offset),
        "command_names": ",".join(contract.command.names),
        "observation_names": ",".join(term.name for term in terms),
        "observation_history_lengths": _csv(tuple(float(term.history) for term in terms)),
        **scale,
    }


def current_commit() -> str:
    """Return the commit of the checkout that this package stands in, with ``+`` where it has changes; "" outside."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        run = subprocess.run(
            [*git, "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"], capture_output=True
        )
    except FileNotFoundError:  # no git on this machine
        return ""
    return run.stdout.decode().strip() if run.returncode == 0 else ""


def _golden_states(contract: Contract, joints: Sequence[str], recorded: RobotState | None) -> RobotState:
    rng = np.random.default_rng(0)
    if recorded is None:
        return sample_states(contract, joints, GOLDEN_STEPS, rng)
    return joined(recorded, sample_states(contract, joints, GOLDEN_STEPS // 2, rng), keep=GOLDEN_STEPS // 2)


def _session(graph: bytes, memory: Memory | None, contract: Contract) -> Forward:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of every initialiser that is an input's default
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    if memory is not None:
        return session_forward(session, memory)
    if contract.images:
        return cast("Forward", session_seeing(session, contract.images))

    def infer(obs: NDArray[Any], xi: NDArray[Any] | None = None) -> NDArray[np.float32]:
        feed = {gold.INPUT: obs} if xi is None else {gold.INPUT: obs, EXPLORATION: xi}
        return np.asarray(session.run([gold.OUTPUT], feed)[0])

    return infer


def _prove_parity(
    reference: Forward, infer: Forward, observations: NDArray[Any], xi: NDArray[np.float32] | None = None, *,
    pictures: Pictures | None = None,
) -> None:  # fmt: skip
    rows = np.asarray(observations, dtype=np.float32)
    if isinstance(reference, Remembering) and isinstance(infer, Remembering):
        expected, got = _step_by_step(reference, infer, rows, xi)
    elif pictures is not None:
        expected, got = (cast("Seeing", run)(rows, pictures=pictures) for run in (reference, infer))
    else:
        expected = reference(rows, xi)
        got = np.concatenate([infer(row[None], xi) for row in rows]).reshape(expected.shape)
    error = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))  # an LSTM's cells may exceed 1
    if not np.all(error <= PARITY):  # also where it is NaN
        worst = float(np.nanmax(error, initial=0.0))
        raise ValueError(
            f"export refused: onnxruntime and torch differ by {worst:.3g} on {len(rows)} recorded observations"
            f"{'' if xi is None else ' while exploring'} (allowed {PARITY:g}; NaN: {int(np.isnan(error).sum())}); "
            "nothing was written"
        )


def _step_by_step(
    reference: Remembering, infer: Remembering, rows: NDArray[Any], xi: NDArray[np.float32] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the actions of both and what both remember after, (n, A + W); both take each step from the same memory."""
    reference.forget()
    expected: list[NDArray[Any]] = []
    got: list[NDArray[Any]] = []
    for row in rows:
        infer.state = reference.state
        expected.append(np.append(reference(row[None], xi), reference.state))
        got.append(np.append(infer(row[None], xi), infer.state))
    return np.stack(expected), np.stack(got)


def _prove_sequence(reference: Forward, infer: Forward, observations: NDArray[Any]) -> None:
    """Let both remember for themselves: where single steps agree, only a memory that magnifies rounding still errs."""
    _forget(reference, infer)
    rows = np.asarray(observations, dtype=np.float32)
    worst = float(np.max(np.abs(infer(rows) - reference(rows))))
    if not worst <= PARITY:
        raise ValueError(
            f"export refused: onnxruntime and torch agree in every step, but drift {worst:.3g} apart in {len(rows)} "
            f"(allowed {PARITY:g}): the memory magnifies rounding errors and would act otherwise on every machine; "
            "nothing was written"
        )


def _prove_parity_exploring(
    reference: Forward, infer: Forward, observations: NDArray[Any], shape: tuple[int, int]
) -> None:
    """Share the observations among a few noise matrices."""
    for index in range(min(_PARITY_DRAWS, len(observations))):
        _prove_parity(reference, infer, observations[index::_PARITY_DRAWS], draw(0, index, shape))


def _forget(*policies: Forward) -> None:
    """Empty their memories, where they have some."""
    for policy in policies:
        if isinstance(policy, Remembering):
            policy.forget()


def _write(path: Path, data: bytes, infer: Forward) -> gold.Bundle:
    """Write whole, read back as a robot does, and only then give the file its name."""
    with replacing(path) as hidden:
        hidden.write_bytes(data)
        bundle = gold.read_bundle(hidden)
        gold.replay_golden(bundle, infer, forget=lambda: _forget(infer), atol=PARITY)
    _log.info("exported %s, %s", path, bundle.file_sha256[:12])
    return replace(bundle, path=path)


def _as_graph(policy: nn.Module | DenseNet, contract: Contract) -> tuple[Forward, bytes, Mapping[str, Any]]:
    """Return the policy as torch computes it, as an ONNX model, and in words."""
    if isinstance(policy, Policy):
        graph, about = seeing_graph(policy, contract.obs_size, contract.images), {"kind": "encoder and mlp"}
        return cast("Forward", torch_seeing(policy, contract.images)), graph, about
    if isinstance(policy, DenseNet):
        return dense_forward(policy), dense_graph(policy), _architecture(policy)
    if isinstance(policy, RecurrentActor):
        net = recurrent_net(policy)
        about = {"memory": net.memory.kind, "memory_features": net.memory.features, **_architecture(net.head)}
        return actor_forward(policy, net.memory), recurrent_graph(net), about
    if isinstance(policy, Dense):
        net = policy.as_mlp()
        if net.std is not None and not hasattr(policy, "explored"):
            raise ValueError(f"{type(policy).__name__} has deviations of gSDE but no method explored(obs, xi)")
        return module_forward(policy), dense_graph(net), _architecture(net)
    return module_forward(policy), trace_graph(policy, contract.obs_size), {"kind": type(policy).__name__}


def _architecture(net: DenseNet) -> Mapping[str, Any]:
    sizes = [net.layers[0][0].shape[1], *(w.shape[0] for w, _ in net.layers)]
    about = {"kind": "mlp", "sizes": [int(n) for n in sizes], "activation": net.activation, "output": "tanh"}
    return about if net.std is None else about | {"exploration": "gsde"}


def _csv(values: tuple[float, ...]) -> str:
    return ",".join(repr(v) for v in values)
