"""CaT: constraints as terminations, Chane-Sane et al. 2024 (arXiv:2403.18765).

Per column i of the constraints, with margin c_i (positive where violated):

    peak_i  <- tau peak_i + (1 - tau) max over environments of c_i, at least 1e-6     (starts at the first maximum)
    p_i      = p_max_i clip(c_i / peak_i, 0, 1)
    delta    = max_i p_i                                                              (a soft logical or)

``delta`` is the probability that the step ends the stream of rewards. The learner sees it as ``terminated`` and cuts
that share of the future value; the reward of the step itself is scaled by ``1 - delta`` in the world. Only gains are
scaled, penalties stay whole: scaling the sum would pay a robot that is being punished for violating. The authors clip
the sum at 0 instead, which erases penalties. A task's gains must outweigh its penalties all the same: where the future
is worth less than nothing, cutting it is no punishment.

The chance of soft constraints rises from ``p_start`` to ``p_max`` linearly in its inverse, the expected lifetime.

Deviations. A constraint that says how often it is ``allowed`` to be violated takes only as much of its chance as it
needs, down to a twentieth. Under the whole of it a robot finds a gait that keeps the limits, yet does less than it is
told, since every step that it takes is a risk; under less it keeps that gait and does the rest. Per control step, with
the violation rate v averaged over some hundred:

    share_i <- clip(share_i exp(clip(v_i / allowed_i - 1, -1, 1) / 2000), 0.05, 1)

And a constraint never resets the simulation, not even a hard one (delta is kept one float below 1); a task that wants
that names the same condition among its ``dones``. Running maxima and shares are training state: they are part of a
checkpoint, and evaluation neither needs nor moves them.

Knows: margins, NumPy and torch alike. Does not know: worlds, learners, what a margin measures.

Shapes: N environments · C columns of all constraints together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.contract.arrays import Array, as_float, like, namespace
from robot_rl.sim.task import Constraint, Constraints, Outcome

LEAST_SHARE, PATIENCE, SMOOTHING = 0.05, 2000.0, 200.0
"""Of a chance, what is always left; control steps that it takes to fall or rise by e at most, and to average over."""
FLOOR = 1e-6
"""Least running maximum."""
BELOW_ONE = float(np.nextafter(np.float32(1.0), np.float32(0.0)))
"""Largest ``delta``: 1 would reset."""


def probability(margin: Array, peak: Array, p_max: Array) -> Array:
    """Return p, (N, C), of margins (N, C) with running maxima and chances (C,); a NaN is the worst violation."""
    xp = namespace(margin)
    share = xp.clip(margin / peak, 0.0, 1.0)
    return xp.where(xp.isnan(margin), xp.ones_like(share), share) * p_max


def follow(peak: Array | None, margin: Array, tau: float) -> Array:
    """Return the running maxima, (C,), after margins (N, C); infinite ones of a copy that exploded are left out."""
    xp = namespace(margin)
    top = xp.clip(xp.amax(xp.where(xp.isfinite(margin), margin, xp.zeros_like(margin)), 0), FLOOR, None)
    return top if peak is None else tau * like(peak, top) + (1.0 - tau) * top


def scheduled(p_max: float, constraints: Constraints, steps: int) -> float:
    """Return the chance of a constraint after ``steps`` control steps; hard ones are always whole."""
    if p_max in (0.0, 1.0):
        return p_max
    first, last = 1.0 / min(constraints.p_start, p_max), 1.0 / p_max
    risen = min(1.0, steps / constraints.ramp_steps) if constraints.ramp_steps else 1.0
    return 1.0 / (first + risen * (last - first))


def violations(constraints: Constraints, outcome: Outcome) -> dict[str, Array]:
    """Return which environments violate each constraint in a step, bool (N,) per name; needs no running maximum."""
    return {name: _beyond(_margin(name, term, outcome)).any(-1) for name, term in constraints.terms.items()}


class Cat:
    """The running maxima and the curriculum of one training."""

    def __init__(self, constraints: Constraints) -> None:
        """Start untrained: the first step sets the maxima."""
        self.constraints = constraints
        self.peak: Array | None = None
        """Running maximum of every column, (C,); None before the first step."""
        self.steps = 0
        """Control steps taken."""
        self.rate, self.share = np.zeros(len(constraints.terms)), np.ones(len(constraints.terms))
        """Of each constraint: violations per step, averaged; what is taken of its chance. Both (terms,)."""
        self.log: dict[str, float] = {}
        """Of the last step: ``violation/<name>``, the share of environments, and ``cat/...``."""

    def check(self, outcome: Outcome) -> None:
        """Evaluate every margin once.

        Raises:
            ValueError: A constraint does not fit the robot; says which and why.
        """
        violations(self.constraints, outcome)

    def chance(self, outcome: Outcome) -> Array:
        """Return delta, (N,), and move the maxima and the curriculum on by one step."""
        margins = [_margin(name, term, outcome) for name, term in self.constraints.terms.items()]
        terms, p_max = list(self.constraints.terms.values()), list[float]()
        for term, share, margin in zip(terms, self.share.tolist(), margins, strict=True):
            p_max += [share * scheduled(term.p_max, self.constraints, self.steps)] * margin.shape[-1]
        margin = namespace(margins[0]).concat(margins, -1)  # (N, C)
        self.peak = follow(self.peak, margin, self.constraints.tau)
        p = probability(margin, self.peak, like(p_max, margin))
        delta = namespace(p).clip(namespace(p).amax(p, -1), 0.0, BELOW_ONE)
        self.steps += 1
        violated = [float(as_float(_beyond(m).any(-1), m).mean()) for m in margins]
        self._share_out(np.array(violated))
        self.log = {f"violation/{name}": rate for name, rate in zip(self.constraints.terms, violated, strict=True)}
        self.log |= {
            f"cat/share_{name}": float(share)
            for (name, term), share in zip(self.constraints.terms.items(), self.share, strict=True)
            if _relaxes(term)
        }
        self.log |= {"cat/chance": float(delta.mean()), "cat/p_max_soft": max(_soft(p_max), default=1.0)}
        return delta

    def _share_out(self, violated: np.ndarray) -> None:
        """Move the shares on by one step in which constraints were ``violated`` so often, (terms,)."""
        self.rate += (violated - self.rate) / min(SMOOTHING, self.steps)
        for i, term in enumerate(self.constraints.terms.values()):
            if term.allowed is not None and _relaxes(term):
                need = min(max(self.rate[i] / term.allowed - 1.0, -1.0), 1.0)
                self.share[i] = min(max(self.share[i] * np.exp(need / PATIENCE), LEAST_SHARE), 1.0)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        names, rate, share = list(self.constraints.terms), self.rate.tolist(), self.share.tolist()
        return {"names": names, "peak": self.peak, "steps": self.steps, "rate": rate, "share": share}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned.

        Raises:
            ValueError: It belongs to other constraints.
        """
        names = list(self.constraints.terms)
        if list(snapshot["names"]) != names:
            raise ValueError(f"the checkpoint has the constraints {snapshot['names']}; the task has {names}")
        self.peak, self.steps = snapshot["peak"], int(snapshot["steps"])
        self.rate, self.share = np.array(snapshot["rate"]), np.array(snapshot["share"])


def _relaxes(term: Constraint) -> bool:
    """Whether less than the whole chance may do."""
    return term.allowed is not None and term.p_max < 1.0


def _margin(name: str, term: Constraint, outcome: Outcome) -> Array:
    margin = term.margin(outcome)
    if margin.ndim != 2 or margin.shape[0] != outcome.action.shape[0]:
        raise ValueError(
            f"constraint {name!r} gives shape {tuple(margin.shape)}; a margin is (environments, columns), here "
            f"({outcome.action.shape[0]}, columns)"
        )
    return margin


def _beyond(margin: Array) -> Array:
    """Whether a limit is broken, bool (N, C); NaN is."""
    return ~(margin <= 0.0)


def _soft(p_max: list[float]) -> list[float]:
    return [p for p in p_max if p < 1.0]
