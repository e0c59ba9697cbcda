"""Put a contract to work: states into observations, actions into joint targets and back.

Order of operations, fixed: raw term, noise (training only), clip, scale, history (oldest first, per term),
concatenate in listed order. The same code serves one robot in NumPy and N environments in NumPy or torch.

Does not know: policies, drivers, simulators.

Shapes: ... batch (nothing or N) · D observation · A action · J joints of the robot (its order).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from robot_rl.contract.arrays import Array, like, namespace
from robot_rl.contract.spec import Contract, ObsTerm
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.contract.terms import Term, find_term

_FIELDS = attrgetter(*(f.name for f in dataclasses.fields(RobotState)))

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
        self._order = None if indices == list(range(len(joints))) else np.array(indices, dtype=np.intp)
        self._terms = [(term, find_term(term.name)) for term in contract.obs]
        self._history: dict[str, Array] = {}
        self._one = _OneRobot(contract)
        self._rows = _Rows(contract)

    def reset(self) -> None:
        """Forget every history; the next frame fills them whole."""
        self._history.clear()
        self._one.empty = True

    @property
    def histories(self) -> dict[str, Array]:
        """Copies of the frames of a batch, by term, each (..., H, k), oldest first; empty before the first frame."""
        return {name: namespace(x).stack([x], 0)[0] for name, x in self._history.items()}

    @histories.setter
    def histories(self, frames: Mapping[str, Array]) -> None:
        self._history = dict(frames)

    def __call__(self, state: RobotState, noise: Noise | None = None) -> Array:
        """Return the observation, shape (..., D), float32; advances the histories by one frame."""
        if noise is None and type(state.joint_pos) is np.ndarray and state.joint_pos.ndim == 1:
            return self._one.observe(self._in_order(state))
        return self._observe(state, noise, None)

    def restart(self, state: RobotState, ids: Array, noise: Noise | None = None) -> Array:
        """Begin anew for the batch entries ``ids``, shape (n,), whose states, shape (n, ...), are given.

        Returns their observations, shape (n, D); the histories of the others stay.
        """
        return self._observe(state, noise, ids)

    def _observe(self, state: RobotState, noise: Noise | None, ids: Array | None) -> Array:
        state = self._in_order(state)
        if self._rows.plain and noise is None and type(state.joint_pos) is np.ndarray:
            return self._rows.observe(state)
        parts = []
        for term, function in self._terms:
            x = function(state, self.contract)
            _check_width(term, x)
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
        ordered = RobotState(*_FIELDS(state))
        ordered.joint_pos = state.joint_pos[..., order]
        ordered.joint_vel = state.joint_vel[..., order]
        ordered.joint_effort = state.joint_effort[..., order]
        return ordered

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


class _Rows:
    """The same order of operations for a NumPy batch without histories, on whole rows."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.plain = all(term.history == 1 for term in contract.obs)
        """Whether this is all that the contract asks for."""
        ends = np.cumsum([term.size for term in contract.obs]).tolist()
        self._terms = [(t, find_term(t.name), slice(e - t.size, e)) for t, e in zip(contract.obs, ends, strict=True)]
        self._scale = np.array([factor for term in contract.obs for factor in term.scale])

    def observe(self, state: RobotState) -> Array:
        """Return the observations of states in contract order, shape (..., D), float32; the array is new."""
        rows = np.empty((*state.joint_pos.shape[:-1], len(self._scale)))
        for term, function, part in self._terms:
            x = function(state, self.contract)
            _check_width(term, x)
            rows[..., part] = x if term.clip is None else np.clip(x, *term.clip)
        return np.multiply(rows, self._scale, out=rows).astype(np.float32)


class _OneRobot:
    """The same order of operations for one robot in NumPy, on whole rows: the control thread runs it every tick."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.empty = True
        """Whether the next frame fills the histories."""
        self._frames: list[tuple[ObsTerm, Term, slice]] = []
        self._blocks: list[tuple[slice, slice, int]] = []  # in the row of frames, in the observation, frames
        frame = column = 0
        for term in contract.obs:
            part = slice(frame, frame + term.size)
            self._frames.append((term, find_term(term.name), part))
            self._blocks.append((part, slice(column, column + term.width), term.history))
            frame, column = frame + term.size, column + term.width
        self._raw = np.zeros(frame)
        self._row = np.zeros(column)
        self._scale = np.array([factor for term in contract.obs for factor in term.scale])
        bounds = [term.clip or (-np.inf, np.inf) for term in contract.obs for _ in range(term.size)]
        self._low, self._high = np.array(bounds, dtype=np.float64).reshape(-1, 2).T.copy()
        self._clips = any(term.clip for term in contract.obs)

    def observe(self, state: RobotState) -> Array:
        """Return the observation of a state in contract order, shape (D,), float32; the array is new."""
        raw, contract = self._raw, self.contract
        for term, function, part in self._frames:
            x = function(state, contract)
            if x.shape != (term.size,):
                raise ValueError(f"obs term {term.name!r} has shape {x.shape}; the contract says ({term.size},)")
            raw[part] = x
        if self._clips:
            np.maximum(raw, self._low, out=raw)
            np.minimum(raw, self._high, out=raw)
        if len(self._row) == len(raw):  # no histories
            return np.multiply(raw, self._scale, out=self._row).astype(np.float32)
        raw *= self._scale
        row = self._row
        for frame, block, frames in self._blocks:
            size = frame.stop - frame.start
            if frames == 1:
                row[block] = raw[frame]
            elif self.empty:
                row[block].reshape(frames, size)[:] = raw[frame]
            else:
                row[block.start : block.stop - size] = row[block.start + size : block.stop]
                row[block.stop - size : block.stop] = raw[frame]
        self.empty = False
        return row.astype(np.float32)


def _check_width(term: ObsTerm, x: Array) -> None:
    if x.shape[-1] != term.size:
        raise ValueError(f"obs term {term.name!r} gives {x.shape[-1]} numbers; the contract says {term.size}")


class ActionMap:
    """Turn raw actions into joint targets of the robot, and targets back into actions."""

    def __init__(self, contract: Contract, joints: Sequence[str]) -> None:
        """Prepare for a robot with joints in the order of ``joints``; raise ValueError where the names differ."""
        self.contract = contract
        indices = joint_indices(contract, joints)[: len(contract.joints)]
        self._indices = np.array(indices, dtype=np.intp)  # where action i goes in the robot's order
        self._whole = indices == list(range(len(joints)))
        self._num_joints = len(joints)
        self._constants: dict[tuple[Any, Any], tuple[Array, ...]] = {}
        self._wide: tuple[Any, tuple[Array, ...]] = (None, ())

    def target(self, action: Array, state: RobotState) -> JointTarget:
        """Apply the action law; the result is in the robot's order, each field (..., J), passive joints zero.

        What is the same for all is shared and read-only: stiffness, damping, and in batches the zeros too.

        Args:
            action: Raw action, shape (..., A), clipped here to the contract's bounds.
            state: The state the action was chosen in; used by relative laws only.
        """
        law = self.contract.action
        scale, offset, stiffness, damping, zero = self._numbers(action)
        value = _clip(action, *law.clip)
        value = value * (scale if law.scale_below is None else self._each_scale(value, scale))
        if law.kind == "joint_position_relative":
            value = value + as_kind(state.joint_pos, value)[..., self._indices]
        elif law.kind == "joint_position":
            value = value + offset
        value = value if self._whole else self._scatter(value)
        if value.ndim > 1:
            stiffness, damping, zero = self._widened(value, (stiffness, damping, zero))
        if law.kind == "joint_effort":
            return JointTarget(zero, zero, value, stiffness, damping)
        return JointTarget(value, zero, zero, stiffness, damping)

    def action(self, target: JointTarget, state: RobotState) -> Array:
        """Return the raw action that would give ``target``, shape (..., A); the inverse of ``target``."""
        law = self.contract.action
        value = target.effort_ff if law.kind == "joint_effort" else target.pos
        value = value if self._whole else value[..., self._indices]
        scale, offset, *_ = self._numbers(value)
        if law.kind == "joint_position":
            value = value - offset
        elif law.kind == "joint_position_relative":
            value = value - as_kind(state.joint_pos, value)[..., self._indices]
        return value / (scale if law.scale_below is None else self._each_scale(value, scale))

    def _each_scale(self, x: Array, scale: Array) -> Array:
        """Return the scale on either side of 0, (..., A)."""
        return namespace(x).where(x < 0.0, like(self.contract.action.scale_below, x), scale)

    def _numbers(self, x: Array) -> tuple[Array, ...]:
        """Return scale and offset (A,), stiffness, damping and zeros (J,) in type and device of ``x``, cached."""
        key = (x.dtype, None if type(x) is np.ndarray else getattr(x, "device", None))
        found = self._constants.get(key)
        if found is None:
            c = self.contract
            scale, offset, *gains = (like(v, x) for v in (c.action.scale, c.action.offset, c.stiffness, c.damping))
            found = (scale, offset, *(x if self._whole else self._scatter(x) for x in (*gains, 0.0 * gains[0])))
            for constant in found:
                if type(constant) is np.ndarray:
                    constant.flags.writeable = False
            self._constants[key] = found
        return found

    def _widened(self, x: Array, rows: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return ``rows``, each (J,), as views in the shape of ``x``, (..., J), kept for the next of that shape."""
        key = (x.shape, x.dtype, x.device)
        known, wide = self._wide
        if known != key:
            wide = tuple(namespace(x).broadcast_to(row, x.shape) for row in rows)
            self._wide = key, wide
        return wide

    def _scatter(self, x: Array) -> Array:
        """Put values of the contract's joints, (..., A), at their places in the robot's order, (..., J); else zero."""
        if namespace(x) is np:
            full = np.zeros((*x.shape[:-1], self._num_joints), dtype=x.dtype)
        else:
            full = x.new_zeros((*x.shape[:-1], self._num_joints))
        full[..., self._indices] = x
        return full


def _clip(x: Array, low: float, high: float) -> Array:
    """``numpy.clip`` without its wrapper, which costs more than the work on one robot's action."""
    if type(x) is np.ndarray:
        return np.minimum(np.maximum(x, x.dtype.type(low)), x.dtype.type(high))
    return namespace(x).clip(x, low, high)


def as_float32(x: Array) -> Array:
    """Return ``x`` as float32, without a copy where it is."""
    return x.astype(np.float32, copy=False) if namespace(x) is np else x.float()


def as_kind(x: Array, other: Array) -> Array:
    """Return ``x`` in the floating type of ``other``."""
    return x.astype(other.dtype, copy=False) if namespace(x) is np else x.to(other.dtype)
