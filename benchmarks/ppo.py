"""PPO's environment steps per second, collection and update included, over a peer that runs in turns with it.

``peer=rollout`` (the default): recipe go2_walk_ppo against the raw batched physics of the same robots under the same
controls (``env``'s floor, in turns of 8 steps): nothing observed, nothing learnt.

``peer=sb3``: against Stable-Baselines3's PPO on one of Gymnasium's MuJoCo tasks, with the same networks, environments,
steps, passes, minibatches and running normalisation of observations, each side stepping the task in its own fastest way
(SB3: the quicker of DummyVecEnv and SubprocVecEnv; ours: one batch on threads, equal to Gymnasium bit for bit).
``returns=True`` trains both over ``seeds`` for ``total_steps`` instead and compares what they learnt.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from robot_rl import zoo
from robot_rl.hardware.symmetry import make_reflections
from robot_rl.learn import ppo
from robot_rl.learn.env import VecEnv
from robot_rl.learn.ppo_loop import iterate, start, train
from robot_rl.learn.symmetry import make_mirror
from robot_rl.sim.env import Env, make_env
from robot_rl.sim.gym_batch import make_gym_world
from robot_rl.zoo.benchmarks.env import (  # pyright: ignore[reportMissingImports]  # found by zoo
    RawPhysics,
    Spent,
    backend,
    spent,
)

EPISODES = 10
"""Episodes of the deterministic policy behind one return."""


def run(
    *,
    peer: str = "rollout",
    rounds: int = 10,
    threads: int = 1,
    recipe: str = "go2_walk_ppo",
    symmetry: str = "",
    task: str = "HalfCheetah-v5",
    num_envs: int = 64,
    num_steps: int = 64,
    epochs: int = 10,
    minibatch: int = 512,
    subproc: bool = True,
    returns: bool = False,
    seeds: int = 3,
    total_steps: int = 200_000,
) -> dict[str, Any]:
    """Measure ``rounds`` iterations of each side in turns; the medians count.

    Args:
        peer: ``rollout`` or ``sb3``.
        rounds: Iterations measured, after two for warming up.
        threads: Of torch, on both sides; the physics has one per CPU.
        recipe: For ``rollout``: whose task, settings and number of environments.
        symmetry: For ``rollout``: in place of the recipe's.
        task: For ``sb3``, as all that follow: a registered environment.
        num_envs: N.
        num_steps: T.
        epochs: Passes over a rollout.
        minibatch: Rows.
        subproc: Whether SB3 may also step its environments in processes of their own, one each.
        returns: Compare returns instead of speed; the ratio is ours over theirs.
        seeds: Runs per side.
        total_steps: Steps per run.
    """
    if peer not in ("rollout", "sb3"):
        raise ValueError(f"no peer {peer!r}; the choices are ('rollout', 'sb3')")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        if peer == "rollout":
            return _against_rollout(recipe, symmetry, rounds)
        setting = Setting(task, num_envs, num_steps, epochs, minibatch)
        if returns:
            return _returns(setting, seeds, total_steps)
        return _against_sb3(setting, rounds, subproc=subproc)
    finally:
        torch.set_num_threads(before)


def _result(ours: list[float], floor: list[float], steps: int, setup: str) -> dict[str, Any]:
    """Return the benchmark's answer from the times of iterations [s], after warming up."""
    times = np.array([ours, floor])[:, 2:]
    rates = steps / np.median(times, axis=1)
    return {
        "bench": "ppo",
        "value": round(float(rates[0]), 1),
        "unit": "env steps/s",
        "floor": round(float(rates[1]), 1),
        "ratio": round(float(np.median(times[1] / times[0])), 3),
        "p50_us": round(float(np.percentile(times[0], 50) * 1e6), 1),
        "p99_us": round(float(np.percentile(times[0], 99) * 1e6), 1),
        "setup": f"{setup}, {times.shape[1]} iterations in turns, torch {torch.get_num_threads()} threads of "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; p50, p99 of an iteration",
    }


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# -- against the raw physics --


def _against_rollout(name: str, symmetry: str, rounds: int) -> dict[str, Any]:
    recipe = zoo.load("policies", f"recipes/{name}").recipe()
    cfg, n = replace(recipe.config, symmetry=symmetry or recipe.config.symmetry), recipe.num_envs
    env = make_env(zoo.load("sim", f"tasks/{recipe.task}").task(), num_envs=n, seed=cfg.seed, threads=recipe.threads)
    paired = _Paired(env, RawPhysics(env, recipe.threads))
    on_the_way = start(cfg, paired)
    if cfg.symmetry != "none":
        reflections = make_reflections(env.robot, env.contract, tuple(env.task.privileged))
        on_the_way.agent.mirror = make_mirror(reflections, {**env.obs_sizes, "action": env.num_actions})
    iterate(on_the_way, cfg)  # feeds the normaliser
    ours, floor, parts, cpu = [], [], [], []
    for _ in range(rounds + 2):
        paired.floor.clear()
        row, aside = {}, _aside_s()
        total = spent(lambda row=row: row.update(iterate(on_the_way, cfg)))
        aside, inside = _aside_s() - aside, Spent(*np.sum(paired.floor, axis=0))
        paired.turn()  # what is left of the rollout
        whole = Spent(*np.sum(paired.floor, axis=0))
        ours.append(total.wall_s - inside.wall_s)
        floor.append(whole.wall_s)
        parts.append([row["time/env_s"] - inside.wall_s, row["time/collect_s"] - inside.wall_s, row["time/update_s"]])
        cpu.append([whole.cpu_s, total.cpu_s - inside.cpu_s - whole.cpu_s - aside, aside])
    env.close()
    env_s, collect_s, update_s = np.median(parts[2:], axis=0)
    physics_s, rest_s, aside_s = np.median(cpu[2:], axis=0)
    at_rest = physics_s / (recipe.threads or os.cpu_count() or 1)
    setup = (
        f"floor: raw batched physics under the same controls; {name}, {n} envs, {cfg.num_steps} steps, {cfg.epochs} x "
        f"{cfg.minibatches} minibatches, symmetry {cfg.symmetry}, exploration {cfg.exploration}; collection "
        f"{collect_s:.3f} s (environment {env_s:.3f}), update {update_s:.3f}; by CPU time, as on a machine at rest: "
        f"ratio {at_rest / (at_rest + rest_s):.3f}, physics {physics_s:.3f} s of all its threads, the rest "
        f"{rest_s:.3f} s, beside it on a second core {aside_s:.3f}"
    )
    return _result(ours, floor, n * cfg.num_steps, setup)


class _Paired:
    """A ``VecEnv`` whose peer steps through the same controls after every few steps, from the same states."""

    def __init__(self, env: Env, raw: RawPhysics, steps: int = 8) -> None:
        self._env, self._raw, self._steps = env, raw, steps
        self._control: NDArray[Any] = backend(env).batch.bind("ctrl")
        self.num_envs, self.obs_sizes, self.num_actions = env.num_envs, env.obs_sizes, env.num_actions
        self.reset, self.stagger, self.close = env.reset, env.stagger, env.close
        self._table: list[NDArray[Any]] = []
        self.floor: list[Spent] = []
        """What the peer's turns took."""

    def step(self, action: torch.Tensor) -> Any:
        if not self._table:
            self._raw.begin_like_env()
        step = self._env.step(action)
        self._table.append(np.array(self._control))
        if len(self._table) == self._steps:
            self.turn()
        return step

    def turn(self) -> None:
        """Let the peer step through what it has not."""
        if self._table:
            self.floor.append(self._raw.time(self._table))
            self._table.clear()


def _aside_s() -> float:
    """Return the CPU time of the second core's thread (``robot_rl.learn.beside``) until now."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    helpers = [t.ident for t in threading.enumerate() if t.name.startswith("beside") and t.ident is not None]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(helper)) for helper in helpers)


# -- against Stable-Baselines3 --


@dataclass(frozen=True)
class Setting:
    """What both sides share; the rest are SB3's defaults."""

    task: str
    num_envs: int
    num_steps: int
    epochs: int
    minibatch: int
    hidden: tuple[int, int] = (64, 64)

    def ours(self, seed: int = 0, total_steps: int = 10**9) -> ppo.Config:
        """Return SB3's default settings in our words."""
        return ppo.Config(
            total_steps=total_steps, num_steps=self.num_steps, epochs=self.epochs, seed=seed,
            minibatches=self.num_envs * self.num_steps // self.minibatch, discount=0.99, trace=0.95, clip=0.2,
            value_coef=0.5, entropy_coef=0.0, learning_rate=3e-4, critic_learning_rate=3e-4, target_kl=0.0,
            max_grad_norm=0.5, actor_hidden=self.hidden, critic_hidden=self.hidden, activation="tanh", log_std=0.0,
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.task}, {self.num_envs} envs, {self.num_steps} steps, {self.epochs} passes, minibatch "
            f"{self.minibatch}, 2 x {self.hidden} tanh, observations normalised"
        )


def _against_sb3(setting: Setting, rounds: int, *, subproc: bool) -> dict[str, Any]:
    steps, cfg = setting.num_envs * setting.num_steps, setting.ours()
    kinds = ("SubprocVecEnv", "DummyVecEnv") if subproc else ("DummyVecEnv",)
    peers = {kind: _sb3(setting, kind, seed=0) for kind in kinds}  # first, for they fork
    env: Any = make_gym_world(setting.task, num_envs=setting.num_envs, seed=0)
    physics = _Clocked(env.batch) if hasattr(env, "batch") else None
    if physics:
        env.batch = physics
    on_the_way = start(cfg, env)
    iterate(on_the_way, cfg)  # feeds the normaliser
    ours: list[Spent] = []
    parallel: list[float] = []
    theirs: dict[str, list[Spent]] = {kind: [] for kind in peers}
    for _ in range(rounds + 2):
        before = physics.cpu_s if physics else 0.0
        ours.append(spent(partial(iterate, on_the_way, cfg)))
        parallel.append(physics.cpu_s - before if physics else 0.0)
        for kind, model in peers.items():
            theirs[kind].append(spent(partial(model.learn, steps, reset_num_timesteps=False)))
    for model in peers.values():
        model.get_env().close()
    wall = {kind: [x.wall_s for x in times] for kind, times in theirs.items()}
    best = min(wall, key=lambda kind: float(np.median(wall[kind][2:])))
    said = ", ".join(f"{kind} {steps / float(np.median(times[2:])):.0f}" for kind, times in wall.items())
    cores = os.cpu_count() or 1
    alone = np.array([x.cpu_s - p * (1.0 - 1.0 / cores) for x, p in zip(ours, parallel, strict=True)])[2:]
    dummy = np.array([x.cpu_s for x in theirs["DummyVecEnv"]])[2:]
    setup = (
        f"floor: SB3 PPO ({said}); {setting}; by CPU time, as on a machine at rest: {steps / np.median(alone):.0f} "
        f"against DummyVecEnv's {steps / np.median(dummy):.0f}, ratio {np.median(dummy / alone):.2f}"
    )
    return _result([x.wall_s for x in ours], wall[best], steps, setup)


class _Clocked:
    """A batch of simulations that notes the CPU time of its steps, which are spread over threads."""

    def __init__(self, batch: Any) -> None:
        self._batch, self.cpu_s = batch, 0.0

    def step(self, **how: Any) -> None:
        self.cpu_s += spent(partial(self._batch.step, **how)).cpu_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)


def _sb3(setting: Setting, kind: str, *, seed: int) -> Any:
    import stable_baselines3
    from stable_baselines3.common import env_util, vec_env

    how = {"start_method": "fork"} if kind == "SubprocVecEnv" else {}  # a fresh interpreter takes seconds each
    copies = env_util.make_vec_env(
        setting.task, setting.num_envs, seed=seed, vec_env_cls=getattr(vec_env, kind), vec_env_kwargs=how
    )
    policy = {"net_arch": list(setting.hidden), "activation_fn": torch.nn.Tanh}
    return stable_baselines3.PPO(
        "MlpPolicy", vec_env.VecNormalize(copies, norm_reward=False), n_steps=setting.num_steps, seed=seed,
        batch_size=setting.minibatch, n_epochs=setting.epochs, policy_kwargs=policy, device="cpu",
    )  # fmt: skip


# -- returns --


def _returns(setting: Setting, seeds: int, total_steps: int) -> dict[str, Any]:
    ours, theirs = [], []
    for seed in range(seeds):
        ours.append(_learn_ours(setting, seed, total_steps))
        theirs.append(_learn_sb3(setting, seed, total_steps))
    (mean, took), (floor, peer_took) = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    lists = [", ".join(f"{row[0]:.0f}" for row in rows) for rows in (ours, theirs)]
    spread = [float(np.std([row[0] for row in rows], ddof=min(1, seeds - 1))) for rows in (ours, theirs)]
    return {
        "bench": "ppo",
        "value": round(float(mean), 1),
        "unit": "return",
        "floor": round(float(floor), 1),
        "ratio": round(float(mean / floor), 3),
        "p50_us": None,
        "p99_us": None,
        "setup": f"floor: SB3 PPO; mean return of {EPISODES} episodes without exploration after {total_steps} steps; "
        f"ours [{lists[0]}], deviation {spread[0]:.0f}, {took:.0f} s a run; SB3 [{lists[1]}], deviation "
        f"{spread[1]:.0f}, {peer_took:.0f} s a run; {setting}",
    }


def _learn_ours(setting: Setting, seed: int, total_steps: int) -> tuple[float, float]:
    """Return the return learnt and the time it took [s]."""
    env = cast("VecEnv", make_gym_world(setting.task, num_envs=setting.num_envs, seed=1000 * seed))
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        agent = train(setting.ours(seed, total_steps), env, Path(out), progress=False)
        took = time.perf_counter() - began
    return _judged(setting.task, agent.actor), took


def _learn_sb3(setting: Setting, seed: int, total_steps: int) -> tuple[float, float]:
    model = _sb3(setting, "DummyVecEnv", seed=1000 * seed)
    took = _seconds(partial(model.learn, total_steps))
    norm = model.get_env()

    def act(obs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(model.predict(norm.normalize_obs(obs.numpy()), deterministic=True)[0])

    return _judged(setting.task, act), took


@torch.no_grad()
def _judged(task: str, act: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return the mean return of the first episode of ``EPISODES`` copies, the same for every policy."""
    env = make_gym_world(task, num_envs=EPISODES, seed=10**6)
    obs, total, alive = env.reset()["policy"], torch.zeros(EPISODES), torch.ones(EPISODES, dtype=torch.bool)
    while alive.any():
        step = env.step(act(obs))
        obs, total = step.obs["policy"], total + step.reward * alive
        alive &= (step.terminated < 1.0) & ~step.truncated
    env.close()
    return float(total.mean())
