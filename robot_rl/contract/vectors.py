"""Golden vectors as data: recorded states and what a policy made of them, written to JSON and read back exactly.

Knows: the layout, the rounding that makes numbers short and exact.
Does not know: policy files, the network (``golden``).

Shapes: n golden steps · J joints (order of ``Golden.joints``) · D observation · A action.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract.apply import Observer
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import JointTarget, RobotState

_MAY_BE_UNMEASURED = ("joint_effort", "lin_acc_b")  # rows of a robot without these sensors hold NaN


@dataclass(frozen=True, slots=True)
class Golden:
    """Consecutive states from a reset on, and what the policy made of each. Arrays are float64, n rows each."""

    joints: tuple[str, ...]
    """Joint names in the order of ``states`` and ``targets``."""
    contract_sha256: str
    """Fingerprint of the contract the vectors were recorded under."""
    states: RobotState
    """Every field (n, ...); ``stamp_s`` (n,) counts control periods from zero."""
    obs: NDArray[np.float64]
    """Expected observations, (n, D), exact float32 numbers."""
    actions: NDArray[np.float64]
    """Expected network outputs, (n, A)."""
    probe: NDArray[np.float64]
    """Raw actions for the action law, (n, A), beyond its clip too: a timid network would hide a wrong scale."""
    targets: JointTarget
    """Expected joint targets for ``probe``, every field (n, J)."""

    def __len__(self) -> int:
        return len(self.obs)


def golden_to_json(golden: Golden) -> str:
    """Return the golden vectors as JSON; every number survives exactly."""
    raw = {
        "joints": list(golden.joints),
        "contract_sha256": golden.contract_sha256,
        "states": _lists(golden.states),
        "obs": golden.obs.tolist(),
        "actions": golden.actions.tolist(),
        "probe": golden.probe.tolist(),
        "targets": _lists(golden.targets),
    }
    return json.dumps(raw, separators=(",", ":"), allow_nan=False)


def golden_from_json(text: str, where: str = "golden vectors") -> Golden:
    """Read what ``golden_to_json`` wrote; raise ValueError naming the field that is wrong."""
    raw = json_object(text, where)
    _check_fields(raw, Golden, where, required={f.name for f in dataclasses.fields(Golden)})
    needed = {f.name for f in dataclasses.fields(RobotState) if f.default is dataclasses.MISSING}
    _check_fields(raw["states"], RobotState, f"{where}.states", required=needed)
    _check_fields(raw["targets"], JointTarget, f"{where}.targets", required=set(JointTarget.__dataclass_fields__))
    states = {name: _array(x, f"{where}.states.{name}") for name, x in raw["states"].items()}
    targets = {name: _array(x, f"{where}.targets.{name}") for name, x in raw["targets"].items()}
    plain = {name: _array(raw[name], f"{where}.{name}") for name in ("obs", "actions", "probe")}
    count = len(plain["obs"])
    for name, x in [*plain.items(), *states.items(), *targets.items()]:
        if x.ndim == 0 or len(x) != count or count == 0:
            raise ValueError(f"{where}.{name} has shape {x.shape}; expected {count} rows, at least one")
    joints = raw["joints"]
    if not isinstance(joints, list) or not all(isinstance(j, str) for j in joints):
        raise ValueError(f"{where}.joints is {joints!r}; expected a list of names")
    return Golden(
        tuple(joints), str(raw["contract_sha256"]), RobotState(**states), targets=JointTarget(**targets), **plain
    )


def observe(contract: Contract, golden: Golden, states: RobotState | None = None) -> NDArray[np.float32]:
    """Return the observations (n, D) that ``contract`` makes of the golden states, or of ``states`` in their place."""
    observer = Observer(contract, golden.joints)
    return np.stack([observer(state) for state in split(golden.states if states is None else states)])


def split(states: RobotState) -> list[RobotState]:
    """Return the n single states of a batch."""
    fields = {f.name: getattr(states, f.name) for f in dataclasses.fields(RobotState)}
    return [
        RobotState(**{name: None if x is None else x[i] for name, x in fields.items()})
        for i in range(len(states.joint_pos))
    ]


def joined(first: RobotState, second: RobotState, *, keep: int) -> RobotState:
    """Return the last ``keep`` states of ``first`` and then all of ``second``.

    An optional field that one lacks, or measures in another width, is None.
    """
    fields: dict[str, Any] = {}
    for f in dataclasses.fields(RobotState):
        a, b = getattr(first, f.name), getattr(second, f.name)
        both = a is not None and b is not None and (f.default is dataclasses.MISSING or a.shape[1:] == b.shape[1:])
        fields[f.name] = np.concatenate((np.asarray(a)[-keep:], np.asarray(b))) if both else None
    return RobotState(**fields)


def close(got: NDArray[Any], expected: NDArray[Any], atol: float) -> bool:
    """Whether every element differs by at most ``atol`` times the larger of 1 and the expected magnitude."""
    return got.shape == expected.shape and bool(
        np.all(np.abs(got - expected) <= atol * np.maximum(1.0, np.abs(expected)))
    )


def float32_states(states: RobotState) -> RobotState:
    """Return a float64 copy of float32 numbers whose JSON is short; every field (n, ...).

    Raises:
        ValueError: A quantity that every robot measures holds NaN or infinity.
    """
    values: dict[str, Any] = {}
    for f in dataclasses.fields(RobotState):
        x = getattr(states, f.name)
        if x is None:
            values[f.name] = None
        elif np.all(np.isfinite(np.asarray(x))):
            values[f.name] = short(np.asarray(x))
        elif f.default is None:
            values[f.name] = None  # an optional quantity that this robot does not measure
        elif f.name in _MAY_BE_UNMEASURED:
            values[f.name] = np.zeros(np.shape(x))
        else:
            raise ValueError(f"golden states hold NaN or infinity in {f.name}")
    return RobotState(**values)


def short(x: NDArray[Any]) -> NDArray[np.float64]:
    """Round to float32 and return the float64 with the shortest decimal that means it."""
    x32 = np.asarray(x, dtype=np.float32)
    return np.array([float(str(v)) for v in x32.ravel()], dtype=np.float64).reshape(x32.shape)


def _lists(value: RobotState | JointTarget) -> dict[str, Any]:
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: x.tolist() for name, x in fields.items() if x is not None}


def _array(value: Any, where: str) -> NDArray[np.float64]:
    try:
        x = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is no array of numbers: {error}") from error
    if not np.all(np.isfinite(x)):
        raise ValueError(f"{where} holds NaN or infinity")
    return x


def json_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object; raise ValueError that begins with ``where`` for anything else."""
    try:
        raw = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is {type(raw).__name__}; expected a JSON object")
    return raw


def _check_fields(raw: Any, kind: type, where: str, required: set[str]) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is {type(raw).__name__}; expected a JSON object")
    known = {f.name for f in dataclasses.fields(kind)}
    missing, unknown = sorted(required - set(raw)), sorted(set(raw) - known)
    if missing or unknown:
        raise ValueError(f"{where} lacks the fields {missing} and has the unknown fields {unknown}")
