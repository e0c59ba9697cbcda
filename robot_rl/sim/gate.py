"""The sim-to-sim gate: one policy in several physics backends on the same seeds, and how far they are apart.

A policy that walks in one engine alone has learnt that engine. The first backend named is the reference; the gate is
passed where every gap to it is within the limits.

Knows: summaries of episodes. Does not know: backends, terminals.

Shapes: E episodes, the same ones in every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.sim.backends import check_physics
from robot_rl.sim.evaluation import Episodes, run_episodes

Told = Callable[[str, int, int], None]
"""Called with the backend, the control steps done and the steps in all."""

Run = Callable[..., Episodes]
"""Called as ``run_episodes`` is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest gaps that pass. Our choice; parity of single trajectories is no better after contact."""

    falls: float = 0.05
    """Difference of the share of episodes that fall."""
    lin_vel: float = 0.05
    """Difference of the velocity errors [m/s]."""
    yaw_rate: float = 0.05
    """Difference of the yaw rate errors [rad/s]."""
    returns: float = 0.05
    """Difference of the mean returns, as a fraction of the reference's."""

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if not value >= 0.0:
                raise ValueError(f"gap {f.name} is {value}; a limit is at least 0")


@dataclass(frozen=True, slots=True)
class Gap:
    """How one backend differs from the reference: its number less the reference's; None where there is none."""

    falls: float
    lin_vel: float | None
    """[m/s]."""
    yaw_rate: float | None
    """[rad/s]."""
    returns: float
    """As a fraction of the reference's mean return."""
    returns_ci95: float | None
    """Half width of the 95 % interval of ``returns``, episodes paired by seed and command."""
    broken: tuple[str, ...]
    """Names of the limits that are broken."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same episodes in several backends."""

    episodes: dict[str, Episodes]
    """By backend, the reference first."""
    gaps: dict[str, Gap]
    """By backend, without the reference."""
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether every gap is within the limits."""
        return not any(gap.broken for gap in self.gaps.values())

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single episodes, ready for JSON."""
        return {
            "reference": next(iter(self.episodes)),
            "physics": {name: episodes.summary() for name, episodes in self.episodes.items()},
            "gaps": {name: dataclasses.asdict(gap) for name, gap in self.gaps.items()},
            "limits": dataclasses.asdict(self.limits),
            "passed": self.passed,
        }


def compare(
    policy: Path | str,
    physics: Sequence[str],
    *,
    limits: Limits = Limits(),
    progress: Told | None = None,
    run: Run = run_episodes,
    **options: Any,
) -> Comparison:
    """Run the same episodes in every backend of ``physics``, the reference first.

    Args:
        policy: As ``run_episodes`` takes it.
        physics: At least two backends.
        limits: The largest gaps that pass.
        progress: Told how far which backend is.
        run: Runs the episodes of one backend, in another environment if need be.
        options: Further options of ``run_episodes``; the same for all.

    Raises:
        ValueError: A backend does not exist or is named twice, or what ``run_episodes`` raises.
        ImportError: A backend's engine is not installed.
    """
    if len(physics) < 2 or len(set(physics)) < len(physics):
        raise ValueError(f"the gate needs two or more different backends, got {list(physics)}")
    for name in physics:
        check_physics(name)
    episodes: dict[str, Episodes] = {}
    for name in physics:
        tell = None if progress is None else _named(progress, name)
        episodes[name] = run(policy, physics=name, progress=tell, **options)
    return judge(episodes, limits)


def judge(episodes: Mapping[str, Episodes], limits: Limits) -> Comparison:
    """Compare episodes that ran already, by backend, the reference first."""
    (_, reference), *others = episodes.items()
    return Comparison(dict(episodes), {name: _gap(reference, other, limits) for name, other in others}, limits)


def _gap(reference: Episodes, other: Episodes, limits: Limits) -> Gap:
    ours, theirs = reference.summary(), other.summary()
    mean = max(abs(float(reference.returns.mean())), 1e-9)
    paired = (other.returns - reference.returns) / mean  # (E,)
    n = len(paired)
    gap = Gap(
        falls=float(other.fell.mean() - reference.fell.mean()),
        lin_vel=_difference(theirs["lin_vel_error"], ours["lin_vel_error"]),
        yaw_rate=_difference(theirs["yaw_rate_error"], ours["yaw_rate_error"]),
        returns=float(paired.mean()),
        returns_ci95=float(1.96 * paired.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        broken=(),
    )
    broken = tuple(
        f.name for f in dataclasses.fields(limits) if abs(getattr(gap, f.name) or 0.0) > getattr(limits, f.name)
    )
    return dataclasses.replace(gap, broken=broken)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _named(progress: Told, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)
