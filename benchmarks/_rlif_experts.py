"""Who judges and who takes over in the study of RLIF: policies of known scores, from bad to good.

Gaits: PPO learns first, sees its score at ten stages, and drives some episodes at each; with these as prior data RLPD
learns the same task (Ball et al. 2023), so that it is soon good everywhere near a gait, and has what PPO lacks, values
of actions. (From nothing, RLPD at one update per step still fell after 130 steps of Hopper when it had taken 90,000.)
The Panda's reach RLPD learns alone. A score is D4RL's, 100 (return - random) / (expert - random), and of the Panda the
percentage of episodes that end in success.

Knows: tasks, PPO, RLPD, files. Does not know: interventions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from robot_rl import zoo
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint, ppo, ppo_loop, rlif, rlpd, rlpd_file, rlpd_loop
from robot_rl.learn.env import VecEnv
from robot_rl.learn.overseer import Critics, Judge, panel
from robot_rl.learn.reward_scale import ScaledRewards
from robot_rl.learn.teacher import Teacher, load_teacher
from robot_rl.learn.watched import evaluate
from robot_rl.sim.env import make_env
from robot_rl.sim.gym_batch import make_gym_world
from robot_rl.zoo.benchmarks._study import alone  # pyright: ignore[reportMissingImports]  # found by zoo
from robot_rl.zoo.benchmarks.gsde_locomotion import config  # pyright: ignore[reportMissingImports]  # found by zoo

GAITS = {"Hopper-v5": (-20.27, 3234.3), "Walker2d-v5": (1.63, 4592.3)}
"""Returns that score 0 and 100: D4RL's random and expert (Fu et al. 2020, arXiv 2004.07219)."""
EPISODES, EVAL_SEED = 20, 10_000
NUM_ENVS = 4
"""In which experts learn and judges are looked at."""
PPO_STAGES, PRIOR_STEPS, PRIOR_NOISE = 10, 4_000, 0.1
"""Stages of PPO's training, and what its policy drives at each: steps, and deviation of the noise on its actions."""
SHARE = {"panda_reach": 0.2}
"""Of the steps that RLPD trains experts, where it is not 1: a reach is learnt sooner than a gait."""
TEMPERATURE = 0.1
"""At the start, of experts and learners. The released code's 1.0 takes a million steps to fall: after 10,000 on the
Panda it was 0.54 and the policy still uniform."""
CAPACITY = 500_000
"""Transitions that a replay holds, if the study has no more."""

Policy = Callable[[Tensor], Tensor]
"""From observations (N, D) to actions (N, A)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the study is."""

    steps: int
    """Environment steps of each learner."""
    ppo_steps: int
    """Of PPO before them, on gaits."""
    expert_steps: int
    """Of RLPD for judge and experts."""
    stage_steps: int
    """Between stages of that."""
    updates: float
    """Blocks of one critic and one actor step per environment step of RLIF; experts take 1."""
    width: int
    critics: int
    hindsight: bool

    def of(self, task: str) -> Scale:
        """Return the scale of a task."""
        part = SHARE.get(task, 1.0)
        experts, stage = (round(n * part) for n in (self.expert_steps, self.stage_steps))
        return replace(self, expert_steps=experts, stage_steps=stage)

    @property
    def networks(self) -> str:
        """What tells the files of one size from those of another."""
        return f"{self.critics}x{self.width}"


def learner(scale: Scale) -> rlpd.Config:
    """Return RLPD's settings for experts and, but for discount and updates, for RLIF."""
    hidden = (scale.width, scale.width)
    return replace(
        rlif.LEARNER, critics=scale.critics, hidden=hidden, actor_hidden=hidden,
        actor_reduce="min" if scale.critics == rlif.LEARNER.subset else "mean",  # of two the mean is too bold (SAC)
        temperature=TEMPERATURE, capacity=max(CAPACITY, scale.steps, scale.expert_steps), save_every=10**9,
        log_every=max(1, min(1_000, scale.steps // 20)),
    )  # fmt: skip


def make_world(task: str, num_envs: int, seed: int) -> VecEnv:
    """Return worlds of a task; on one thread, because on a busy machine others are waited for."""
    if task in GAITS:
        return cast("VecEnv", make_gym_world(task, num_envs=num_envs, seed=seed, threads=1))
    return cast("VecEnv", make_env(zoo.load("sim", f"tasks/{task}").task(), num_envs=num_envs, seed=seed, threads=1))


@torch.no_grad()
def score(task: str, policy: Policy) -> float:
    """Return the score of a policy, tested in one episode of each of ``EPISODES`` worlds."""
    world = make_world(task, EPISODES, EVAL_SEED)
    if task in GAITS:
        low, high = GAITS[task]
        return 100.0 * (float(np.mean(evaluate(world, policy)[0])) - low) / (high - low)
    step = world.step(policy(world.reset()["policy"]))
    while "episode/success" not in step.log:  # all episodes end in the same step
        step = world.step(policy(step.obs["policy"]))
    return 100.0 * float(step.log["episode/success"])


def train_experts(folder: Path, task: str, scale: Scale) -> list[Path]:
    """Return the stages of a task's experts, each with its score, trained where they are not yet.

    A killed training goes on at its newest stage.

    Raises:
        BusyError: Another process is at it.
    """
    if len(_stages(folder, "rlpd")) < scale.expert_steps // scale.stage_steps:
        with alone(folder / "stages"):
            walks = _with_ppo(folder, task, scale) if task in GAITS else []
            _with_rlpd(folder, task, scale, _episodes(task, walks) if walks else None)
    return [*_stages(folder, "ppo"), *_stages(folder, "rlpd")]


@dataclass(frozen=True, slots=True)
class Roles:
    """Who plays which part."""

    reference: Teacher
    """RLPD's best stage; its critics alone measure what a step is worth."""
    judge: Judge
    """An opinion of each of RLPD's stages of the second half."""
    expert: Teacher
    """Who takes over."""
    scores: dict[str, float]
    """``judge_score``, which is the reference's, and ``expert_score``."""


def cast_roles(stages: Sequence[Path], env: VecEnv, level: float) -> Roles:
    """Return who judges and, as the stage whose score is nearest to ``level``, who takes over."""
    sizes = env.obs_sizes | {"action": env.num_actions}
    scores = {path: float(checkpoint.load(path)["score"]) for path in stages}
    trained = [path for path in stages if path.name.startswith("rlpd")]
    best, near = max(trained, key=lambda path: scores[path]), min(stages, key=lambda path: abs(scores[path] - level))
    reference, expert = (load_teacher(path, sizes) for path in (best, near))
    judges = [load_teacher(path, sizes).judge for path in trained[len(trained) // 2 :]]
    judge = panel([judge for judge in judges if isinstance(judge, Critics)])
    return Roles(reference, judge, expert, {"judge_score": scores[best], "expert_score": scores[near]})


def mean_value(task: str, judge: Teacher) -> float:
    """Return the mean value that a policy's own critics give its actions, over steps of its own episodes."""
    assert judge.judge is not None, "rlpd's stages have critics"
    world, values = make_world(task, NUM_ENVS, EVAL_SEED + 1), []
    obs = world.reset()
    for _ in range(500):
        action = judge.label(obs)
        values.append(float(judge.judge(obs, action).mean()))
        obs = world.step(action).obs
    return float(np.mean(values))


def _stage(folder: Path, algorithm: str, steps: int) -> Path:
    return folder / "stages" / f"{algorithm}_{steps:08d}.npz"


def _stages(folder: Path, algorithm: str) -> list[Path]:
    return sorted((folder / "stages").glob(f"{algorithm}_*.npz"))


def _keep(
    folder: Path, task: str, algorithm: str, steps: int, tree: dict[str, Any], actor: Callable[[Tensor], Tensor]
) -> None:
    points = score(task, actor)
    checkpoint.save(_stage(folder, algorithm, steps), tree | {"score": points})
    _log.warning("%s on %s after %d steps: score %.1f", algorithm, task, steps, points)


def _with_ppo(folder: Path, task: str, scale: Scale) -> list[Path]:
    """Train with gSDE and the settings that its paper tuned for Hopper, which reach 3,000 there in a million steps."""
    if len(_stages(folder, "ppo")) < PPO_STAGES:
        cfg, num_envs = config("Hopper-v5", "gsde", 0, scale.ppo_steps, "paper")
        every = max(1, scale.ppo_steps // (num_envs * cfg.num_steps * PPO_STAGES))
        cfg, run = replace(cfg, save_every=every, keep_every=every), folder / "ppo"
        world = ScaledRewards(make_world(task, num_envs, 5_000), discount=cfg.discount)
        resume = checkpoint.latest(run / "checkpoints") is not None
        ppo_loop.train(cfg, cast("VecEnv", world), run, resume=resume, progress=False)
        for path in sorted((run / "checkpoints").glob("*.npz")):
            tree = checkpoint.load(path)
            if not _stage(folder, "ppo", tree["steps"]).is_file():
                _keep(folder, task, "ppo", tree["steps"], tree, ppo.unpack(tree)[0].actor)
    return _stages(folder, "ppo")


def _episodes(task: str, stages: Sequence[Path]) -> Replay:
    """Return what the policy of each stage lives through, a little noise on its actions."""
    env = make_world(task, NUM_ENVS, 6_000)
    sizes = env.obs_sizes | {"action": env.num_actions}
    columns = transition_columns(sizes["policy"], sizes["action"])
    seen, generator = Replay(PRIOR_STEPS * len(stages), columns, streams=NUM_ENVS), torch.Generator().manual_seed(0)
    for path in stages:
        policy, obs = load_teacher(path, sizes), env.reset()
        for _ in range(PRIOR_STEPS // NUM_ENVS):
            noise = PRIOR_NOISE * torch.randn((NUM_ENVS, env.num_actions), generator=generator)
            action = (policy.label(obs) + noise).clamp(-1.0, 1.0)
            step = env.step(action)
            seen.extend(rlpd_loop.as_columns(obs, action, step))
            obs = step.obs
    return seen


def _with_rlpd(folder: Path, task: str, scale: Scale, prior: Replay | None) -> None:
    done = len(_stages(folder, "rlpd"))
    for steps in range((done + 1) * scale.stage_steps, scale.expert_steps + 1, scale.stage_steps):
        cfg, run = replace(learner(scale), total_steps=steps, start_steps=2_000, seed=100), folder / "rlpd"
        resume = checkpoint.latest(run / "checkpoints") is not None
        world = make_world(task, NUM_ENVS, 5_000)
        agent = rlpd_loop.train(cfg, world, run, prior=prior, resume=resume, progress=False)
        _keep(folder, task, "rlpd", steps, rlpd_file.pack(agent, cfg, steps), agent.actor)
