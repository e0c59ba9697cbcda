"""From data to a world: IQL on what others did, then RLPD from all that it learnt, with the same data as prior.

Kostrikov et al. 2022, arXiv 2110.06169 (IQL); Ball et al. 2023, arXiv 2302.02948 (half of every minibatch is prior).

Knows: the order of the two stages, where each keeps its run. Does not know: how either learns, where data comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from robot_rl.data.replay import Replay
from robot_rl.learn import checkpoint, iql, iql_loop, rlpd, rlpd_loop
from robot_rl.learn.agent import Agent
from robot_rl.learn.env import VecEnv

OFFLINE = "offline"
"""Folder, inside the run's, of the stage without a world, where another stage follows."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of both stages; ``seed`` and ``total_steps`` of the parts come from here."""

    offline: iql.Config = field(default_factory=lambda: iql.Config(critics=10, layer_norm=True, updates=100_000))
    """How it learns from the data; its critics are those of ``online``."""
    online: rlpd.Config = field(default_factory=lambda: rlpd.Config(start_std=0.2))
    """How it goes on in the world, from the policy that was learnt, with ``start_std`` around it."""
    seed: int = 0
    """Of networks, minibatches and worlds."""
    total_steps: int = 0
    """Environment steps, over all environments; 0 stays with the data."""

    def __post_init__(self) -> None:
        if self.total_steps < 0:
            raise ValueError(f"iql: total_steps is {self.total_steps}; at least 0, which stays with the data")
        ours, theirs = self.offline, self.online
        for name in ("critics", "hidden", "layer_norm", "discount"):
            if self.total_steps and getattr(ours, name) != getattr(theirs, name):
                raise ValueError(
                    f"iql: {name} is {getattr(ours, name)} offline and {getattr(theirs, name)} online; the critics are "
                    "handed over, so that they must be the same"
                )


def train(
    cfg: Config, env: VecEnv, data: Replay, out: Path, *, resume: bool = False, progress: bool = True
) -> iql.Student | Agent:
    """Learn from ``data``, then, where there are ``total_steps``, in ``env``; return what was learnt last.

    The first stage writes into ``out/offline`` where a second follows, else into ``out``. A run that was killed in
    either goes on in it; exact where ``env`` is ``checkpoint.Restorable``.

    Args:
        cfg: Settings.
        env: The world.
        data: Transitions of others, whose observations are those of all groups of ``env``.
        out: Folder of the run.
        resume: Go on from the newest checkpoint of either stage.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: ``resume`` without a checkpoint or with other settings, or a fresh run in a folder that has one.
    """
    folder = out / OFFLINE if cfg.total_steps else out
    if not resume and newest(out) is not None:
        raise ValueError(f"{out} already holds checkpoints; resume the run or choose another folder")
    student = iql_loop.train(
        replace(cfg.offline, seed=cfg.seed), data, folder, policy_obs_size=env.obs_sizes["policy"],
        resume=resume, progress=progress,
    )  # fmt: skip
    if not cfg.total_steps:
        return student
    online = replace(cfg.online, seed=cfg.seed, total_steps=cfg.total_steps)
    begun = checkpoint.latest(out / "checkpoints") is not None
    return rlpd_loop.train(
        online, env, out, start=iql.begin_online(student, online), prior=data, resume=begun, progress=progress
    )  # fmt: skip


def newest(out: Path) -> Path | None:
    """Return the newest checkpoint of the run in ``out``, of its later stage where it came to that, or None."""
    return checkpoint.latest(out / "checkpoints") or checkpoint.latest(out / OFFLINE / "checkpoints")
