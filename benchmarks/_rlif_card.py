"""The card of the RLIF study: every method's score beside the paper's, and how often it was taken over at the end.

Knows: finished cells. Does not know: how they came about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robot_rl.data.atomic import write_whole
from robot_rl.learn.figures import as_svg
from robot_rl.zoo.benchmarks._study import Cell, standard_error  # pyright: ignore[reportMissingImports]  # found by zoo

METHODS = ("rlif_value", "rlif_random", "hg_dagger_value", "hg_dagger_random", "dagger", "bc")
PAPER: dict[str, dict[int, tuple[str, ...]]] = {
    "Hopper-v5": {
        110: ("109.0", "106.5", "53.6", "112.7", "76.1", ""),
        70: ("99.7", "75.6", "44.8", "69.7", "43.6", ""),
        20: ("102.9", "19.1", "11.9", "19.7", "20.1", ""),
    },
    "Walker2d-v5": {
        110: ("109.2", "93.8", "80.3", "86.9", "61.6", ""),
        40: ("108.4", "103.9", "40.7", "42.7", "19.6", ""),
        15: ("108.0", "75.1", "25.2", "24.4", "10.3", ""),
    },
}
"""Table 1 by task and level of the expert, in the order of ``METHODS``; random overseers and DAgger's labels at 85 %.
Of BC it has averages: 44.5 and 64.8."""


def summary(cells: Sequence[Cell]) -> dict[tuple[str, int, str], tuple[float, float]]:
    """Return mean score and standard error over seeds by task, level and method."""
    found: dict[tuple[str, int, str], tuple[float, float]] = {}
    for key in dict.fromkeys((c["task"], c["level"], c["method"]) for c in cells):
        x = [c["score"] for c in cells if (c["task"], c["level"], c["method"]) == key]
        found[key] = float(np.mean(x)), standard_error(x)
    return found


def write_card(folder: Path, cells: Sequence[Cell]) -> None:
    """Write ``rlif.md``, ``rlif.svg`` and ``rlif.json`` into ``folder``."""
    lines = [*_head(cells), "", *_scores(cells), "", *_take_overs(cells)]
    if seen := [cell for cell in cells if "curve" in cell]:
        lines += ["", "![take-overs and lengths of episodes](rlif.svg)"]
        write_whole(folder / "rlif.svg", _plot(seen))
    write_whole(folder / "rlif.md", "\n".join(lines) + "\n")
    write_whole(folder / "rlif.json", json.dumps(cells) + "\n")


def _head(cells: Sequence[Cell]) -> list[str]:
    first, seeds = cells[0], 1 + max(cell["seed"] for cell in cells)
    told = f"steps={first['steps']} updates={first['updates']:g} ppo_steps={first['ppo_steps']}"
    told += "".join(f" {name}={round(first[name] / first['share'])}" for name in ("expert_steps", "stage_steps"))
    told += "".join(f" {name}={int(first[name])}" for name in ("width", "critics", "hindsight"))
    return [
        "# RLIF, HG-DAgger, DAgger and BC given the same interventions",
        "",
        f"`robot-rl bench rlif {told} seeds={seeds}` · normalised scores (of the Panda, % of episodes solved), mean ± "
        f"standard error over seeds, {first['episodes']} deterministic episodes each. Paper: Luo et al. 2024, table 1, "
        "other bodies, up to a million steps: compare the direction. Experts: RLPD, on gaits after PPO and with its "
        "episodes as prior data; on the Panda less long, and alone.",
        "",
        "Ours, not the paper's, beside the sizes in the command:",
        "",
        *(f"- {text};" for text in _deviations(cells)),
        "- as in the released code, not the paper, RLIF does not learn from what is done in take-overs, but for steps "
        "that end an episode for good.",
    ]


def _deviations(cells: Sequence[Cell]) -> list[str]:
    first = cells[0]
    return [
        *(["the judge sees what the policy did (hindsight), not what it is about to do"] if first["hindsight"] else []),
        "the critics of all stages of the second half of RLPD's training judge, and one objection is enough",
        f"the margin is additive, 1 - alpha of the reference's mean value, alpha {_by_task(cells, 'alpha')}",
        f"the judge takes over too where the reference's action is worth less than {first['floor']:g} of that mean: "
        "no action saves who falls already, and none would be blamed",
        f"the judge acts on what it thinks in {first['certainty']:.0%} of steps, not 95 %",
        f"a take-over lasts {_steps(first['takeover_steps'])}, not 4",
        "a step that ends an episode for good is worth -1 / (1 - discount), whoever takes it, so that no fall is a way "
        "out",
        f"values are discounted by {_by_task(cells, 'discount')}, not 0.99",
        "who takes over, and when, was chosen by what RLIF learnt from it, not the baselines; they get the same "
        "overseers on their own ways, BC what the overseer did on RLIF's",
        f"RLIF's rates go from 0.001 down to {first['final_rate']:g} of that, tau is 0.02, the target entropy -A, the "
        f"temperature begins at {first['temperature']:g}",
    ]


def _by_task(cells: Sequence[Cell], name: str) -> str:
    found = dict.fromkeys((c["task"], c[name]) for c in cells)
    return ", ".join(f"{value:g} ({task})" for task, value in found)


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"


def _scores(cells: Sequence[Cell]) -> list[str]:
    means, head = summary(cells), "| task | judge, expert | | " + " | ".join(METHODS) + " |"
    lines = [head, "|---|---|---|" + "---|" * len(METHODS)]
    for task, level in dict.fromkeys((cell["task"], cell["level"]) for cell in cells):
        known = next(c for c in cells if (c["task"], c["level"]) == (task, level))
        ours = [means.get((task, level, method)) for method in METHODS]
        texts = ["" if x is None else f"{x[0]:.1f} ± {x[1]:.1f}" for x in ours]
        scores = f"{known['judge_score']:.0f}, {known['expert_score']:.0f}"
        lines.append(f"| {task} | {scores} | here | {' | '.join(texts)} |")
        near = min(PAPER.get(task, {}), key=lambda at: abs(at - level), default=None)
        if near is not None:
            lines.append(f"| | {near} | paper | {' | '.join(PAPER[task][near])} |")
    return lines


def _take_overs(cells: Sequence[Cell]) -> list[str]:
    lines = ["| task | expert | method | steps that the expert drives in the last tenth | take-overs per own step |"]
    lines.append("|---|---|---|---|---|")
    for task, level, method in dict.fromkeys((c["task"], c["level"], c["method"]) for c in cells if "duty" in c):
        part = [c for c in cells if (c["task"], c["level"], c["method"]) == (task, level, method)]
        duty, onsets = (float(np.mean([c[name] for c in part])) for name in ("duty", "onsets"))
        lines.append(f"| {task} | {part[0]['expert_score']:.0f} | {method} | {duty:.0%} | {onsets:.2f} |")
    return lines


def _plot(cells: Sequence[Cell]) -> str:
    """Take-overs per own step, and lengths of episodes, of every run of RLIF, a column per task."""
    from matplotlib.figure import Figure

    tasks, methods = (list(dict.fromkeys(cell[name] for cell in cells)) for name in ("task", "method"))
    figure = Figure(figsize=(1.0 + 3.0 * len(tasks), 4.5), layout="constrained")
    axes = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    for cell in cells:
        column, color = axes[:, tasks.index(cell["task"])], f"C{methods.index(cell['method'])}"
        steps, *curves = np.array(cell["curve"]).T
        for axis, curve in zip(column, curves, strict=True):
            axis.plot(steps, curve, color=color, lw=1.0, label=cell["method"] if cell["seed"] == 0 else None)
    for column, task in zip(axes.T, tasks, strict=True):
        column[0].set(title=task, ylim=(0.0, None))
        column[1].set(xlabel="environment steps", ylim=(0.0, None))
    axes[0, 0].set(ylabel="take-overs per own step")
    axes[1, 0].set(ylabel="steps of an episode")
    axes[0, 0].legend()
    return as_svg(figure)
