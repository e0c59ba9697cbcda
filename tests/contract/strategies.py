"""What the tests of the contract share: any valid contract, and the folder of small policy files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from robot_rl.contract.spec import ACTION_KINDS, ActionLaw, Command, Contract, ImageTerm, JointLimits, ObsTerm
from robot_rl.contract.terms import TERMS

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
"""See ``tests/golden/make_policies.py``."""

_positive = st.floats(1e-3, 1e4)
_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)


def _sizes(contract_joints: int, measured: int, command: int) -> dict[str, int]:
    per_joint = {"joint_pos": measured, "joint_pos_rel": measured, "joint_vel_rel": measured, "joint_effort": measured}
    other = {"joint_sin_cos": 2 * measured, "last_action": contract_joints, "velocity_commands": command}
    other |= {"command": command, "tool_axes": 6, "object_axes": 6}
    return dict.fromkeys(TERMS, 3) | per_joint | other | {"foot_contact": 4}


def _with_path(law: ActionLaw, rng: np.random.Generator, rate_hz: float) -> ActionLaw:
    """A law with another scale below 0 and, for positions, a low-pass that 50 Hz allow too."""
    n = len(law.scale)
    scale, below = (tuple(row.tolist()) for row in 10.0 ** rng.uniform(-3.0, 3.0, (2, n)))
    cutoff_hz = float(rng.uniform(0.05, 0.45)) * min(rate_hz, 50.0) if law.kind == "joint_position" else 0.0
    return replace(law, scale=scale, scale_below=below, lowpass_hz=cutoff_hz)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Any valid contract: every term, action law, history, clip; odd names and numbers.

    Rows of numbers come from a seeded generator: drawing each would take most of the test's time.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def row(n: int, low: float, high: float) -> tuple[float, ...]:
        return tuple(rng.uniform(low, high, n).tolist())

    def factors(n: int) -> tuple[float, ...]:
        return tuple((rng.choice((-1.0, 1.0), n) * 10.0 ** rng.uniform(-5.0, 5.0, n)).tolist())

    names = draw(st.lists(_names, min_size=1, max_size=6, unique=True))
    moved = draw(st.integers(1, len(names)))
    command = draw(st.integers(1, 3))
    sizes = _sizes(moved, len(names), command)
    terms = []
    for name in draw(st.lists(st.sampled_from(sorted(TERMS)), min_size=1, max_size=6, unique=True)):
        low = draw(st.floats(-50.0, 0.0))
        clip = draw(st.none() | st.floats(0.01, 50.0).map(lambda width, low=low: (low, low + width)))
        terms.append(ObsTerm(name, sizes[name], factors(sizes[name]), clip, draw(st.integers(1, 4))))

    low, rate_hz = row(moved, -3.0, 0.0), draw(_positive)
    law = ActionLaw(draw(st.sampled_from(ACTION_KINDS)), factors(moved), row(moved, -3.0, 3.0))
    return Contract(
        robot=draw(_names), task=draw(_names), joints=tuple(names[:moved]), passive=tuple(names[moved:]),
        obs=tuple(terms), command=Command(tuple(f"c{i}" for i in range(command)), (-1.0,) * command, (1.0,) * command),
        action=_with_path(law, rng, rate_hz) if draw(st.booleans()) else law,
        stiffness=row(moved, 0.0, 500.0), damping=row(moved, 0.0, 50.0),
        rate_hz=rate_hz, sim_rate_hz=draw(_positive),
        limits=JointLimits(low, tuple(x + 1.0 for x in low), row(moved, 0.1, 40.0), row(moved, 0.1, 300.0)),
        images=tuple(
            draw(
                st.lists(
                    st.builds(ImageTerm, _names, st.integers(1, 9), st.integers(1, 9)), max_size=2,
                    unique_by=lambda term: term.name,
                )
            )
        ),
        extra=draw(st.dictionaries(_names, st.floats(allow_nan=False, allow_infinity=False) | _names, max_size=2)),
    )  # fmt: skip
