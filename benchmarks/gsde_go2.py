"""gSDE against Gaussian noise on the go2: SAC walks straight ahead from nothing, at 50 Hz, in the robot's time.

Raffin, Kober and Stulp, CoRL 2021 (arXiv 2005.05719), table 1: over four bodies gSDE-8 costs SAC's motors 26 % less
continuity in training than unstructured noise, for 2.5 % more return. Here the body is a go2 whose policy sees what
the robot measures, and the task is that of A Walk in the Park at 50 Hz (``go2_forward``).

Recipe ``go2_gsde``, and the same with Gaussian noise: both share every setting but that gSDE's mean is clipped at 2
before its tanh, as in the paper.

A finished (noise, seed) is a small JSON in ``out`` and is not run again; the card is written after each.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_rl import zoo
from robot_rl.data.atomic import write_whole
from robot_rl.learn.env import VecEnv
from robot_rl.learn.figures import as_svg
from robot_rl.learn.recipe import Recipe
from robot_rl.learn.rlpd import Config
from robot_rl.learn.rlpd_loop import train
from robot_rl.learn.watched import Watched, evaluate
from robot_rl.sim.env import make_env
from robot_rl.zoo.benchmarks._study import Cell, curve, kept, one_thread, shared  # pyright: ignore[reportMissingImports]  # found by zoo
from robot_rl.zoo.benchmarks.gsde_locomotion import summary  # pyright: ignore[reportMissingImports]  # found by zoo

NOISES = ("gaussian", "gsde")
EPISODES, EVAL_SEED, PARTS, WINDOW = 20, 10_000, 40, 4

_log = logging.getLogger(__name__)


def run(
    *, seeds: int = 3, steps: int = 40_000, interval: int = 8, out: str = "runs/gsde_go2", card: str = ""
) -> dict[str, Any]:
    """Train both noises with every seed, each run on one thread, and write the card.

    Args:
        seeds: Runs per noise, seeds 0, 1, ...
        steps: Transitions per run.
        interval: Control steps between gSDE's draws.
        out: Where finished runs are kept.
        card: Folder for ``gsde_go2.{md,svg,json}``; empty is ``out``.
    """
    jobs = [partial(_kept, Path(out), n, seed, steps, interval) for seed, n in product(range(seeds), NOISES)]
    with one_thread():
        cells = shared(jobs, partial(write_card, Path(card or out)))
    gaussian, gsde = (summary(cells)[recipe().task, noise] for noise in NOISES)
    dear, cheap = (float(np.mean([pair[noise][1] for pair in at_equal_return(cells)])) for noise in NOISES)
    return {
        "bench": "gsde_go2",
        "value": round(cheap, 3),
        "unit": "continuity cost of training with gSDE until both noises have come to the same return",
        "floor": round(dear, 3),
        "ratio": round(dear / cheap, 3),
        "p50_us": None,
        "p99_us": None,
        "setup": f"floor: Gaussian noise; SAC on {recipe().task}, {steps} steps, {seeds} seeds; at the end cost "
        f"{gsde['continuity']:.2f} and return {gsde['return']:.0f}, Gaussian {gaussian['continuity']:.2f} and "
        f"{gaussian['return']:.0f}, load {os.getloadavg()[0]:.1f}",
    }


def config(noise: str, seed: int, steps: int, interval: int) -> Config:
    """Return the recipe's settings in the study's size; only the exploration depends on ``noise``."""
    learner = cast(Config, recipe().config)
    cfg = replace(learner, sde_every=interval, seed=seed, total_steps=steps, save_every=steps)
    return cfg if noise == "gsde" else replace(cfg, exploration="gaussian", mean_clip=math.inf)


def recipe() -> Recipe:
    """Return the recipe that is studied."""
    return zoo.load("policies", "recipes/go2_gsde").recipe()


def _kept(out: Path, noise: str, seed: int, steps: int, interval: int) -> Cell:
    path = out / f"{noise}_seed{seed}_{steps}_{interval}.json"
    cell = kept(path, lambda folder: _train(folder, noise, seed, steps, interval))
    _log.warning(
        "%s seed %d: return %.1f, continuity cost %.2f, %.0f s",
        noise, seed, cell["return"], cell["continuity"], cell["seconds"],
    )  # fmt: skip
    return cell


def _train(folder: Path, noise: str, seed: int, steps: int, interval: int) -> Cell:
    """Train, then test the deterministic policy; the curves are of training episodes, noise included."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    began = time.perf_counter()
    world = Watched(_world(recipe().num_envs, seed))
    agent = train(config(noise, seed, steps, interval), cast("VecEnv", world), folder, progress=False)
    learnt = curve(world.episodes, steps, PARTS)
    returns, continuity_test = evaluate(_world(EPISODES, EVAL_SEED), agent.actor)
    return {
        "task": recipe().task,
        "noise": noise,
        "seed": seed,
        "steps": steps,
        "interval": interval,
        "return": float(np.mean(returns)),
        "returns": returns,
        "last_training": learnt[-1][1],
        "continuity": world.continuity(),
        "continuity_test": continuity_test,
        "curve": learnt,
        "costs": [(end, cost) for (end, _, _), cost in zip(world.episodes, world.costs, strict=True)],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _world(num_envs: int, seed: int) -> VecEnv:
    task = zoo.load("sim", f"tasks/{recipe().task}").task()
    return cast("VecEnv", make_env(task, num_envs=num_envs, seed=seed, threads=1))


def at_equal_return(cells: Sequence[Cell]) -> list[dict[str, tuple[int, float]]]:
    """Return for every seed that has both noises: the steps, and the cost until then, at which each came to one return.

    That return is the lower of those that the two ended with. A return is here the mean of the training episodes of
    the last ``WINDOW`` parts of the run.
    """
    found: list[dict[str, tuple[int, float]]] = []
    for seed in dict.fromkeys(cell["seed"] for cell in cells):
        pair = {cell["noise"]: cell for cell in cells if cell["seed"] == seed}
        if set(pair) != set(NOISES):
            continue
        smooth = {noise: _trailing([y for _, y in pair[noise]["curve"]]) for noise in NOISES}
        level = min(values[-1] for values in smooth.values())
        found.append({})
        for noise in NOISES:
            first = next(i for i, y in enumerate(smooth[noise]) if y >= level)
            steps = int(pair[noise]["curve"][first][0])
            so_far = [cost for end, cost in pair[noise]["costs"] if end <= steps]
            found[-1][noise] = steps, so_far[-1] if so_far else pair[noise]["costs"][0][1]
    return found


def _trailing(values: Sequence[float]) -> list[float]:
    return [float(np.mean(values[max(0, i + 1 - WINDOW) : i + 1])) for i in range(len(values))]


def write_card(folder: Path, cells: Sequence[Cell]) -> None:
    """Write ``gsde_go2.md``, ``.svg`` and ``.json`` into ``folder``."""
    for suffix, text in (("md", _markdown(cells)), ("svg", _plot(cells)), ("json", json.dumps(cells) + "\n")):
        write_whole(folder / f"gsde_go2.{suffix}", text)


def _markdown(cells: Sequence[Cell]) -> str:
    means, first = summary(cells), cells[0]
    seeds = max(int(m["seeds"]) for m in means.values())
    lines = [
        "# gSDE on the go2, SAC",
        "",
        f"`robot-rl bench gsde_go2 seeds={seeds} steps={first['steps']} interval={first['interval']}` · "
        f"mean ± standard error over seeds · task `{first['task']}`. Return: {EPISODES} deterministic episodes after "
        "training. C: continuity cost of the actions executed *in training*, noise and the first, random steps "
        "included (0 constant, 100 limit to limit every step). Paper: Raffin et al. 2021, table 1, SAC on four "
        "PyBullet bodies, gSDE-8 against unstructured noise: C 26 % lower, return 2.5 % higher.",
        "",
        "| noise | seeds | return | last training episodes | C of training | C tested | returns by seed | C by seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (_, noise), m in means.items():
        part = [cell for cell in cells if cell["noise"] == noise]
        numbers = (
            f"{m['return']:.0f} ± {m['return_se']:.0f}",
            f"{m['last_training']:.0f} ± {m['last_training_se']:.0f}",
            f"{m['continuity']:.2f} ± {m['continuity_se']:.2f}",
            f"{m['continuity_test']:.2f}",
            ", ".join(f"{c['return']:.0f}" for c in part),
            ", ".join(f"{c['continuity']:.2f}" for c in part),
        )
        lines.append(f"| {noise} | {m['seeds']:.0f} | {' | '.join(numbers)} |")
    gaussian, gsde = (means.get((first["task"], noise)) for noise in NOISES)
    if gaussian and gsde:
        less = 1.0 - gsde["continuity"] / gaussian["continuity"]
        lines += [
            "",
            f"Over the whole training gSDE costs {less:.0%} less continuity, at "
            f"{gsde['return'] / gaussian['return']:.0%} of the return. {_equal(at_equal_return(cells))}".rstrip(),
        ]
    return "\n".join([*lines, "", "![training returns and continuity cost](gsde_go2.svg)"]) + "\n"


def _equal(pairs: Sequence[dict[str, tuple[int, float]]]) -> str:
    if not pairs:
        return ""
    mean = {noise: np.mean([pair[noise] for pair in pairs], axis=0) for noise in NOISES}
    (slow, dear), (fast, cheap) = (mean[noise] for noise in NOISES)
    return (
        f"At equal return, where each noise of a seed first comes to the lower of the two returns that they end with "
        f"(training episodes of {WINDOW} of {PARTS} parts of a run): "
        f"{1.0 - cheap / dear:.0%} less, {cheap:.2f} after {fast:,.0f} steps against "
        f"{dear:.2f} after {slow:,.0f}."
    )


def _plot(cells: Sequence[Cell]) -> str:
    """Return the training returns of every run, and its continuity cost so far."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, noise in enumerate(NOISES):
        for k, cell in enumerate(c for c in cells if c["noise"] == noise):
            for axes, name in ((left, "curve"), (right, "costs")):
                line = np.array(cell[name], dtype=np.float64).reshape(-1, 2)
                axes.plot(*line.T, color=f"C{i}", lw=1.0, label=None if k else noise)
    left.set(xlabel="steps", ylabel="return of training episodes")
    right.set(xlabel="steps", ylabel="continuity cost so far")
    left.legend()
    return as_svg(figure)
