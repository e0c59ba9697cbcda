"""RLIF against HG-DAgger, DAgger and BC given the same interventions: Gymnasium's Hopper and Walker2d, a Panda's reach.

Luo et al. 2024 (arXiv 2311.12996), table 1. For every task experts train once, in stages (``_rlif_experts``); RLPD's
best stage is the reference, and the stage whose score is nearest to a level is the expert that takes over. The paper's
bodies were version 2 under D4RL's experts, it had no such Panda: compare the direction. The critics of all later stages
of RLPD judge, and one objection is enough: what one network overrates a policy soon finds (a single judge's Walker2d
fell after 200 steps, most liked better than the reference's). The margin is additive, ``1 - alpha`` of the mean value
of the reference on its own way, because values near a fall are not always positive; and who is about to fall is taken
over whatever they do, because no action saves them and none would be blamed. As in the released code RLIF does
not learn from the steps of who takes over, which are never blamed: the judge would blame most of a bad expert's, and
the policy that does the same is blamed. BC clones the demonstrations and all that the overseer did in RLIF's run.
Cloning takes the released code's 100,000 gradient steps, then 2,500 a round.

The reasons below name runs from when observations were normalised by the policy's own first steps, which made gaits far
harder to learn (Walker2d's seed 2, 300,000 steps: 20 then, 101 now); not all need hold still.

A finished (task, level, method, seed) is a small JSON in ``out`` and is not run again; the card is written after each.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from robot_rl.data.atomic import write_whole
from robot_rl.data.interventions import Labelling
from robot_rl.data.replay import Replay
from robot_rl.learn import imitation, imitation_loop, rlif, rlif_loop
from robot_rl.learn.env import VecEnv
from robot_rl.learn.metrics import METRICS_FILE, read_metrics
from robot_rl.learn.overseer import Overseer, Strategy, at_random
from robot_rl.learn.teacher import Teacher
from robot_rl.zoo.benchmarks._rlif_card import METHODS, summary, write_card  # pyright: ignore[reportMissingImports]  # found by zoo
from robot_rl.zoo.benchmarks._rlif_experts import (  # pyright: ignore[reportMissingImports]  # found by zoo
    EPISODES,
    SHARE,
    TEMPERATURE,
    Scale,
    cast_roles,
    learner,
    make_world,
    mean_value,
    score,
    train_experts,
)  # fmt: skip
from robot_rl.zoo.benchmarks._study import Cell, alone, kept, one_thread, shared  # pyright: ignore[reportMissingImports]  # found by zoo

ALPHA = {"Hopper-v5": 0.998, "Walker2d-v5": 0.993, "panda_reach": 0.9925}
"""What a value must keep of the reference's. Ours: who does whatever is allowed, drawn at random, scores 65 on Hopper
(with 0.99 it would be 20) and 51 on Walker2d (0.99: 43, 0.998: 87, but only 0.2 % of all actions are allowed). With
0.995 the Panda's learner was still taken over in 0.76 of its own steps after 120,000, with 0.9925 in 0.05. Walker2d
may lose 3 of its value a step, nearly what standing still costs: an expert that stands (level 20) taught it to."""
LEVELS = {"Hopper-v5": (20,), "Walker2d-v5": (40,), "panda_reach": (60,)}
"""Scores of the experts that take over. One that solves a fifth of the Panda's episodes leads the arm where most of its
own actions are bad to the judge: take-overs fell from 0.89 to 0.59 per step in 14,000 steps of one run."""
DISCOUNT = {"Hopper-v5": 0.98, "Walker2d-v5": 0.98, "panda_reach": 0.9}
"""Of RLIF's values: 0.4 s of a gait, whose steps take 8 ms, and 1 s of the Panda, which has 100 ms and cannot fall. The
value of being blamed again and again takes 1 / (tau (1 - discount)) updates to settle: 20,000 with the paper's 0.99 and
0.005, here 2,500 and 500. A judge compares actions, and in a state that cannot be saved all are alike: Walker2d with
0.9 was approved of in nine of ten steps and scored 10 after 360,000, with 0.98 it scored 41 (one run each)."""
FLOOR = 0.5
"""Share of the reference's mean value below which the judge takes over whatever the policy does: it is about to fall,
and all actions are alike then. The reference's own steps all lie above it, and so do the states in which episodes
begin; 40 steps before a fall nearly all lie below. Without, Walker2d's episodes still ended after 170 steps when hardly
anything was blamed, and two runs ended at 9 and 21; with it episodes last 800 steps and the same seed ended at 61."""
TAKEOVER_STEPS = (1, 1)
"""Instead of 4: the policy soon sees again what its own steps lead to. Of its own steps on Walker2d 0.27 were taken
over after 180,000 steps and 0.49 with 4, under one judge, alpha 0.9995, discount 0.9. With 4 under the study's other
settings it scored 40 after 240,000 and 2 after 360,000."""
CERTAINTY = 0.99
"""Of the overseer that judges, where the paper has 0.95: who is taken over in 5 % of good steps hardly ever gets far
alone, and what a policy does in states that it reaches alone is what its score is made of."""
FINAL_RATE = 0.03
"""Share of RLIF's learning rates at the end. Constant rates left it to luck: one run on Walker2d ended at 64, another,
with an expert and judges hardly different, at 21."""
FAST: dict[str, Any] = {"actor_lr": 1e-3, "critic_lr": 1e-3, "tau": 0.02}
"""Of RLIF, instead of 3e-4 and 0.005, because it takes fewer updates than steps. Steps count: 40,000 with 10,000
updates brought take-overs down as far as with 40,000. Its target entropy is -A, as SAC's: the noise of -A/2 alone
leaves what the judges of gaits allow."""
RATE = 0.85
"""Of the random overseer and of DAgger's labels, as the paper's 85 % columns."""

LEARNER_ENVS = 16
CURVE_POINTS = 50
CLONING: dict[str, Any] = {"pretrain_updates": 100_000, "round_updates": 2_500, "episodes": 25, "relabel": RATE}
"""Of the baselines. The released code's, but for five times its episodes a round: they get as many steps as RLIF, more
than its hundred rounds took."""

_log = logging.getLogger(__name__)


def run(
    *, tasks: Sequence[str] = tuple(ALPHA), levels: Sequence[int] = (),
    methods: Sequence[str] = METHODS, seeds: int = 3, steps: int = 1_000_000, ppo_steps: int = 1_000_000,
    expert_steps: int = 200_000, stage_steps: int = 10_000, updates: float = 0.2, width: int = 256, critics: int = 10,
    hindsight: int = 1, out: str = "runs/rlif", card: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Train experts, then every method with every seed, each run on one thread, and write the card.

    Args:
        tasks: Keys of ``ALPHA``.
        levels: Scores of the experts that take over; none are those of ``LEVELS``.
        methods: Of ``METHODS``; ``bc`` needs ``rlif_value`` before it.
        seeds: Runs per cell, seeds 0, 1, ...
        steps: Environment steps of each learner.
        ppo_steps: Of PPO, whose episodes experts of gaits begin with.
        expert_steps: Of RLPD for judge and experts.
        stage_steps: Between stages of that.
        updates: Critic updates per environment step of RLIF; the actor takes as many, and experts 1.
        width: Of the two hidden layers of all networks.
        critics: Of the ensembles of RLIF and of the judge.
        hindsight: 1 lets the judge see what the policy did, as people do, and that step is blamed; 0 what it is about
            to do, which is then never done, and the step before is blamed (released code).
        out: Where experts and finished runs are kept.
        card: Folder for ``rlif.{md,svg,json}``; empty is ``out``.

    Raises:
        ValueError: A level is no number.
    """
    asked = tuple(int(level) for level in levels)
    whole = Scale(steps, ppo_steps, expert_steps, stage_steps, updates, width, critics, bool(hindsight))
    jobs = [
        partial(_kept, Path(out), task, level, method, seed, whole.of(task))
        for task in tasks
        for level, seed, method in product(asked or LEVELS[task], range(seeds), methods)
    ]
    with one_thread():
        cells = shared(jobs, partial(write_card, Path(card or out)))
    means = summary(cells)
    level = (asked or LEVELS[tasks[0]])[-1]
    best = {key[2]: mean for key, (mean, _) in means.items() if key[:2] == (tasks[0], level)}
    floor = max((mean for method, mean in best.items() if not method.startswith("rlif")), default=0.0)
    value = best.get("rlif_value", 0.0)
    return {
        "bench": "rlif",
        "value": round(value, 1),
        "unit": f"score of RLIF by value on {tasks[0]}, expert nearest to {level}",
        "floor": round(floor, 1),
        "ratio": round(value / floor, 3) if floor > 0.0 else None,
        "p50_us": None,
        "p99_us": None,
        "setup": f"floor: best of HG-DAgger, DAgger, BC; {steps} steps, {updates} updates per step, {seeds} seeds, "
        f"load {os.getloadavg()[0]:.1f}",
    }


# -- cells -------------------------------------------------------------------------------------------------------------


def _kept(out: Path, task: str, level: int, method: str, seed: int, scale: Scale) -> Cell:
    how = "hind" if scale.hindsight else "fore"
    path = out / f"{task}_{level}_{method}_seed{seed}_{scale.steps}_{scale.updates:g}_{scale.networks}_{how}.json"
    trained = f"{scale.networks}_{scale.ppo_steps}_{scale.expert_steps}_{scale.stage_steps}"
    stages = train_experts(out / f"expert_{task}_{trained}", task, scale)
    if method == "bc":
        with alone(path.with_name(path.name.replace("_bc_", "_rlif_value_"))):  # which another process may be at
            pass
    cell = kept(path, lambda folder: _train(folder, stages, task, level, method, seed, scale), clean=False)
    for name, wanted in _settings(task, scale).items():
        if cell.get(name) != wanted:
            raise ValueError(
                f"{path} was made with {name} {cell.get(name)}, and {name} is {wanted} now; move it away, or name "
                "another out"
            )
    _log.warning("%s %d %s seed %d: score %.1f", task, level, method, seed, cell["score"])
    return cell


def _train(folder: Path, stages: Sequence[Path], task: str, level: int, method: str, seed: int, scale: Scale) -> Cell:
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    began, env = time.perf_counter(), make_world(task, LEARNER_ENVS, 1000 * seed)
    roles = cast_roles(stages, env, level)
    strategy = at_random(RATE) if method.endswith("random") else _judging(task, roles.reference, scale)
    boss = Overseer(
        strategy, LEARNER_ENVS, expert=roles.expert.label, judge=roles.judge, reference=roles.reference.label, seed=seed
    )
    driven: Cell = {}
    if method.startswith("rlif"):
        actor = _rlif(folder, task, env, boss, seed, scale)
        driven = _driven(read_metrics(folder / METRICS_FILE))
    elif method == "bc":
        actor = _bc(folder.with_name(folder.name.replace("_bc_", "_rlif_value_")), env, seed, scale)
    else:
        actor = _dagger(folder, env, boss, method, seed, scale)
    points = score(task, actor)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "task": task, "level": level, "method": method, "seed": seed, "score": points, **roles.scores, **driven,
        **_settings(task, scale), "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def _settings(task: str, scale: Scale) -> Cell:
    """Return what a run is made with, beside what its file's name says."""
    return {
        **asdict(scale), "share": SHARE.get(task, 1.0), "episodes": EPISODES, "discount": DISCOUNT[task],
        "temperature": TEMPERATURE, "certainty": CERTAINTY, "takeover_steps": TAKEOVER_STEPS[1], "alpha": ALPHA[task],
        "floor": FLOOR, "final_rate": FINAL_RATE,
    }  # fmt: skip


def _driven(rows: Sequence[dict[str, float]]) -> Cell:
    """Return what the overseer did in the last tenth of a run; take-overs and lengths of episodes on the way."""
    watched = [row for row in rows if "overseer/onsets" in row]
    end = watched[-max(1, len(watched) // 10) :]  # a row is one moment of episodes that may run in step
    found: Cell = {x: float(np.mean([row[f"overseer/{x}"] for row in end])) for x in ("duty", "onsets") if end}
    names = ("steps", "overseer/onsets", "episode/length")
    whole = [[row[name] for name in names] for row in watched if "episode/length" in row]
    if whole:
        parts = np.array_split(np.array(whole), min(len(whole), CURVE_POINTS))
        found["curve"] = [[round(float(x), 4) for x in part.mean(0)] for part in parts]
    return found


def _judging(task: str, reference: Teacher, scale: Scale) -> Strategy:
    usual = mean_value(task, reference)
    return Strategy(
        margin=(1.0 - ALPHA[task]) * usual, floor=FLOOR * usual, hindsight=scale.hindsight, certainty=CERTAINTY,
        takeover_steps=TAKEOVER_STEPS,
    )  # fmt: skip


def _rlif(folder: Path, task: str, env: VecEnv, boss: Overseer, seed: int, scale: Scale) -> torch.nn.Module:
    worst = -1.0 / (1.0 - DISCOUNT[task])  # a fall may not be a way out for whoever is blamed at every step
    learning = replace(
        learner(scale), discount=DISCOUNT[task], blocks_per_step=scale.updates,
        target_entropy=-float(env.num_actions), **FAST,
    )  # fmt: skip
    labelling = Labelling(end_reward=worst, store_takeover_steps=False)
    cfg = rlif.Config(
        strategy=boss.strategy, rlpd=learning, labelling=labelling, seed=seed, total_steps=scale.steps,
        final_rate=FINAL_RATE,
    )  # fmt: skip
    noted = _Noted(boss)
    pupil = rlif_loop.train(cfg, env, folder, cast("Overseer", noted), progress=False)
    obs, action = (torch.cat(x).numpy() for x in zip(*noted.did, strict=True))
    data = io.BytesIO()
    np.savez(data, obs=obs, action=action.clip(-rlif_loop.ACTION_LIMIT, rlif_loop.ACTION_LIMIT))
    write_whole(_deeds(folder), data.getvalue())
    return pupil.actor


class _Noted:
    """An overseer, and all that it did itself, demonstrations included: what BC clones."""

    def __init__(self, boss: Overseer) -> None:
        self._boss = boss
        self.did: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Observations and actions, (n, D) and (n, A)."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._boss, name)

    def drive(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        action = self._boss.drive(obs)
        self.did.append((obs["policy"].clone(), action))
        return action

    def oversee(self, obs: dict[str, torch.Tensor], robot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        action, human = self._boss.oversee(obs, robot)
        self.did.append((obs["policy"][human], action[human]))
        return action, human


def _deeds(folder: Path) -> Path:
    """Where a run of RLIF keeps what its overseer did."""
    return folder.with_name(f"{folder.name}.npz")


def _bc(source: Path, env: VecEnv, seed: int, scale: Scale) -> torch.nn.Module:
    path = _deeds(source)
    if not path.is_file():
        raise ValueError(f"bc clones what the overseer did in RLIF's run, and there is no {path}; run rlif_value first")
    with np.load(path, allow_pickle=False) as seen:
        columns = {"obs": seen["obs"], "action": seen["action"]}
    sizes = {"policy": env.obs_sizes["policy"], "action": env.num_actions}
    data = Replay(len(columns["obs"]), imitation.clone_columns(sizes["policy"], sizes["action"]))
    data.extend(columns)
    cfg = imitation.Config(method="bc", hidden=(scale.width, scale.width), seed=seed)
    clone = imitation.make_clone(cfg, sizes)
    imitation.fit(clone, data, CLONING["pretrain_updates"], cfg, np.random.default_rng(seed))
    return clone.actor


def _dagger(folder: Path, env: VecEnv, boss: Overseer, method: str, seed: int, scale: Scale) -> torch.nn.Module:
    cfg = imitation.Config(
        method="dagger" if method == "dagger" else "hg_dagger", strategy=boss.strategy, seed=seed, rounds=10**6,
        total_steps=scale.steps, hidden=(scale.width, scale.width), **CLONING,
    )  # fmt: skip
    return imitation_loop.train(cfg, env, folder, boss, progress=False).actor
