"""gSDE against Gaussian noise in PPO, on Gymnasium's Hopper-v5 and Ant-v5.

Raffin, Kober and Stulp, CoRL 2021 (arXiv 2005.05719), supplement, table 3. The paper used PyBullet's bodies, whose
rewards differ, and 2 million steps; what can be compared is the direction: which noise learns more, at which
continuity cost.

``settings="same"``: one set of settings for both, so that only the exploration differs, and both begin with the same
deviation of the action. ``settings="paper"``: each noise with the settings that the paper tuned for it (supplement,
table 9; the Gaussian's are Stable-Baselines3's), without the paper's decay of Hopper's clip range.
Rewards are scaled for the learner (as in the paper); returns reported are raw.

A finished (task, noise, seed) is a small JSON in ``out`` and is not run again; the card is written after each.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np

from robot_rl.data.atomic import write_whole
from robot_rl.learn.env import VecEnv
from robot_rl.learn.figures import as_svg
from robot_rl.learn.ppo import Config
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.reward_scale import ScaledRewards
from robot_rl.learn.watched import Watched, evaluate
from robot_rl.sim.gym import GymWorld
from robot_rl.sim.gym_batch import make_gym_world
from robot_rl.zoo.benchmarks._study import Cell, curve, kept, one_thread, over_seeds, shared  # pyright: ignore[reportMissingImports]  # found by zoo

NOISES = ("gaussian", "gsde")
PAPER = {
    "Hopper-v5": {"gaussian": "1622 ± 220", "gsde": "2508 ± 16"},
    "Ant-v5": {"gaussian": "2160 ± 63", "gsde": "2587 ± 133"},
}
"""Returns of PPO on PyBullet's bodies of these names (supplement, table 3)."""
PAPER_STEPS, PAPER_RUNS = 2_000_000, 10
LOG_STD = {
    "same": {"Hopper-v5": (0.0, -1.2), "Ant-v5": (-2.2, -3.7)},
    "paper": {"Hopper-v5": (0.0, -1.0), "Ant-v5": (0.0, -1.0)},
}
"""Initial log deviations by settings, of the Gaussian and of gSDE, where they are not 0 and -2. ``same``: both begin
with the same noise at fresh features on normalised observations, 1 on Hopper, 0.11 on Ant, where controls with more
noise cost more than is earned. ``paper``: table 9 of the supplement, for its wider ReLU networks, whose initial weights
are not orthogonal."""
KEYWORDS = {"Ant-v5": {"include_cfrc_ext_in_observation": False}}
"""The Ant sees positions and velocities, 27 numbers, as PyBullet's did; the forces on its 13 bodies, rare and large
once normalised, would be 78 more."""
EPISODES, EVAL_SEED, PARTS = 20, 10_000, 50

_log = logging.getLogger(__name__)


def run(
    *, tasks: Sequence[str] = ("Hopper-v5", "Ant-v5"), settings: str = "same", seeds: int = 3, steps: int = 2_000_000,
    out: str = "runs/gsde_locomotion", card: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Train every task with both noises and every seed, each run on one thread, and write the card.

    Args:
        tasks: Registered environments.
        settings: ``same`` or ``paper``.
        seeds: Runs per task and noise, seeds 0, 1, ...
        steps: Transitions per run.
        out: Where finished runs are kept.
        card: Folder for ``gsde_locomotion.{md,svg,json}``; empty is ``out``.
    """
    if settings not in ("same", "paper"):
        raise ValueError(f"no settings {settings!r}; the choices are ('same', 'paper')")
    runs = product(tasks, range(seeds), NOISES)
    jobs = [partial(_kept, Path(out), task, noise, seed, steps, settings) for task, seed, noise in runs]
    with one_thread():
        cells = shared(jobs, partial(write_card, Path(card or out)))
    means = summary(cells)
    ratios = {task: means[task, "gsde"]["return"] / means[task, "gaussian"]["return"] for task in tasks}
    said = ", ".join(f"{t} {n}: {m['return']:.0f} / {m['continuity']:.2f}" for (t, n), m in means.items())
    return {
        "bench": "gsde_locomotion",
        "value": round(means[tasks[0], "gsde"]["return"], 1),
        "unit": f"return of gSDE on {tasks[0]}",
        "floor": round(means[tasks[0], "gaussian"]["return"], 1),
        "ratio": round(ratios[tasks[0]], 3),
        "p50_us": None,
        "p99_us": None,
        "setup": f"floor: Gaussian noise; PPO, {settings} settings, {steps} steps, {seeds} seeds; {said} (return / "
        f"continuity cost of training), load {os.getloadavg()[0]:.1f}",
    }


def config(task: str, noise: str, seed: int, steps: int, settings: str) -> tuple[Config, int]:
    """Return PPO's settings and the number of environments."""
    plain, structured = LOG_STD[settings].get(task, (0.0, -2.0))
    explore = (
        {"exploration": "gsde", "log_std": structured, "sde_every": 4}
        if noise == "gsde"
        else {"exploration": "gaussian", "log_std": plain}
    )
    row: dict[str, Any] = {
        "total_steps": steps, "seed": seed, "discount": 0.99, "value_coef": 0.5, "entropy_coef": 0.0,
        "target_kl": 0.0, "max_grad_norm": 0.5, "save_every": 10**9, **explore,
    }  # fmt: skip
    if settings == "same":
        row |= _learner(16, 128, 256, epochs=10, rate=3e-4, trace=0.95, clip=0.2, hidden=64, activation="tanh")
    elif noise == "gsde":
        row |= _learner(16, 512, 128, epochs=20, rate=3e-5, trace=0.9, clip=0.4, hidden=256, activation="relu")
        row["orthogonal"] = False
    else:
        row |= _learner(1, 2048, 64, epochs=10, rate=2e-4, trace=0.95, clip=0.2, hidden=64, activation="tanh")
    num_envs = row.pop("num_envs")
    return Config(**row), num_envs


def _learner(
    num_envs: int, num_steps: int, minibatch: int, *, epochs: int, rate: float, trace: float, clip: float, hidden: int,
    activation: str,
) -> dict[str, Any]:  # fmt: skip
    return {
        "num_envs": num_envs, "num_steps": num_steps, "minibatches": num_envs * num_steps // minibatch,
        "epochs": epochs, "learning_rate": rate, "critic_learning_rate": rate, "trace": trace, "clip": clip,
        "actor_hidden": (hidden, hidden), "critic_hidden": (hidden, hidden), "activation": activation,
    }  # fmt: skip


def summary(cells: Sequence[Cell]) -> dict[tuple[str, str], dict[str, float]]:
    """Return mean and standard error over seeds of each (task, noise): ``return``, ``return_se``, ..."""
    names = ("return", "continuity", "continuity_test", "last_training")
    return over_seeds(cells, lambda cell: (cell["task"], cell["noise"]), names)


def _kept(out: Path, task: str, noise: str, seed: int, steps: int, settings: str) -> Cell:
    path = out / f"{task}_{noise}_seed{seed}_{steps}_{settings}.json"
    cell = kept(path, lambda folder: _train(folder, task, noise, seed, steps, settings))
    _log.warning(
        "%s %s seed %d: return %.0f, continuity cost %.2f, %.0f s",
        task, noise, seed, cell["return"], cell["continuity"], cell["seconds"],
    )  # fmt: skip
    return cell


def _train(folder: Path, task: str, noise: str, seed: int, steps: int, settings: str) -> Cell:
    """Train, then test the deterministic policy; the curve is of training episodes, noise included, in 50 parts."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    began = time.perf_counter()
    cfg, num_envs = config(task, noise, seed, steps, settings)
    world = Watched(_world(task, num_envs, 1000 * seed))
    scaled = ScaledRewards(cast("VecEnv", world), discount=cfg.discount)
    agent = train(cfg, cast("VecEnv", scaled), folder, progress=False)
    learnt = curve(world.episodes, steps, PARTS)
    returns, continuity_test = evaluate(_world(task, EPISODES, EVAL_SEED), agent.actor)
    return {
        "task": task,
        "noise": noise,
        "seed": seed,
        "steps": steps,
        "settings": settings,
        "return": float(np.mean(returns)),
        "returns": returns,
        "last_training": learnt[-1][1],
        "continuity": world.continuity(),
        "continuity_test": continuity_test,
        "curve": learnt,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _world(task: str, num_envs: int, seed: int) -> VecEnv:
    if task in KEYWORDS:
        return cast(
            "VecEnv", GymWorld(lambda: gymnasium.make(task, **KEYWORDS[task]), num_envs=num_envs, seed=seed)
        )  # fmt: skip
    # one thread: on a busy machine others are waited for
    return cast("VecEnv", make_gym_world(task, num_envs=num_envs, seed=seed, threads=1))


def write_card(folder: Path, cells: Sequence[Cell]) -> None:
    """Write ``gsde_locomotion.md``, ``.svg`` and ``.json`` into ``folder``."""
    for suffix, text in (("md", _markdown(cells)), ("svg", _plot(cells)), ("json", json.dumps(cells) + "\n")):
        write_whole(folder / f"gsde_locomotion.{suffix}", text)


def _markdown(cells: Sequence[Cell]) -> str:
    means, steps, settings = summary(cells), cells[0]["steps"], cells[0]["settings"]
    tasks = ",".join(dict.fromkeys(f"'{task}'" for task, _ in means))
    seeds = max(int(m["seeds"]) for m in means.values())
    less = steps < PAPER_STEPS or seeds < PAPER_RUNS
    reduced = f" (reduced protocol: {steps / PAPER_STEPS:.0%} of the steps, {seeds} of the runs)" if less else ""
    lines = [
        "# gSDE against Gaussian noise in PPO, Gymnasium's MuJoCo bodies",
        "",
        f'`robot-rl bench gsde_locomotion "tasks=({tasks},)" seeds={seeds} steps={steps} settings={settings}` · mean ± '
        f"standard error over seeds. Return: {EPISODES} deterministic episodes after training, raw rewards. C: "
        "continuity cost of the actions executed *in training*, noise included (0 constant, 100 limit to limit every "
        "step). Paper: Raffin et al. 2021, supplement, table 3, *PyBullet's* bodies of the same names (other rewards), "
        f"{PAPER_STEPS:,} steps, {PAPER_RUNS} runs: compare the direction, not the numbers{reduced}.",
        "",
        "| task | noise | seeds | return | last training episodes | C of training | C tested | paper's return |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (task, noise), m in means.items():
        numbers = (
            f"{m['return']:.0f} ± {m['return_se']:.0f}",
            f"{m['last_training']:.0f} ± {m['last_training_se']:.0f}",
            f"{m['continuity']:.2f} ± {m['continuity_se']:.2f}",
            f"{m['continuity_test']:.2f}",
            PAPER.get(task, {}).get(noise, "–"),
        )
        lines.append(f"| {task} | {noise} | {m['seeds']:.0f} | {' | '.join(numbers)} |")
    lines += ["", "![training returns](gsde_locomotion.svg)", "", "| task | noise | returns by seed |", "|---|---|---|"]
    for task, noise in means:
        part = [cell for cell in cells if (cell["task"], cell["noise"]) == (task, noise)]
        returns = ", ".join(f"{c['return']:.0f}" for c in part)
        lines.append(f"| {task} | {noise} | {returns} |")
    return "\n".join(lines) + "\n"


def _plot(cells: Sequence[Cell]) -> str:
    """Training returns of every run, a panel per task."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    figure = Figure(figsize=(4.5 * len(tasks), 3.2), layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        for i, noise in enumerate(NOISES):
            for k, cell in enumerate(c for c in cells if (c["task"], c["noise"]) == (task, noise)):
                axes.plot(*np.array(cell["curve"]).T, color=f"C{i}", lw=1.0, label=None if k else noise)
        axes.set(title=task, xlabel="steps", ylabel="return of training episodes")
        axes.legend()
    return as_svg(figure)
