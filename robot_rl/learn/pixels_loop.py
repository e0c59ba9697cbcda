"""RLPD from pictures in a simulated world: act, remember, learn; first from prior data alone, where that is wanted.

Knows: a ``VecEnv`` with groups of pictures, when blocks of updates are due.
Does not know: losses (``pixels``), cameras.

Shapes: N environments · D numbers · A action · H, W, C pictures, cameras side by side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.pictures import GROUP, PictureReplay, side_by_side
from robot_rl.learn import checkpoint
from robot_rl.learn.env import Step, VecEnv
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.pixels import Config, Seer, draw, fix_statistics, make_seer, pack, update
from robot_rl.learn.rlpd_loop import due

FREE = ("total_steps",)
"""Settings that may change where a run goes on."""


def train(
    cfg: Config, env: VecEnv, out: Path, *, prior: PictureReplay | None = None, resume: bool = False,
    progress: bool = True,
) -> Seer:  # fmt: skip
    """Act, remember, learn until ``total_steps`` and return what was learnt.

    Writes ``out/checkpoints/*.npz`` and ``out/metrics.jsonl``.

    Args:
        cfg: Settings.
        env: A world whose observations have pictures.
        out: Folder of the run.
        prior: Transitions of others with their pictures, half of every minibatch.
        resume: Go on from the newest checkpoint; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The world has no pictures, there is nothing to resume or it has other settings, a fresh run in a
            folder that has one, or blocks offline without prior data.
    """
    folder, lr = out / "checkpoints", cfg.learner
    if cfg.offline_blocks and prior is None:
        raise ValueError(f"pixels: offline_blocks is {cfg.offline_blocks}, and there is no prior data to learn from")
    seer, replay, shown = _make(cfg, env, prior)
    tracker, rng = EpisodeTracker(env.num_envs), np.random.default_rng(cfg.seed)
    obs = _resume(seer, cfg, replay, rng, tracker, env, folder) if resume else _begin(seer, replay, env, folder)
    metrics: dict[str, float] = {}
    first = replay.total // lr.log_every
    with RunLog(out, cfg.total_steps, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        if shown is not None and seer.offline == 0 and not replay.total:
            fix_statistics(seer, torch.from_numpy(_numbers(shown)))
        while seer.offline < cfg.offline_blocks:
            metrics |= update(seer, draw(shown, replay, cfg, rng), cfg)
            seer.offline += 1
            if stop.asked:
                _save(seer, cfg, replay, rng, tracker, env, obs, folder)
                stop.leave()
        while replay.total < cfg.total_steps:
            before = replay.total
            uniform = shown is None and before < lr.start_steps
            action = _act(seer, obs, env, uniform=uniform)
            step = env.step(action)
            obs = _remember(seer, replay, obs, action, step)
            tracker.add(step.reward, step.terminated, step.truncated)
            seer.steps = replay.total
            if shown is None and before < lr.start_steps <= replay.total:
                fix_statistics(seer, torch.from_numpy(_numbers(replay)))
            for _ in range(due(replay.total, env.num_envs, cfg.rlpd)):
                metrics |= update(seer, draw(shown, replay, cfg, rng), cfg)
            if replay.total // lr.log_every > before // lr.log_every:
                row = {f"loss/{name}": value for name, value in metrics.items()}
                log.write(replay.total // lr.log_every, replay.total, row | tracker.means())
            saves = replay.total // lr.save_every > before // lr.save_every or replay.total >= cfg.total_steps
            if saves or stop.asked:
                _save(seer, cfg, replay, rng, tracker, env, obs, folder)
                stop.leave()
    return seer


def _make(cfg: Config, env: VecEnv, prior: PictureReplay | None) -> tuple[Seer, PictureReplay, PictureReplay | None]:
    """Build what learns, its replay, and the prior data as that replay keeps pictures."""
    obs = env.reset()
    if not any(name.startswith(GROUP) for name in obs):
        raise ValueError(f"pixels: the world shows no pictures, only {sorted(obs)}; its task names no cameras")
    shape = side_by_side(obs).shape[1:]
    numbers, num_actions = env.obs_sizes["policy"], env.num_actions
    seer = make_seer(cfg, obs_size=numbers, num_actions=num_actions, shape=shape)
    kept = seer.kept(np.zeros((1, *shape), np.uint8))
    replay = PictureReplay(
        cfg.rlpd.capacity, numbers, num_actions, kept.shape[1:], streams=env.num_envs, dtype=kept.dtype
    )  # fmt: skip
    if prior is None or not seer.encoder.frozen:
        return seer, replay, prior
    return seer, replay, prior.with_pictures(seer.kept)


def _numbers(replay: PictureReplay) -> np.ndarray:
    return replay.rows.split(replay.rows.rows[: len(replay)])["obs"][:, :-1]


def _act(seer: Seer, obs: dict[str, Tensor], env: VecEnv, *, uniform: bool) -> Tensor:
    if uniform:
        return torch.rand((env.num_envs, env.num_actions), generator=seer.heads.generator) * 2.0 - 1.0
    return seer.act(obs["policy"], seer.kept(side_by_side(obs)), explore=True)


def _remember(
    seer: Seer, replay: PictureReplay, obs: dict[str, Tensor], action: Tensor, step: Step
) -> dict[str, Tensor]:
    """Put a step into the replay and return the observations to act on next."""
    columns = {
        "obs": obs["policy"].numpy(), "action": action.numpy(), "reward": step.reward.numpy(),
        "next_obs": step.next_obs["policy"].numpy(), "terminated": step.terminated.numpy(),
    }  # fmt: skip
    replay.extend(columns, seer.kept(side_by_side(step.next_obs)))
    ended = np.flatnonzero(((step.terminated >= 1.0) | step.truncated).numpy())
    if ended.size:
        replay.begin(seer.kept(side_by_side(step.obs)[ended]), ended)
    return step.obs


def _begin(seer: Seer, replay: PictureReplay, env: VecEnv, folder: Path) -> dict[str, Tensor]:
    if checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    obs = env.reset()
    replay.begin(seer.kept(side_by_side(obs)))
    return obs


def _save(
    seer: Seer, cfg: Config, replay: PictureReplay, rng: np.random.Generator, tracker: EpisodeTracker, env: VecEnv,
    obs: dict[str, Tensor], folder: Path,
) -> None:  # fmt: skip
    tree = pack(seer, cfg) | {
        "replay": replay.state_dict(), "rng": rng.bit_generator.state, "tracker": tracker.snapshot(), "obs": obs,
        "env": env.snapshot() if isinstance(env, checkpoint.Restorable) else None,
    }  # fmt: skip
    checkpoint.save(checkpoint.numbered(folder, replay.total), tree)
    checkpoint.prune(folder, keep=2, every=0)


def _resume(
    seer: Seer, cfg: Config, replay: PictureReplay, rng: np.random.Generator, tracker: EpisodeTracker, env: VecEnv,
    folder: Path,
) -> dict[str, Tensor]:  # fmt: skip
    path = checkpoint.latest(folder)
    if path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    tree = checkpoint.load(path)
    checkpoint.check_settings(tree, cfg, path, free=FREE)
    seer.restore(tree["seer"])
    replay.load_state_dict(tree["replay"])
    rng.bit_generator.state = tree["rng"]
    obs = env.reset()
    if tree["env"] is not None and isinstance(env, checkpoint.Restorable):
        env.restore(tree["env"])
        tracker.restore(tree["tracker"])
        return tree["obs"]
    replay.begin(seer.kept(side_by_side(obs)))
    return obs
