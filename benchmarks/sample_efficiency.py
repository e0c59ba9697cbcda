"""Return against transitions of SAC, REDQ, DroQ and RLPD (without prior data) on Gymnasium's MuJoCo tasks.

Settings are ``learn/presets``, the papers' own. Every ``evaluate_every`` transitions the deterministic policy runs
ten episodes, raw rewards. A run is a row of stages: after each a checkpoint and the curve so far are kept in ``out``,
so that a killed study goes on where it stopped, exactly (the world's state is in the checkpoint), and one of more steps
goes on where one of fewer ended. The card ``sample_efficiency_<task>.{md,svg,json}``, written after each run, holds
every run of that task in ``out`` that is long enough, whichever command made it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_rl.data.atomic import write_whole
from robot_rl.learn import checkpoint
from robot_rl.learn.env import VecEnv
from robot_rl.learn.figures import as_svg
from robot_rl.learn.presets import METHODS, preset
from robot_rl.learn.rlpd import Config
from robot_rl.learn.rlpd_loop import train
from robot_rl.learn.watched import evaluate
from robot_rl.sim.gym_batch import make_gym_world
from robot_rl.zoo.benchmarks._study import Cell, alone, one_thread, shared  # pyright: ignore[reportMissingImports]  # found by zoo

EPISODES, EVAL_SEED = 10, 10_000
CURVE = "curve.json"
"""In the folder of a run: what it is, and of every stage transitions, mean and deviation of returns, seconds."""
PUBLISHED = {
    "Hopper": {25_000: (615, 131), 50_000: (2388, 1110), 75_000: (2653, 879), 100_000: (3164, 456)},
    "Walker2d": {50_000: (1433, 512), 100_000: (2139, 733), 200_000: (3521, 961), 300_000: (3729, 1205)},
    "Ant": {50_000: (1397, 457), 100_000: (1798, 1226), 200_000: (3350, 1553), 300_000: (4105, 1380)},
}
"""REDQ's returns by transitions, mean and deviation over all episodes of three seeds: the files in
``reproductions/algorithms/mujoco/redq/reproduction_results`` of the repository ``sony/nnabla-rl``, version 2 of the
tasks."""
PAPER = {
    "Hopper": "3517 at 125,000",
    "Walker2d": "4589 at 300,000",
    "Ant": "5369 at 300,000",
    "Humanoid": "4674 at 300,000",
}
"""REDQ's returns in Chen et al. 2021 (arXiv 2101.05982), as that repository quotes them, but for Hopper's 125,000,
which is the paper's: the repository says 300,000 of all. DroQ (arXiv 2110.02034) shows curves at REDQ's level."""

_log = logging.getLogger(__name__)


def run(
    *, task: str = "Hopper-v5", methods: Sequence[str] = ("droq",), seeds: int = 3, steps: int = 50_000,
    evaluate_every: int = 5_000, start_steps: int = 5_000, out: str = "runs/sample_efficiency", card: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Train one or more methods with every seed, each run on one thread, and write the card.

    Args:
        task: A registered environment.
        methods: Keys of ``METHODS``.
        seeds: Runs per method, seeds 0, 1, ...
        steps: Transitions per run.
        evaluate_every: Transitions between tests of the policy.
        start_steps: Uniformly random transitions before learning starts, the papers' 5,000.
        out: Where finished and unfinished runs are kept.
        card: Folder for the card; empty is ``out``.

    Raises:
        ValueError: An unknown method, or steps that do not divide by ``evaluate_every``.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"no method {unknown[0]!r}; the choices are {tuple(METHODS)}")
    if steps % evaluate_every:
        raise ValueError(f"steps is {steps}; it must be a multiple of evaluate_every = {evaluate_every}")
    jobs = [
        partial(_kept, Path(out), task, name, seed, steps, evaluate_every, start_steps)
        for seed, name in product(range(seeds), methods)
    ]
    with one_thread():
        shared(jobs, lambda _: write_card(Path(card or out), task, _finished(Path(out), task, steps)))
    means = summary([c for c in _finished(Path(out), task, steps) if c["method"] in methods and c["seed"] < seeds])
    said = ", ".join(f"{name} {m['last']:.0f} ± {m['last_sd']:.0f}" for name, m in means.items())
    first = methods[0]
    return {
        "bench": "sample_efficiency",
        "value": round(means[first]["last"], 1),
        "unit": f"return of {first} on {task}",
        "floor": None,
        "ratio": None,
        "p50_us": None,
        "p99_us": None,
        "setup": f"{steps} transitions, {seeds} seeds, {EPISODES} deterministic episodes, raw rewards; {said} (± "
        f"deviation over seeds); published for redq: {_published(task, steps)}; load "
        f"{os.getloadavg()[0]:.1f}",
    }


def summary(cells: Sequence[Cell]) -> dict[str, dict[str, float]]:
    """Return for each method mean and deviation over seeds: ``last``, ``half`` (at half the steps), ``minutes``."""
    found: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(cell["method"] for cell in cells):
        part = [cell for cell in cells if cell["method"] == method]
        found[method] = {"seeds": len(part)}
        columns = {
            "last": [c["curve"][-1][1] for c in part],
            "half": [c["curve"][(len(c["curve"]) - 1) // 2][1] for c in part],
            "minutes": [sum(row[3] for row in c["curve"]) / 60.0 for c in part],
        }
        for name, values in columns.items():
            found[method][name] = float(np.mean(values))
            found[method][f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return found


def _kept(out: Path, task: str, method: str, seed: int, steps: int, every: int, start_steps: int) -> Cell:
    """Run what is missing of one run, stage by stage."""
    folder = out / f"{task}_{method}_seed{seed}"
    with alone(folder):
        return _extended(folder, task, method, seed, steps, every, start_steps)


def _extended(folder: Path, task: str, method: str, seed: int, steps: int, every: int, start_steps: int) -> Cell:
    cell: Cell = {"task": task, "method": method, "seed": seed, "start_steps": start_steps, "curve": []}
    if (part := folder / CURVE).is_file():
        cell = json.loads(part.read_text())
    for at in range(_reached(cell) + every, steps + 1, every):
        began, world = time.perf_counter(), _world(task, 1, 1000 * seed)
        cfg = config(task, method, seed, at, start_steps, world.num_actions)
        newest = checkpoint.latest(folder / "checkpoints")
        agent = train(cfg, world, folder, resume=newest is not None, progress=False)
        world.close()
        returns, _ = evaluate(_world(task, EPISODES, EVAL_SEED), agent.actor)
        took = round(time.perf_counter() - began, 1)
        cell["curve"].append([at, float(np.mean(returns)), float(np.std(returns)), took])
        write_whole(part, json.dumps(cell))
        _log.warning("%s %s seed %d: return %.0f at %d", task, method, seed, cell["curve"][-1][1], at)
    return cell


def _reached(cell: Cell) -> int:
    """Return the transitions of a run so far."""
    return cell["curve"][-1][0] if cell["curve"] else 0


def config(task: str, method: str, seed: int, total_steps: int, start_steps: int, num_actions: int) -> Config:
    """Return the method's own settings up to ``total_steps``; a checkpoint is written at their end only."""
    return replace(
        preset(method, num_actions=num_actions, task=task), seed=seed, total_steps=total_steps,
        start_steps=start_steps, save_every=10**9,
    )  # fmt: skip


def _world(task: str, num_envs: int, seed: int) -> VecEnv:
    # one thread: on a busy machine others are waited for
    return cast("VecEnv", make_gym_world(task, num_envs=num_envs, seed=seed, threads=1))


def _finished(out: Path, task: str, steps: int) -> list[Cell]:
    """Return the runs that have come to ``steps``, up to there."""
    cells = [json.loads(path.read_text()) for path in sorted(out.glob(f"{task}_*/{CURVE}"))]
    return [{**c, "curve": [row for row in c["curve"] if row[0] <= steps]} for c in cells if _reached(c) >= steps]


def write_card(folder: Path, task: str, cells: Sequence[Cell]) -> None:
    """Write ``sample_efficiency_<task>.md``, ``.svg`` and ``.json`` into ``folder``."""
    name = f"sample_efficiency_{task}"
    for suffix, text in (
        ("md", _markdown(task, name, cells)), ("svg", _plot(task, cells)), ("json", json.dumps(cells) + "\n")
    ):  # fmt: skip
        write_whole(folder / f"{name}.{suffix}", text)


def _markdown(task: str, name: str, cells: Sequence[Cell]) -> str:
    means, steps = summary(cells), _reached(cells[0])
    body, half = task.partition("-")[0], cells[0]["curve"][(len(cells[0]["curve"]) - 1) // 2][0]
    lines = [
        f"# Sample efficiency on {task}",
        "",
        f"`robot-rl bench sample_efficiency task={task} methods={','.join(means)} steps={steps}` · mean ± deviation "
        f"over seeds of the return of {EPISODES} deterministic episodes, raw rewards. Settings: `learn/presets`. "
        f"Published: REDQ as the authors of nnabla-rl reproduced it, version 2 of the task (in the paper, Chen et al. "
        f"2021, arXiv 2101.05982: {PAPER.get(body, 'no number')}); DroQ (arXiv 2110.02034) shows curves at its level.",
        "",
        f"| method | seeds | at {half:,} | at {steps:,} | minutes a run |",
        "|---|---|---|---|---|",
    ]
    for method, m in means.items():
        numbers = " | ".join(f"{m[x]:.0f} ± {m[f'{x}_sd']:.0f}" for x in ("half", "last", "minutes"))
        lines.append(f"| {method} | {m['seeds']:.0f} | {numbers} |")
    lines.append(f"| redq, published | 3 | {_published(task, half)} | {_published(task, steps)} | – |")
    lines += ["", f"![returns]({name}.svg)", "", "| method | seed | return at the end |", "|---|---|---|"]
    lines += [f"| {c['method']} | {c['seed']} | {c['curve'][-1][1]:.0f} |" for c in cells]
    return "\n".join(lines) + "\n"


def _published(task: str, steps: int) -> str:
    found = PUBLISHED.get(task.partition("-")[0], {}).get(steps)
    return "–" if found is None else f"{found[0]} ± {found[1]}"


def _plot(task: str, cells: Sequence[Cell]) -> str:
    """Every run's curve, a colour per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for i, method in enumerate(dict.fromkeys(cell["method"] for cell in cells)):
        for k, cell in enumerate(c for c in cells if c["method"] == method):
            x, y = np.array(cell["curve"]).T[:2]
            axes.plot(x, y, color=f"C{i}", lw=1.0, label=None if k else method)
    if known := PUBLISHED.get(task.partition("-")[0]):
        at = [x for x in known if x <= cells[0]["curve"][-1][0]]
        mean, deviation = np.array([known[x] for x in at]).reshape(-1, 2).T
        axes.errorbar(at, mean, deviation, color="grey", fmt="o", label="redq, published" if at else None)
    axes.set(title=task, xlabel="transitions", ylabel=f"return of {EPISODES} episodes")
    axes.legend()
    return as_svg(figure)
