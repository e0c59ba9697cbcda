"""The result of ``robot-rl compare`` as a card in Markdown, as JSON and as a plot.

Knows: summaries of evaluations, recipes and seeds. Does not know: how they came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.cli.measured import curves
from robot_rl.data.atomic import write_whole
from robot_rl.learn.figures import as_svg

TITLES = {
    "fall_rate": ("falls", "%"),
    "lin_vel_error": ("velocity error", "m/s"),
    "yaw_rate_error": ("yaw rate error", "rad/s"),
    "tracking_reward": ("tracking reward", "1/s"),
    "return_mean": ("return", ""),
    "continuity_cost": ("continuity cost", ""),
    "training_cost": ("continuity cost of training", ""),
    "violation_mean": ("mean of all limits violated", "%"),
}
"""Numbers of a summary that the table begins with: title and unit."""

Row = Mapping[str, Any]


def write(
    folder: Path, about: Row, rows: Sequence[Row], runs: Mapping[str, Sequence[curves.Curves]] | None = None
) -> list[Path]:
    """Write ``compare.json``, ``compare.md`` and ``compare.svg`` into ``folder`` and return their paths.

    ``curves.svg`` joins them where there are learning curves.

    Args:
        folder: Made if missing.
        about: ``task``, ``episodes`` and ``command``.
        rows: One per policy: ``recipe``, ``seed``, ``policy``, ``sha256`` and the summary of its evaluation.
        runs: Per recipe the learning curves of its seeds.
    """
    means = aggregate(rows)
    drawn = {recipe: [c for c in seeds if c] for recipe, seeds in (runs or {}).items()}
    drawn = {recipe: seeds for recipe, seeds in drawn.items() if seeds}
    texts = {
        "compare.json": json.dumps({**about, "means": means, "policies": list(rows)}, indent=2, allow_nan=False) + "\n",
        "compare.md": markdown(about, rows, means, with_curves=bool(drawn)),
        "compare.svg": plot(means),
    } | ({"curves.svg": curves.plot(drawn)} if drawn else {})
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts]


def aggregate(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return mean and standard deviation over seeds, ``{recipe: {quantity: {mean, std}}}``; one seed has no std.

    Quantities are those of ``TITLES`` that were measured and ``violation/<constraint>``.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        numbers = {name: row[name] for name in TITLES if row.get(name) is not None}
        if violations := row.get("violations"):
            numbers["violation_mean"] = float(np.mean(list(violations.values())))
            numbers |= {f"violation/{name}": rate for name, rate in violations.items()}
        for name, value in numbers.items():
            found.setdefault(row["recipe"], {}).setdefault(name, []).append(float(value))
    return {
        recipe: {
            name: {"mean": float(np.mean(x)), "std": float(np.std(x, ddof=1)) if len(x) > 1 else None}
            for name, x in quantities.items()
        }
        for recipe, quantities in found.items()
    }


def markdown(about: Row, rows: Sequence[Row], means: Mapping[str, Any], *, with_curves: bool = False) -> str:
    """Return the card: a column per recipe, a row per quantity, and what was measured."""
    recipes = list(means)
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"# {' against '.join(reversed(recipes))}",
        "",
        f"Measured on `{about['task']}`, {about['episodes']} undisturbed episodes per policy, training seeds "
        f"{', '.join(map(str, seeds))}; mean ± standard deviation over seeds. Violations are shares of control steps.",
        "",
        f"| | {' | '.join(recipes)} |",
        f"|---|{'---|' * len(recipes)}",
    ]
    for name in dict.fromkeys(name for recipe in recipes for name in means[recipe]):
        cells = [_cell(name, means[recipe].get(name)) for recipe in recipes]
        lines.append(f"| {_title(name)} | {' | '.join(cells)} |")
    lines += [
        "",
        "![violations](compare.svg)",
        "",
        *(["![learning curves, mean and range over seeds](curves.svg)", ""] if with_curves else []),
        f"`{about['command']}`",
        "",
        "| policy | seed | SHA-256 |",
        "|---|---|---|",
    ]
    lines += [f"| {row['recipe']} | {row['seed']} | `{row['sha256']}` |" for row in rows]
    return "\n".join(lines) + "\n"


def plot(means: Mapping[str, Any]) -> str:
    """Return bars of the violation rates, or of the errors where no constraint was measured, as SVG."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(n for q in means.values() for n in q if n.startswith("violation/")))
    names = names or [
        n for n in ("lin_vel_error", "yaw_rate_error", "fall_rate") if all(n in q for q in means.values())
    ]
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / max(len(means), 1)
    for i, (recipe, quantities) in enumerate(means.items()):
        at = np.arange(len(names)) + (i - (len(means) - 1) / 2) * height
        part = [quantities.get(name, {"mean": 0.0, "std": None}) for name in names]
        values, spread = [100 * p["mean"] for p in part], [100 * (p["std"] or 0.0) for p in part]
        axes.barh(at, values, height, xerr=spread, label=recipe)
    axes.set_yticks(np.arange(len(names)), [n.removeprefix("violation/").replace("_", " ") for n in names])
    axes.invert_yaxis()
    axes.set_xlabel("control steps beyond the limit [%]" if names and "/" in names[0] else "error, falls [x 100]")
    axes.legend()
    return as_svg(figure)


def _title(name: str) -> str:
    if name not in TITLES:
        return name.removeprefix("violation/").replace("_", " ") + " violated [%]"
    title, unit = TITLES[name]
    return f"{title} [{unit}]" if unit else title


def _cell(name: str, number: Mapping[str, float | None] | None) -> str:
    if number is None:
        return "–"
    scale, digits = (100.0, 2) if name in ("fall_rate", "violation_mean") or "/" in name else (1.0, 3)
    spread = "" if number["std"] is None else f" ± {scale * number['std']:.{digits}f}"
    return f"{scale * (number['mean'] or 0.0):.{digits}f}{spread}"
