"""APRL on the go2 twin from nothing, against the same learner with hard limits and with none; then on a changed robot.

Smith, Cao, Levine 2024 (arXiv 2310.17634). The paper's real Go1 on foam tiles came to 0.62 m/s after 80 000 steps of
20 Hz (67 minutes), hard limits saturated at 0.44 m/s, and with no limits no usable gait was learnt. Another
robot, simulated, on hard ground: compare the direction. Then every learner goes on, with all that it has learnt and
seen, on a robot that carries a load, on a slippery floor, and with a knee of half the strength.

What a run costs goes to its JSON too (seconds, CPU seconds per environment step). A finished run is a small JSON in
``out`` and is not run again; one that was cut off goes on from its newest checkpoint. The card is written after each.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from robot_rl import zoo
from robot_rl.data.atomic import write_whole
from robot_rl.learn import aprl, aprl_loop, checkpoint
from robot_rl.learn.env import VecEnv
from robot_rl.learn.figures import as_svg
from robot_rl.learn.metrics import METRICS_FILE, read_metrics
from robot_rl.sim.env import Env, make_env
from robot_rl.sim.task import Range, Task
from robot_rl.zoo.benchmarks._study import Cell, kept, one_thread, shared, standard_error  # pyright: ignore[reportMissingImports]  # found by zoo

VARIANTS = {"aprl": "go2_aprl", "restricted": "go2_aprl_restricted", "unrestricted": "go2_aprl_unrestricted"}
"""Recipes."""
PAPER = {"aprl": "0.62", "restricted": "0.44", "unrestricted": "no gait"}
"""Speeds of the Go1 [m/s], from the project page."""
_WEAK = tuple(0.5 if motor == 8 else 1.0 for motor in range(12))
CHANGES = {
    "payload": {"payload_kg": Range(4.0, 4.0)},
    "slippery": {"friction": Range(0.3, 0.3)},
    "weak_knee": {"motor_strength": Range(_WEAK, _WEAK)},
}
"""What a changed robot's world has: 4 kg on a robot of 15, wet tiles, the right rear knee at half its torque."""
COLUMNS = ("watched/speed", "episode/falls", "box/half_width", "dynamics/mean_error", "box/beyond")
"""Of metrics, behind the steps in a curve."""
EPISODES, EVAL_SEED = 10, 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the study is."""

    steps: int
    """Environment steps of a run from nothing."""
    more: int
    """Further ones on a changed robot."""
    updates: int
    """Critic updates per environment step."""
    width: int
    """Of the two hidden layers of every network."""


def run(
    *, variants: Sequence[str] = tuple(VARIANTS), changes: Sequence[str] = tuple(CHANGES), seeds: int = 3,
    steps: int = 40_000, more: int = 10_000, updates: int = 20, width: int = 256, out: str = "runs/aprl",
    go_on: Sequence[str] = ("aprl",), card: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Train every variant with every seed, then some of them on after every change; write the card.

    Args:
        variants: Keys of ``VARIANTS``.
        changes: Keys of ``CHANGES``.
        seeds: Runs per variant, seeds 0, 1, ...
        steps: Environment steps of a run from nothing.
        more: Further ones on a changed robot; 0 leaves the changes out.
        go_on: Of ``VARIANTS``, those that train on after the changes.
        updates: Critic updates per environment step.
        width: Of the two hidden layers of every network.
        out: Where runs are kept.
        card: Folder for ``aprl.{md,svg,json}``; empty is ``out``.
    """
    scale = Scale(steps, more, updates, width)
    runs = product(("", *(changes if more else ())), range(seeds), variants)
    jobs = [partial(_kept, Path(out), v, seed, c, scale) for c, seed, v in runs if not c or v in go_on]
    with one_thread():
        cells = shared(jobs, partial(write_card, Path(card or out)))
    found = summary(cells)
    value = found[variants[0], ""]["speed"][0]
    floor = max((found[v, ""]["speed"][0] for v in variants[1:]), default=0.0)
    said = ", ".join(f"{v}: {m['speed'][0]:.2f} m/s, {m['falls'][0]:.0f} falls" for (v, c), m in found.items() if not c)
    return {
        "bench": "aprl",
        "value": round(value, 3),
        "unit": f"m/s of {variants[0]} after {steps} steps",
        "floor": round(floor, 3),
        "ratio": round(value / floor, 3) if floor > 0.0 else None,
        "p50_us": round(1e6 * float(np.median([cell["cpu_s"] / cell["own_steps"] for cell in cells])), 1),
        "p99_us": None,
        "setup": f"floor: the best of the others; p50_us: CPU time per environment step; {updates} updates per step, "
        f"{seeds} seeds; {said}, load {os.getloadavg()[0]:.1f}",
    }


def config(variant: str, seed: int, change: str, scale: Scale) -> aprl.Config:
    """Return the recipe's settings in the study's size."""
    cfg: aprl.Config = zoo.load("policies", f"recipes/{VARIANTS[variant]}").recipe().config
    hidden, total = (scale.width, scale.width), scale.steps + (scale.more if change else 0)
    learner = replace(
        cfg.rlpd, utd=scale.updates, hidden=hidden, actor_hidden=hidden, start_steps=min(1_000, scale.steps // 4),
        log_every=max(1, min(500, scale.steps // 20)), save_every=max(1, min(2_500, scale.steps // 4)),
    )  # fmt: skip
    return replace(cfg, rlpd=learner, dynamics_hidden=hidden, seed=seed, total_steps=total)


def world(variant: str, change: str) -> Task:
    """Return the variant's task, on the changed robot where there is a change."""
    task: Task = zoo.load("sim", f"tasks/{zoo.load('policies', f'recipes/{VARIANTS[variant]}').recipe().task}").task()
    return replace(task, randomize={**task.randomize, **CHANGES[change]}) if change else task


# -- cells -------------------------------------------------------------------------------------------------------------


def _kept(out: Path, variant: str, seed: int, change: str, scale: Scale) -> Cell:
    base = f"{variant}_seed{seed}_{scale.steps}_{scale.updates}_{scale.width}"
    path = out / (f"{base}_{change}_{scale.more}.json" if change else f"{base}.json")
    start = None
    if change:
        _kept(out, variant, seed, "", scale)  # another process may be at it
        start = checkpoint.latest(out / base / "checkpoints")
    cell = kept(path, lambda folder: _train(folder, variant, seed, change, scale, start), clean=False)
    _log.warning("%s %s seed %d: %.2f m/s, %d falls", variant, change, seed, cell["speed"], cell["falls"])
    return cell


def _train(folder: Path, variant: str, seed: int, change: str, scale: Scale, start: Path | None) -> Cell:
    """Train, or go on where it was cut off, then test the deterministic policy."""
    task, cfg = world(variant, change), config(variant, seed, change, scale)
    began, cpu = time.perf_counter(), time.process_time()
    env = make_env(task, num_envs=1, seed=1_000 * seed + 1, threads=1)
    newest = checkpoint.latest(folder / "checkpoints")
    if change and newest is None and start is None:
        raise ValueError(f"{folder} goes on from the run before the change, which has no checkpoint; remove its JSON")

    def speed() -> dict[str, float]:
        return {"speed": _ahead(env)[0]}

    grown = aprl_loop.train(
        cfg, cast("VecEnv", env), folder, resume=newest is not None, start=None if newest else start, watch=speed,
        progress=False,
    )  # fmt: skip
    env.close()
    rows = read_metrics(folder / METRICS_FILE)
    done = grown.steps - (int(newest.stem) if newest else scale.steps if change else 0)
    tested, fell = judge(task, grown)
    return {
        "variant": variant, "seed": seed, "change": change, "scale": asdict(scale), "steps": grown.steps,
        "own_steps": max(done, 1),
        "speed": tested, "fell": fell, "falls": int(sum(row["episode/falls"] for row in rows)),
        "shrunk": grown.shrunk, "half_width": grown.half_width,
        "curve": [[row["steps"], *(row.get(name) for name in COLUMNS)] for row in rows],
        "seconds": round(time.perf_counter() - began, 1), "cpu_s": round(time.process_time() - cpu, 1),
    }  # fmt: skip


@torch.no_grad()
def judge(task: Task, grown: aprl.Grown) -> tuple[float, float]:
    """Return the mean speed ahead [m/s] of first episodes of the deterministic policy, and the share that fell."""
    env = make_env(task, num_envs=EPISODES, seed=EVAL_SEED, threads=1)
    obs, alive, fell = env.reset(), np.ones(EPISODES, dtype=bool), np.zeros(EPISODES, dtype=bool)
    total, steps = 0.0, 0
    for _ in range(round(task.episode_s * task.rate_hz)):
        step = env.step(grown.actor(obs["policy"]))
        lost = (step.terminated >= 1.0).numpy()
        total, steps = total + float(_ahead(env)[alive & ~lost].sum()), steps + int(alive.sum())
        fell |= alive & lost
        alive &= ~lost
        obs = step.obs
        if not alive.any():
            break
    env.close()
    return total / max(steps, 1), float(fell.mean())


def _ahead(env: Env) -> np.ndarray:
    velocity = env.world.state.lin_vel_b
    assert velocity is not None, "a floating base has a velocity"
    return velocity[:, 0]


# -- card --------------------------------------------------------------------------------------------------------------


def summary(cells: Sequence[Cell]) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """Return mean and standard error over seeds by variant and change."""
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for key in dict.fromkeys((cell["variant"], cell["change"]) for cell in cells):
        part = [cell for cell in cells if (cell["variant"], cell["change"]) == key]
        rows = {name: [cell[name] for cell in part] for name in ("speed", "fell", "falls", "shrunk", "half_width")}
        rows |= {f"speed_{when}": [_speed(cell, when) for cell in part] for when in ("first", "last")}
        rows["late_falls"] = [sum(row[2] for row in cell["curve"][len(cell["curve"]) // 2 :]) for cell in part]
        found[key] = {name: (float(np.mean(x)), standard_error(x)) for name, x in rows.items()}
    return found


def _speed(cell: Cell, when: str) -> float:
    """Mean speed of training over the first or the last tenth of the curve, exploration included."""
    curve = np.array([row[1] for row in cell["curve"]])
    tenth = max(1, len(curve) // 10)
    return float(np.mean(curve[:tenth] if when == "first" else curve[-tenth:]))


def write_card(folder: Path, cells: Sequence[Cell]) -> None:
    """Write ``aprl.md``, ``aprl.svg`` and ``aprl.json`` into ``folder``."""
    for suffix, text in (("md", _markdown(cells)), ("svg", _plot(cells)), ("json", json.dumps(cells) + "\n")):
        write_whole(folder / f"aprl.{suffix}", text)


def _markdown(cells: Sequence[Cell]) -> str:
    found, seeds = summary(cells), 1 + max(cell["seed"] for cell in cells)
    told = " ".join(f"{name}={value}" for name, value in cells[0]["scale"].items())
    lines = [
        "# APRL on the go2, against hard limits and none",
        "",
        f"`robot-rl bench aprl {told} seeds={seeds}` · mean ± standard error over seeds. Speed: {EPISODES} "
        "deterministic episodes of 20 s, their first fall ends them; falls of training count all, late ones those of "
        "its second half. Paper: Smith et al. 2024, a real Go1, 80,000 steps with 20 updates each of networks of 256: "
        "compare the direction.",
        "",
        "| learner | seeds | speed [m/s] | of training, last tenth | fell when tested | falls of training | late ones "
        "| box at the end, shrunk | paper [m/s] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (variant, change), m in found.items():
        if not change:
            count = str(sum((cell["variant"], cell["change"]) == (variant, "") for cell in cells))
            falls = (f"{m['fell'][0]:.0%}", f"{m['falls'][0]:.0f}", f"{m['late_falls'][0]:.0f}")
            texts = (count, _text(m["speed"]), _text(m["speed_last"]), *falls)
            box = f"{m['half_width'][0]:.2f}, {m['shrunk'][0]:.1f} times"
            lines.append(f"| {variant} | {' | '.join(texts)} | {box} | {PAPER[variant]} |")
    if any(change for _, change in found):
        lines += [
            "", "| changed robot | learner | speed before | first tenth after | last tenth | tested | falls |",
            "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
    for (variant, change), m in found.items():
        if change:
            speeds = (found[variant, ""]["speed_last"], m["speed_first"], m["speed_last"], m["speed"])
            lines.append(f"| {change} | {variant} | {' | '.join(map(_text, speeds))} | {m['falls'][0]:.0f} |")
    return "\n".join([*lines, "", "![speed, falls, box and surprise](aprl.svg)"]) + "\n"


def _text(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.2f} ± {pair[1]:.2f}"


def _plot(cells: Sequence[Cell]) -> str:
    """Speed, falls so far, box and surprise of every run, changed robots dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    names = ("speed ahead [m/s]", "falls so far", "half width of the box", "surprise")
    for axes, (column, name) in zip(figure.subplots(2, 2).flat, enumerate(names, 1), strict=True):
        for cell in cells:
            curve = np.array([[np.nan if x is None else x for x in row] for row in cell["curve"]])
            y = np.cumsum(curve[:, column]) if column == 2 else curve[:, column]
            style = {"color": f"C{list(VARIANTS).index(cell['variant'])}", "ls": "--" if cell["change"] else "-"}
            label = None if cell["seed"] or cell["change"] else cell["variant"]
            axes.plot(curve[:, 0], y, lw=0.9, label=label, **style)
        axes.set(xlabel="steps", ylabel=name)
    figure.axes[0].legend()
    return as_svg(figure)
