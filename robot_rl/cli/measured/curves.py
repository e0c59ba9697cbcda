"""Learning curves of a comparison: return, training continuity cost and violations over environment steps.

Knows: ``metrics.jsonl`` of runs. Does not know: recipes, how the runs came about.

Shapes: S seeds · P points of the common grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from robot_rl.learn.figures import as_svg
from robot_rl.learn.metrics import METRICS_FILE, read_metrics

COST = "policy/continuity_cost"
VIOLATED = "violation/"
PANELS = {
    "episode/return": "return of training episodes",
    COST: "continuity cost of training",
    VIOLATED: "violations, summed over the constraints [% of steps]",
}
"""What is drawn, and the title of its panel."""
POINTS = 100

Curves = Mapping[str, np.ndarray]


def read_curves(folder: Path) -> dict[str, np.ndarray]:
    """Return every drawn quantity of a run, ``steps`` first, each (iterations,); empty where there is no run.

    Numbers that an iteration has not measured (no episode ended) are carried over from before it.
    """
    path = folder / METRICS_FILE
    rows = read_metrics(path) if path.is_file() else []
    if not rows:
        return {}
    constraints = [key for key in rows[-1] if key.startswith(VIOLATED)]
    found: dict[str, list[float]] = {name: [] for name in PANELS}
    for row in rows:
        for name in ("episode/return", COST):
            before = found[name][-1] if found[name] else float("nan")
            found[name].append(row.get(name, before))
        found[VIOLATED].append(100.0 * sum(row.get(key, 0.0) for key in constraints))
    curves = {"steps": np.array([row["steps"] for row in rows], dtype=float)}
    curves |= {name: np.array(x, dtype=float) for name, x in found.items()}
    if not constraints:
        del curves[VIOLATED]
    return {name: x for name, x in curves.items() if not np.isnan(x).all()}


def mean_cost(curves: Curves) -> float | None:
    """Return the continuity cost of the whole training, or None where it was not noted."""
    return float(np.nanmean(curves[COST])) if COST in curves else None


def plot(runs: Mapping[str, Sequence[Curves]]) -> str:
    """Return the panels as SVG: mean over seeds and the range between them.

    Args:
        runs: Per recipe the curves of its seeds; empty ones are left out.
    """
    from matplotlib.figure import Figure

    names = [name for name in PANELS if any(name in curves for seeds in runs.values() for curves in seeds)]
    figure = Figure(figsize=(8, 2.6 * max(len(names), 1)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(max(len(names), 1), 1, sharex=True))
    for axes, name in zip(panels, names, strict=False):
        for recipe, seeds in runs.items():
            part = [curves for curves in seeds if name in curves]
            if part:
                steps, values = common_grid(part, name)
                (line,) = axes.plot(steps / 1e6, values.mean(0), label=f"{recipe}, {len(part)} seeds")
                axes.fill_between(steps / 1e6, values.min(0), values.max(0), color=line.get_color(), alpha=0.2)
        axes.set_title(PANELS[name], fontsize=10)
        axes.legend(fontsize=8)
    panels[-1].set_xlabel("environment steps [million]")
    return as_svg(figure)


def common_grid(curves: Sequence[Curves], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (P,) that all runs cover and the quantity there, (S, P), each point a mean over its interval."""
    last = min(float(c["steps"][-1]) for c in curves)
    edges = np.linspace(0.0, last, POINTS + 1)
    values = np.stack([_binned(c["steps"], c[name], edges) for c in curves])
    return 0.5 * (edges[1:] + edges[:-1]), values


def _binned(steps: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    steps, values = steps[known], values[known]
    at = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, len(edges) - 2)
    inside = steps <= edges[-1]
    count = np.bincount(at[inside], minlength=len(edges) - 1)
    total = np.bincount(at[inside], values[inside], minlength=len(edges) - 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    return np.where(count > 0, total / np.maximum(count, 1), np.interp(middle, steps, values))
