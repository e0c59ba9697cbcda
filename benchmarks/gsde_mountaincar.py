"""gSDE's public reproduction: MountainCarContinuous-v0 with SAC, over the interval between draws of the noise.

Raffin, Kober and Stulp, CoRL 2021 (arXiv 2005.05719), supplement, table 2. A car in a valley pays for every push and
is paid only at the top: noise that is fresh every step cancels out, noise that lasts swings the car up.

SAC is ``learn/rlpd.py`` with two critics, no LayerNorm, one update per step. Settings are the tuned ones that rl-zoo
publishes with the method: learning rate 3e-4, buffer 50 000, batch 512, entropy weight fixed at 0.1, discount 0.9999,
tau 0.01, bursts of 32 updates every 32 steps, no warm-up, [64, 64] ReLU, log deviation -3.67, mean clipped at 2. The
matrices are redrawn every n steps of the run, across bursts and episodes, so that n may exceed the burst. Interval 0
is SAC's own unstructured Gaussian, everything else the same.

A finished (interval, seed) is a small JSON in ``out`` and is not run again; the card is written after each.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_rl.data.atomic import write_whole
from robot_rl.learn.env import VecEnv
from robot_rl.learn.figures import as_svg
from robot_rl.learn.rlpd import Config
from robot_rl.learn.rlpd_loop import train
from robot_rl.learn.watched import Watched, evaluate
from robot_rl.sim.gym import GymWorld
from robot_rl.zoo.benchmarks._study import Cell, kept, one_thread, over_seeds, shared  # pyright: ignore[reportMissingImports]  # found by zoo

ENV = "MountainCarContinuous-v0"
UNSTRUCTURED = 0
PAPER: dict[int, tuple[float, float]] = {
    UNSTRUCTURED: (-1.0, 12.3), 2: (27.7, 5.5), 4: (75.6, 1.8), 8: (94.8, 0.8), 16: (94.8, 0.4), 32: (94.5, 0.3),
    64: (93.9, 0.2), 128: (94.0, 0.2), 256: (46.6, 0.2), 512: (7.9, 0.0),
}  # fmt: skip
"""Return and continuity cost of training by interval (supplement, table 2)."""
PAPER_STEPS, PAPER_RUNS = 60_000, 10
EPISODES, EVAL_SEED = 20, 10_000

_log = logging.getLogger(__name__)


def run(
    *, intervals: Sequence[int] = (UNSTRUCTURED, 8, 64, 16, 32), seeds: int = 3, steps: int = 50_000,
    out: str = "runs/gsde_mountaincar", card: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Train every interval with every seed, each run on one thread, and write the card.

    Args:
        intervals: Control steps between draws; 0 is unstructured noise.
        seeds: Runs per interval, seeds 0, 1, ...
        steps: Transitions per run.
        out: Where finished runs are kept.
        card: Folder for ``gsde_mountaincar.{md,svg,json}``; empty is ``out``.
    """
    jobs = [partial(_kept, Path(out), n, seed, steps) for seed, n in product(range(seeds), intervals)]
    with one_thread():
        cells = shared(jobs, partial(write_card, Path(card or out)))
    means = by_interval(cells)
    n = 8 if 8 in means else intervals[0]
    found = means[n]
    return {
        "bench": "gsde_mountaincar",
        "value": round(found["return"], 2),
        "unit": f"return at interval {n}",
        "floor": PAPER[n][0] if n in PAPER else None,
        "ratio": round(found["return"] / PAPER[n][0], 3) if n in PAPER else None,
        "p50_us": None,
        "p99_us": None,
        "setup": f"{ENV}, SAC, {steps} steps, {seeds} seeds; floor: the paper's; "
        + ", ".join(f"n={k}: {m['return']:.1f} / {m['continuity']:.2f}" for k, m in means.items())
        + f" (return / continuity cost of training), load {os.getloadavg()[0]:.1f}",
    }


def config(interval: int, seed: int, steps: int) -> Config:
    """Return SAC's settings; only the exploration depends on the interval."""
    return Config(
        critics=2, subset=2, layer_norm=False, hidden=(64, 64), actor_hidden=(64, 64), actor_reduce="min", utd=1,
        batch=512, discount=0.9999, tau=0.01, temperature=0.1, temperature_lr=0.0, segment=32, start_steps=0,
        exploration="gaussian" if interval == UNSTRUCTURED else "gsde", sde_every=max(interval, 1), sde_log_std=-3.67,
        mean_clip=2.0, capacity=50_000, total_steps=steps, seed=seed, log_every=1_000, save_every=steps,
    )  # fmt: skip


def by_interval(cells: Sequence[Cell]) -> dict[int, dict[str, float]]:
    """Return mean and standard error over seeds of each interval: ``return``, ``return_se``, ``continuity``, ..."""
    names = ("return", "continuity", "continuity_test", "first_success")
    found = over_seeds(cells, lambda cell: cell["interval"], names)
    return {n: found[n] for n in sorted(found)}


def _kept(out: Path, interval: int, seed: int, steps: int) -> Cell:
    path = out / f"n{interval}_seed{seed}_{steps}.json"
    cell = kept(path, lambda folder: _train(folder, interval, seed, steps))
    _log.warning(
        "interval %d seed %d: return %.2f, continuity cost %.3f, %.0f s",
        interval, seed, cell["return"], cell["continuity"], cell["seconds"],
    )  # fmt: skip
    return cell


def _train(folder: Path, interval: int, seed: int, steps: int) -> Cell:
    """Train, then test the deterministic policy; the curve is of training episodes, noise included."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    began = time.perf_counter()
    world = Watched(_world(1, seed))
    agent = train(config(interval, seed, steps), cast("VecEnv", world), folder, progress=False)
    returns, continuity_test = evaluate(_world(EPISODES, EVAL_SEED), agent.actor)
    ends = [at for at, _, value in world.episodes if value > 0.0]
    return {
        "interval": interval,
        "seed": seed,
        "steps": steps,
        "return": float(np.mean(returns)),
        "returns": returns,
        "continuity": world.continuity(),
        "continuity_test": continuity_test,
        "first_success": ends[0] if ends else steps,
        "curve": [(at, value) for at, _, value in world.episodes],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _world(num_envs: int, seed: int) -> VecEnv:
    return cast("VecEnv", GymWorld(ENV, num_envs=num_envs, seed=seed))


def write_card(folder: Path, cells: Sequence[Cell]) -> None:
    """Write ``gsde_mountaincar.md``, ``.svg`` and ``.json`` into ``folder``."""
    for suffix, text in (("md", _markdown(cells)), ("svg", _plot(cells)), ("json", json.dumps(cells) + "\n")):
        write_whole(folder / f"gsde_mountaincar.{suffix}", text)


def _markdown(cells: Sequence[Cell]) -> str:
    means, steps = by_interval(cells), cells[0]["steps"]
    seeds = max(int(m["seeds"]) for m in means.values())
    intervals = ",".join(str(n) for n in means)
    lines = [
        "# gSDE on MountainCarContinuous-v0, SAC, by the interval between draws",
        "",
        f'`robot-rl bench gsde_mountaincar "intervals=({intervals})" seeds={seeds} steps={steps}` · mean ± standard '
        f"error over seeds. Return: {EPISODES} deterministic episodes after training. C: continuity cost of the "
        "actions executed *in training*, noise included (0 constant, 100 limit to limit every step). Paper: Raffin et "
        f"al. 2021, supplement, table 2, {PAPER_STEPS:,} steps, {PAPER_RUNS} runs, its own SAC settings; here "
        f"rl-zoo's for this task{_reduced(steps, seeds)}.",
        "",
        "| noise | seeds | return | paper | C of training | paper | C tested | first top of the hill [steps] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n, m in means.items():
        there = PAPER.get(n)
        theirs = [f"{x}" for x in there] if there else ["–", "–"]
        returns = f"{m['return']:.1f} ± {m['return_se']:.1f} | {theirs[0]}"
        costs = f"{m['continuity']:.2f} ± {m['continuity_se']:.2f} | {theirs[1]} | {m['continuity_test']:.2f}"
        lines.append(f"| {_name(n)} | {m['seeds']:.0f} | {returns} | {costs} | {m['first_success']:,.0f} |")
    lines += ["", "![return and continuity cost by interval; training returns](gsde_mountaincar.svg)", ""]
    lines += ["| noise | returns by seed | C by seed |", "|---|---|---|"]
    for n in means:
        part = [cell for cell in cells if cell["interval"] == n]
        values, costs = (", ".join(f"{c[k]:.2f}" for c in part) for k in ("return", "continuity"))
        lines.append(f"| {_name(n)} | {values} | {costs} |")
    return "\n".join(lines) + "\n"


def _reduced(steps: int, seeds: int) -> str:
    less = steps < PAPER_STEPS or seeds < PAPER_RUNS
    return f" (reduced protocol: {steps / PAPER_STEPS:.0%} of the steps, {seeds} of the runs)" if less else ""


def _name(interval: int) -> str:
    return "unstructured" if interval == UNSTRUCTURED else f"gSDE, n = {interval}"


def _plot(cells: Sequence[Cell]) -> str:
    """Return and cost by interval beside the paper's, then the training return of every run."""
    from matplotlib.figure import Figure

    means = by_interval(cells)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _by_interval(left, means, "return", 0)
    _by_interval(middle, means, "continuity", 1)
    left.set(ylabel="return after training")
    middle.set(ylabel="continuity cost of training", yscale="log")
    left.legend()
    for i, n in enumerate(means):
        for k, cell in enumerate(c for c in cells if c["interval"] == n):
            curve = np.array(cell["curve"], dtype=np.float64).reshape(-1, 2)
            right.plot(*curve.T, color=f"C{i}", lw=0.8, label=None if k else _name(n))
    right.set(xlabel="steps", ylabel="return of training episodes")
    right.legend(fontsize=7)
    return as_svg(figure)


def _by_interval(axes: Any, means: Mapping[int, Mapping[str, float]], name: str, column: int) -> None:
    at = {n: i for i, n in enumerate(means)}
    axes.errorbar(
        list(at.values()), [m[name] for m in means.values()], [m[f"{name}_se"] for m in means.values()],
        marker="o", capsize=3, label="here",
    )  # fmt: skip
    theirs = [n for n in means if n in PAPER and (name == "return" or PAPER[n][column] > 0.0)]
    axes.plot([at[n] for n in theirs], [PAPER[n][column] for n in theirs], "k--", marker="s", ms=4, label="paper")
    axes.set_xticks(list(at.values()), ["none" if n == UNSTRUCTURED else str(n) for n in at])
    axes.set_xlabel("control steps between draws")
