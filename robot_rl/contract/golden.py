"""Golden vectors: a policy file carries recorded states and what it made of them, so that a robot can replay them.

Before a robot may move it repeats, with its own CPU and libraries, every step from raw state to joint target and
compares. A contract that was edited, recomputed or rounded after export does not reproduce its own golden vectors.

Knows: the metadata keys of a policy file, how to record and replay golden vectors.
Does not know: the inference library, drivers, the live robot (``check``).

Shapes: n golden steps · J joints (order of ``Golden.joints``) · D observation · A action · K command.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract.apply import Observer
from robot_rl.contract.diagnose import explain_obs, explain_targets
from robot_rl.contract.exploration import EXPLORATION, KEY_EXPLORATION, Exploration, parse_exploration
from robot_rl.contract.memory import Memory, of_network, read_memory
from robot_rl.contract.model_file import ModelFile, read_model_file
from robot_rl.contract.path import targets_in_turn
from robot_rl.contract.sight import shown
from robot_rl.contract.spec import SCHEMA, Contract
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.contract.vectors import (
    Golden,
    close,
    float32_states,
    golden_from_json,
    json_object,
    observe,
    short,
    split,
)

KEY_SCHEMA = "robot_rl.schema_version"
KEY_CONTRACT = "robot_rl.contract"
KEY_CONTRACT_SHA256 = "robot_rl.contract_sha256"
KEY_GOLDEN = "robot_rl.golden"
KEY_PROVENANCE = "robot_rl.provenance"
KEY_GRAPH_SHA256 = "robot_rl.graph_sha256"
KEYS = (KEY_SCHEMA, KEY_CONTRACT, KEY_CONTRACT_SHA256, KEY_GOLDEN, KEY_PROVENANCE, KEY_GRAPH_SHA256)

INPUT, OUTPUT = "obs", "actions"
"""Names of the network's tensors."""

TARGET_TOLERANCE = 1e-9
"""Action law in float64; a scale rounded to three digits is a thousand times further off."""
OBS_TOLERANCE = 1e-6
"""Observations are rounded to float32."""

_STATE_JOINT_FIELDS = ("joint_pos", "joint_vel", "joint_effort")
_TARGET_FIELDS = tuple(f.name for f in dataclasses.fields(JointTarget))

Infer = Callable[..., NDArray[np.floating[Any]]]
"""Maps one observation, (1, D) float32, to the action, A numbers in any shape; a policy that explores also maps an
observation and an exploration matrix, (F, A) float32. Where the policy has a memory, it goes on from call to call;
where the contract names cameras, it is also given ``pictures``, see ``sight``."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One policy file, whole and consistent in itself; the network still wants to be replayed (``replay_golden``)."""

    path: Path
    contract: Contract
    provenance: dict[str, Any]
    golden: Golden
    file_sha256: str
    graph_sha256: str
    exploration: Exploration | None = None
    """How it explores; None where it was trained without gSDE."""
    memory: Memory | None = None
    """What it remembers; None where it sees the observation alone."""


def read_bundle(path: Path) -> Bundle:
    """Read a policy file with NumPy alone, and check that it is whole and that its contract reproduces its vectors.

    Raises:
        ValueError: The exact reason why the file is no whole, unaltered robot_rl policy.
        FileNotFoundError: There is no such file.
    """
    model = read_model_file(path)
    where = str(path)
    _check_keys(model)
    version = model.metadata[KEY_SCHEMA]
    if version != str(SCHEMA):
        raise ValueError(f"{where}: {KEY_SCHEMA} is {version!r}; this version reads {str(SCHEMA)!r}")
    try:
        contract = Contract.from_json(model.metadata[KEY_CONTRACT])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    stated = model.metadata[KEY_CONTRACT_SHA256]
    if contract.fingerprint != stated:
        raise ValueError(
            f"{where}: the contract was changed after export: its fingerprint is {contract.fingerprint[:12]}…, "
            f"{KEY_CONTRACT_SHA256} says {stated[:12]}…"
        )
    if model.graph_sha256 != model.metadata[KEY_GRAPH_SHA256]:
        raise ValueError(
            f"{where}: the network or its weights were changed after export: the graph's SHA-256 is "
            f"{model.graph_sha256[:12]}…, {KEY_GRAPH_SHA256} says {model.metadata[KEY_GRAPH_SHA256][:12]}…"
        )
    check_shapes(model, contract)
    golden = golden_from_json(model.metadata[KEY_GOLDEN], f"{where}: {KEY_GOLDEN}")
    provenance = json_object(model.metadata[KEY_PROVENANCE], f"{where}: {KEY_PROVENANCE}")
    exploration = _read_exploration(model, golden)
    hashes = model.file_sha256, model.graph_sha256
    bundle = Bundle(path, contract, provenance, golden, *hashes, exploration, read_memory(model))
    replay_contract(bundle)
    return bundle


def check_shapes(model: ModelFile, contract: Contract) -> None:
    """Refuse a network that does not take what the contract observes or give what it acts with.

    Raises:
        ValueError: Name or shape of a tensor is wrong; both sides are named.
    """
    size = contract.num_actions * contract.chunk
    wanted: dict[str, tuple[int, ...]] = {INPUT: (1, contract.obs_size)}
    wanted |= {term.group: (1, *term.shape) for term in contract.images}
    if EXPLORATION in model.inputs:  # a policy may take it, of any number of features
        features = model.inputs[EXPLORATION][:1]
        wanted[EXPLORATION] = (features[0] if features and features[0] else 1, size)
    given: dict[str, tuple[int, ...]] = {OUTPUT: (1, size)}
    if memory := of_network(model.inputs):  # it may take a memory, and then gives it back
        wanted |= dict.fromkeys(memory.inputs, memory.shape)
        given |= dict.fromkeys(memory.outputs, memory.shape)
    if model.inputs != wanted:
        raise ValueError(f"{model.path}: the network takes {model.inputs}; the contract needs {wanted}")
    if OUTPUT in model.outputs and math.prod(model.outputs[OUTPUT]) == size:
        given[OUTPUT] = model.outputs[OUTPUT]
    if model.outputs != given:
        raise ValueError(f"{model.path}: the network gives {model.outputs}; the contract needs {given}")


def record_golden(
    contract: Contract, joints: Sequence[str], states: RobotState, infer: Infer, *, seed: int = 0
) -> Golden:
    """Run ``states`` (every field (n, ...), joints in the order of ``joints``) through contract and network.

    The states are rounded to float32 first, and ``stamp_s`` becomes 0, 1, 2 … control periods, so that what is
    written is exactly what was run. ``infer`` is called in the order of the steps; a memory must be empty before.

    Raises:
        ValueError: Joint names differ from the contract's, or a state holds NaN.
    """
    states = float32_states(states)
    count = len(states.joint_pos)
    states.stamp_s = np.arange(count) / contract.rate_hz
    observer = Observer(contract, joints)
    obs = np.stack([observer(state) for state in split(states)])
    if not np.all(np.isfinite(obs)):
        raise ValueError(
            f"golden state {int(np.argwhere(~np.isfinite(obs))[0, 0])} gives an observation that is not finite"
        )
    actions = np.stack(
        [np.asarray(infer(row[None], **shown(contract.images, step))).ravel() for step, row in enumerate(obs)]
    )
    probe = short(np.random.default_rng(seed).uniform(-1.5, 1.5, (count, contract.num_actions)))
    targets = targets_in_turn(contract, joints, probe, states)
    return Golden(
        joints=tuple(joints),
        contract_sha256=contract.fingerprint,
        states=states,
        obs=short(obs),
        actions=short(actions),
        probe=probe,
        targets=JointTarget(*(np.array(getattr(targets, name)) for name in _TARGET_FIELDS)),
    )


def replay_contract(bundle: Bundle) -> None:
    """Repeat every golden step that needs no network: rate, raw state to observation, action to joint target.

    Raises:
        ValueError: Something differs; the term, joint or cause is named.
    """
    contract, golden = bundle.contract, bundle.golden
    _check_sizes(bundle)
    _check_rate(bundle)
    targets = targets_in_turn(contract, golden.joints, golden.probe, golden.states)
    for name in _TARGET_FIELDS:
        if not close(getattr(targets, name), getattr(golden.targets, name), TARGET_TOLERANCE):
            raise ValueError(f"{bundle.path}: {explain_targets(contract, golden, TARGET_TOLERANCE)}")
    if not close(observe(contract, golden), golden.obs, OBS_TOLERANCE):
        raise ValueError(f"{bundle.path}: {explain_obs(contract, golden, OBS_TOLERANCE)}")


def replay_golden(
    bundle: Bundle, infer: Infer, *, forget: Callable[[], None] = lambda: None, atol: float = 1e-5
) -> None:
    """Repeat the network's part of every golden step; ``read_bundle`` has repeated the contract's.

    Args:
        bundle: What ``read_bundle`` gave.
        infer: The network as this machine runs it.
        forget: Clears the memory; wanted where the policy has one.
        atol: Largest difference allowed between actions; the contract's own arithmetic is held tighter.

    Raises:
        ValueError: The vectors belong to another contract, or an action differs, of the mean or while exploring; step
            and joint are named.
    """
    if bundle.golden.contract_sha256 != bundle.contract.fingerprint:
        raise ValueError(
            f"{bundle.path}: the contract was changed and signed again after export: the golden vectors were recorded "
            f"under {bundle.golden.contract_sha256[:12]}…, the contract's fingerprint is "
            f"{bundle.contract.fingerprint[:12]}…"
        )
    explores, rows, images = bundle.exploration, bundle.golden.obs.astype(np.float32), bundle.contract.images
    if bundle.memory is not None:
        infer(rows[-1:], **shown(images, 0))  # something to forget
    forget()
    for step, row in enumerate(rows):
        got = infer(row[None], **shown(images, step))
        _check_action(bundle, "golden actions", step, got, bundle.golden.actions[step], atol)
    if explores is not None:
        forget()
        for step, row in enumerate(rows):
            got = infer(row[None], explores.matrix(step), **shown(images, step))
            _check_action(bundle, "golden exploration", step, got, explores.actions[step], atol)


def _read_exploration(model: ModelFile, golden: Golden) -> Exploration | None:
    shape, text = model.inputs.get(EXPLORATION), model.metadata.get(KEY_EXPLORATION)
    if (shape is None) != (text is None):
        has, lacks = ("metadata", "input") if shape is None else ("input", "metadata")
        name = {"metadata": KEY_EXPLORATION, "input": EXPLORATION}
        raise ValueError(
            f"{model.path} has the {has} {name[has]!r} without the {lacks} {name[lacks]!r}; the file was edited"
        )
    if shape is None or text is None:
        return None
    where = f"{model.path}: {KEY_EXPLORATION}"
    explores = parse_exploration(text, shape, where)
    if explores.actions.shape != golden.actions.shape:
        raise ValueError(f"{where}.actions has shape {explores.actions.shape}; expected {golden.actions.shape}")
    return explores


def _check_keys(model: ModelFile) -> None:
    missing = [key for key in KEYS if key not in model.metadata]
    if len(missing) == len(KEYS):
        raise ValueError(
            f"{model.path} carries no robot_rl contract (its metadata: {sorted(model.metadata) or 'none'}); "
            "export it with 'robot-rl export'"
        )
    if missing:
        raise ValueError(f"{model.path} lacks the metadata {missing}; the file is truncated or was edited")


def _check_sizes(bundle: Bundle) -> None:
    contract, golden = bundle.contract, bundle.golden
    measured = contract.joints + contract.passive
    missing, extra = sorted(set(measured) - set(golden.joints)), sorted(set(golden.joints) - set(measured))
    if missing or extra:
        raise ValueError(
            f"{bundle.path}: the golden vectors know no joints {missing} of the contract, the contract knows no joints "
            f"{extra} of theirs; contract: {list(measured)}; golden: {list(golden.joints)}"
        )
    count, joints, actions = len(golden), len(golden.joints), contract.num_actions
    shapes = {
        "obs": (golden.obs, (count, contract.obs_size)),
        "actions": (golden.actions, (count, actions * contract.chunk)),
        "probe": (golden.probe, (count, actions)),
        **{
            f"states.{n}": (getattr(golden.states, n), (count, joints))
            for n in ("joint_pos", "joint_vel", "joint_effort")
        },
        **{f"targets.{n}": (getattr(golden.targets, n), (count, joints)) for n in JointTarget.__dataclass_fields__},
        "states.quat_xyzw": (golden.states.quat_xyzw, (count, 4)),
        "states.ang_vel_b": (golden.states.ang_vel_b, (count, 3)),
        "states.command": (golden.states.command, (count, len(contract.command.names))),
        "states.last_action": (golden.states.last_action, (count, actions)),
    }
    for name, (x, wanted) in shapes.items():
        if x.shape != wanted:
            raise ValueError(f"{bundle.path}: golden {name} has shape {x.shape}; the contract needs {wanted}")


def _check_rate(bundle: Bundle) -> None:
    stamps = bundle.golden.states.stamp_s
    if len(stamps) < 2:
        return
    period = float(np.mean(np.diff(stamps)))
    if not math.isclose(period * bundle.contract.rate_hz, 1.0, rel_tol=1e-6):
        raise ValueError(
            f"{bundle.path}: wrong rate: the golden vectors were recorded at {1.0 / period:.6g} Hz, "
            f"the contract says {bundle.contract.rate_hz:.6g} Hz"
        )


def _check_action(
    bundle: Bundle, what: str, step: int, answer: NDArray[Any], expected: NDArray[np.float64], atol: float
) -> None:
    got = np.asarray(answer, dtype=np.float64).ravel()
    if got.shape != expected.shape:
        raise ValueError(f"{bundle.path}: the network gave {got.size} numbers; golden step {step} has {expected.size}")
    error = np.abs(got - expected)
    if not np.all(error <= atol):  # also where it is NaN
        worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
        joint = bundle.contract.joints[worst % bundle.contract.num_actions]
        raise ValueError(
            f"{bundle.path}: the network does not reproduce its {what}: step {step}, joint {joint!r} gave "
            f"{got[worst]:.7g}, exported was {expected[worst]:.7g} (allowed difference {atol:g})"
        )
