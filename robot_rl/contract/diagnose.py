"""Say why golden vectors do not come out as recorded: try the usual mistakes until one explains the numbers.

Knows: exchanged joints, scalar-first quaternions, changed scales, offsets, gains and clips.
Does not know: files, networks. Only runs after a mismatch; speed does not matter.

Shapes: n golden steps · J joints · D observation · A action.
"""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract.path import targets_in_turn
from robot_rl.contract.spec import ACTION_KINDS, Contract, ObsTerm
from robot_rl.contract.terms import TERMS
from robot_rl.contract.vectors import Golden, close, observe

_RECORDED = "the golden vectors were made with"
_PER_JOINT = {name for name in TERMS if name.startswith("joint_") or name == "last_action"}


def explain_targets(contract: Contract, golden: Golden, tolerance: float) -> str:
    """Return why the action law does not give the golden joint targets."""
    pair = _exchanged_joints(contract, golden, tolerance)
    if pair is not None:
        a, b = pair
        return f"joints {a!r} and {b!r} are exchanged in the contract; the golden vectors match when they are put back"
    for name in ("stiffness", "damping"):
        recorded = getattr(golden.targets, name)[0]
        for joint, now in zip(contract.joints, getattr(contract, name), strict=True):
            was = float(recorded[golden.joints.index(joint)])
            if not close(np.array(now), np.array(was), tolerance):
                return (
                    f"{name} of joint {joint!r} is {now!r} in the contract; the golden vectors were made with {was!r}"
                )
    return _explain_law(contract, golden, tolerance)


def explain_obs(contract: Contract, golden: Golden, tolerance: float) -> str:
    """Return why the contract does not give the golden observations from the golden states."""
    q = golden.states.quat_xyzw
    scalar_last = dataclasses.replace(golden.states, quat_xyzw=q[:, [1, 2, 3, 0]])
    if close(observe(contract, golden, scalar_last), golden.obs, tolerance):
        return (
            "wrong quaternion order: the golden vectors match when their orientations are read as wxyz; "
            "robot_rl states are xyzw"
        )
    got = observe(contract, golden)
    wrong = np.abs(got - golden.obs) > tolerance * np.maximum(1.0, np.abs(golden.obs))
    step, column = (int(i) for i in np.argwhere(wrong)[0])
    term, element = _term_at(contract, column)
    detail = f"gave {got[step, column]:.7g}, recorded was {golden.obs[step, column]:.7g} (step {step})"
    scale = _fitted_scale(got[:, column], golden.obs[:, column], term.scale[element])
    if scale is not None:
        detail += f"; the contract scales by {term.scale[element]!r}, {_RECORDED} {scale:.7g}"
    return f"observation term {term.name!r}, {_element(contract, term, element)}: {detail}"


def _exchanged_joints(contract: Contract, golden: Golden, tolerance: float) -> tuple[str, str] | None:
    """Find two joints whose exchange in the contract makes targets and observations match again."""
    for a, b in combinations(range(len(contract.joints)), 2):
        names = _exchange(contract.joints, a, b)
        for candidate in (dataclasses.replace(contract, joints=names), _exchange_rows(contract, a, b)):
            if _gives_targets(candidate, golden, tolerance):
                return contract.joints[a], contract.joints[b]
    return None


def _exchange_rows(contract: Contract, a: int, b: int) -> Contract:
    """Exchange two joints with their scale, offset, gains and limits."""
    law, limits = contract.action, contract.limits
    return dataclasses.replace(
        contract,
        joints=_exchange(contract.joints, a, b),
        action=dataclasses.replace(law, scale=_exchange(law.scale, a, b), offset=_exchange(law.offset, a, b)),
        stiffness=_exchange(contract.stiffness, a, b),
        damping=_exchange(contract.damping, a, b),
        limits=dataclasses.replace(
            limits,
            **{f.name: _exchange(getattr(limits, f.name), a, b) for f in dataclasses.fields(limits)},
        ),
    )


def _exchange(values: tuple[Any, ...], a: int, b: int) -> tuple[Any, ...]:
    out = list(values)
    out[a], out[b] = out[b], out[a]
    return tuple(out)


def _explain_law(contract: Contract, golden: Golden, tolerance: float) -> str:
    """Fit ``value = offset + scale * probe`` to each joint's recorded targets and compare with the contract."""
    law = contract.action
    for kind in ACTION_KINDS:
        candidate = dataclasses.replace(contract, action=dataclasses.replace(law, kind=kind))
        if _gives_targets(candidate, golden, tolerance):
            return f"action kind is {law.kind!r} in the contract; {_RECORDED} {kind!r}"
    if law.lowpass_hz or law.scale_below is not None:
        return _explain_path(contract, golden, tolerance)
    value = golden.targets.effort_ff if law.kind == "joint_effort" else golden.targets.pos
    if law.kind == "joint_position_relative":
        value = value - golden.states.joint_pos
    value = value[:, [golden.joints.index(joint) for joint in contract.joints]]  # (n, A)
    base = np.array(law.offset) if law.kind == "joint_position" else np.zeros(len(law.scale))
    for i, joint in enumerate(contract.joints):
        inside = np.abs(golden.probe[:, i]) < min(1.0, *map(abs, law.clip))
        if inside.sum() < 3:
            continue
        design = np.stack((golden.probe[inside, i], np.ones(inside.sum())), -1)  # (n, 2)
        scale, offset = (float(v) for v in np.linalg.lstsq(design, value[inside, i], rcond=None)[0])
        if not close(golden.probe[inside, i] * scale + offset, value[inside, i], 10.0 * tolerance):
            continue  # no straight line: something else is wrong
        for name, has, had in (("scale", law.scale[i], scale), ("offset", float(base[i]), offset)):
            if abs(has - had) > 10.0 * tolerance * max(1.0, abs(had)):
                return f"action {name} of joint {joint!r} is {has!r} in the contract; {_RECORDED} {had:.7g}"
    reached = (value - base) / np.array(law.scale)
    return f"action clip is {law.clip} in the contract; {_RECORDED} ({reached.min():.7g}, {reached.max():.7g})"


def _explain_path(contract: Contract, golden: Golden, tolerance: float) -> str:
    """Say what is known where targets are no straight line of the probe: whether a part is too much, else where."""
    for name, without in (("lowpass_hz", 0.0), ("scale_below", None)):
        law = dataclasses.replace(contract.action, **{name: without})
        if _gives_targets(dataclasses.replace(contract, action=law), golden, tolerance):
            return f"action {name} is {getattr(contract.action, name)} in the contract; {_RECORDED} {without}"
    got = targets_in_turn(contract, golden.joints, golden.probe, golden.states).pos
    wrong = np.abs(got - golden.targets.pos) > tolerance * np.maximum(1.0, np.abs(golden.targets.pos))
    step, joint = (int(i) for i in np.argwhere(wrong)[0])
    now, then = got[step, joint], golden.targets.pos[step, joint]
    return (
        f"the action path (scale, scale_below, offset, low-pass at {contract.action.lowpass_hz} Hz, limits) gives "
        f"joint {golden.joints[joint]!r} {now:.7g} in step {step}; recorded was {then:.7g}"
    )


def _gives_targets(contract: Contract, golden: Golden, tolerance: float) -> bool:
    target = targets_in_turn(contract, golden.joints, golden.probe, golden.states)
    return close(target.pos, golden.targets.pos, tolerance) and close(
        target.effort_ff, golden.targets.effort_ff, tolerance
    )


def _term_at(contract: Contract, column: int) -> tuple[ObsTerm, int]:
    """Return the term that fills ``column`` of the observation, and the element in one frame of it."""
    begin = 0
    for term in contract.obs:
        if column < begin + term.width:
            return term, (column - begin) % term.size
        begin += term.width
    raise AssertionError(f"column {column} lies beyond the observation of {begin}")


def _fitted_scale(got: NDArray[Any], recorded: NDArray[Any], scale: float) -> float | None:
    """Return the scale that the recording was made with, where one factor explains the whole column."""
    if not np.any(got):
        return None
    factor = float(np.dot(got, recorded) / np.dot(got, got))
    explained = np.allclose(got * factor, recorded, rtol=1e-5, atol=1e-7)
    return scale * factor if explained and abs(factor - 1.0) > 1e-6 else None


def _element(contract: Contract, term: ObsTerm, element: int) -> str:
    measured = contract.joints + contract.passive
    if term.name in _PER_JOINT and element < len(measured):
        return f"joint {measured[element]!r}"
    return f"element {element}"
