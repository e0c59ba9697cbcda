"""Put a contract to work: states into observations, actions into joint targets and back.

Order of operations, fixed: raw term, noise (training only), clip, scale, history (oldest first, per term),
concatenate in listed order. The same code serves one robot in NumPy and N environments in NumPy or torch.

Does not know: policies, drivers, simulators.

Shapes: ... batch (nothing or N) · D observation · A action · J joints of the robot (its order).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from robot_rl.contract.arrays import Array, like, namespace
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.contract.terms import find_term

Noise = Callable[[str, Array], Array]
"""Maps (term name, raw term) to the corrupted raw term; training only."""


def joint_indices(contract: Contract, joints: Sequence[str]) -> list[int]:
    """Return where each measured joint of the contract stands in ``joints``, length len(joints + passive).

    Raises:
        ValueError: The sets of names differ; both are listed.
    """
    wanted = contract.joints + contract.passive
    missing = sorted(set(wanted) - set(joints))
    extra = sorted(set(joints) - set(wanted))
    if missing or extra:
        raise ValueError(
            f"joints differ: the contract has {missing} that robot lacks, and the robot has {extra} that the contract "
            f"lacks; contract: {list(wanted)}; robot: {list(joints)}"
        )
    return [list(joints).index(name) for name in wanted]


class Observer:
    """Build observations from states; holds the histories, one per term."""

    def __init__(self, contract: Contract, joints: Sequence[str], batch: tuple[int, ...] = ()) -> None:
        """Prepare for states with joints in the order of ``joints`` and the given batch shape.

        Raises:
            ValueError: The joint names differ, or a term is unknown.
        """
        self.contract = contract
        self.batch = batch
        indices = joint_indices(contract, joints)
        self._order = None if indices == list(range(len(joints))) else indices
        self._terms = [(term, find_term(term.name)) for term in contract.obs]
        self._history: dict[str, Array] = {}

    def reset(self) -> None:
        """Forget every history; the next frame fills them whole."""
        self._history.clear()

    def __call__(self, state: RobotState, noise: Noise | None = None) -> Array:
        """Return the observation, shape (..., D), float32; advances the histories by one frame."""
        return self._observe(state, noise, None)

    def restart(self, state: RobotState, ids: Array, noise: Noise | None = None) -> Array:
        """Begin anew for the batch entries ``ids``, shape (n,), whose states, shape (n, ...), are given.

        Returns their observations, shape (n, D); the histories of the others stay.
        """
        return self._observe(state, noise, ids)

    def _observe(self, state: RobotState, noise: Noise | None, ids: Array | None) -> Array:
        parts = []
        state = self._in_order(state)
        for term, function in self._terms:
            x = function(state, self.contract)
            if x.shape[-1] != term.size:
                raise ValueError(f"obs term {term.name!r} gives {x.shape[-1]} numbers; the contract says {term.size}")
            if noise is not None:
                x = noise(term.name, x)
            if term.clip is not None:
                x = namespace(x).clip(x, *term.clip)
            x = x * like(term.scale, x)
            parts.append(x if term.history == 1 else self._remember(term.name, term.history, x, ids))
        return as_float32(namespace(parts[0]).concat(parts, -1))

    def _in_order(self, state: RobotState) -> RobotState:
        if self._order is None:
            return state
        order = self._order
        return dataclasses.replace(
            state,
            joint_pos=state.joint_pos[..., order],
            joint_vel=state.joint_vel[..., order],
            joint_effort=state.joint_effort[..., order],
        )

    def _remember(self, name: str, frames: int, x: Array, ids: Array | None) -> Array:
        """Append ``x`` to the history of a term and return it flat, oldest first, (..., H*k)."""
        xp = namespace(x)
        past = self._history.get(name)
        if ids is not None and past is not None:
            frames_of_ids = xp.stack([x] * frames, -2)
            past[ids] = frames_of_ids
            return frames_of_ids.reshape(*x.shape[:-1], frames * x.shape[-1])
        if past is None:
            past = xp.stack([x] * frames, -2)  # (..., H, k)
        else:
            past = xp.concat((past[..., 1:, :], x[..., None, :]), -2)
        self._history[name] = past
        return past.reshape(*x.shape[:-1], frames * x.shape[-1])


class ActionMap:
    """Turn raw actions into joint targets of the robot, and targets back into actions."""

    def __init__(self, contract: Contract, joints: Sequence[str]) -> None:
        """Prepare for a robot with joints in the order of ``joints``; raise ValueError where the names differ."""
        self.contract = contract
        n = len(contract.joints)
        self._indices = joint_indices(contract, joints)[:n]  # where action i goes in the robot's order
        self._whole = self._indices == list(range(len(joints)))
        self._num_joints = len(joints)
        self._constants: dict[str, tuple[Array, ...]] = {}

    def target(self, action: Array, state: RobotState) -> JointTarget:
        """Apply the action law; the result is in the robot's order, each field (..., J), passive joints zero.

        Args:
            action: Raw action, shape (..., A), clipped here to the contract's bounds.
            state: The state the action was chosen in; used by relative laws only.
        """
        law = self.contract.action
        scale, offset, stiffness, damping = self._numbers(action)
        value = namespace(action).clip(action, *law.clip) * scale
        if law.kind == "joint_effort":
            zeros = value * 0.0
            return self._full(zeros, zeros, value, stiffness, damping)
        if law.kind == "joint_position_relative":
            value = value + as_kind(state.joint_pos, value)[..., self._indices]
        else:
            value = value + offset
        return self._full(value, value * 0.0, value * 0.0, stiffness, damping)

    def action(self, target: JointTarget, state: RobotState) -> Array:
        """Return the raw action that would give ``target``, shape (..., A); the inverse of ``target``."""
        law = self.contract.action
        value = target.effort_ff if law.kind == "joint_effort" else target.pos
        value = value[..., self._indices]
        scale, offset, _, _ = self._numbers(value)
        if law.kind == "joint_position":
            value = value - offset
        elif law.kind == "joint_position_relative":
            value = value - as_kind(state.joint_pos, value)[..., self._indices]
        return value / scale

    def _numbers(self, x: Array) -> tuple[Array, ...]:
        """Return scale, offset, stiffness, damping in the namespace and type of ``x``, cached."""
        key = f"{namespace(x).__name__} {x.dtype} {getattr(x, 'device', '')}"
        if key not in self._constants:
            c = self.contract
            self._constants[key] = tuple(
                like(values, x) for values in (c.action.scale, c.action.offset, c.stiffness, c.damping)
            )
        return self._constants[key]

    def _full(self, pos: Array, vel: Array, effort: Array, stiffness: Array, damping: Array) -> JointTarget:
        xp = namespace(pos)
        fields = (pos, vel, effort, xp.broadcast_to(stiffness, pos.shape), xp.broadcast_to(damping, pos.shape))
        if self._whole:
            return JointTarget(*fields)
        return JointTarget(*(self._scatter(x) for x in fields))

    def _scatter(self, x: Array) -> Array:
        xp = namespace(x)
        full = xp.zeros((*x.shape[:-1], self._num_joints), dtype=x.dtype)
        if xp is not np:
            full = full.to(x.device)
        full[..., self._indices] = x
        return full


def as_float32(x: Array) -> Array:
    """Return ``x`` as float32, without a copy where it is."""
    return x.astype(np.float32, copy=False) if namespace(x) is np else x.float()


def as_kind(x: Array, other: Array) -> Array:
    """Return ``x`` in the floating type of ``other``."""
    return x.astype(other.dtype, copy=False) if namespace(x) is np else x.to(other.dtype)
