"""RLIF in a simulated world: a policy drives, an overseer takes over, and both streams are learnt from.

Each step waits until it is known whether a take-over followed it (``Pending``); then it joins the replay, beside it who
acted. HIL-SERL keeps what the expert did in a second replay too.

Knows: a ``VecEnv``, an overseer, when updates are due. Does not know: losses, why the overseer takes over.

Shapes: N environments · A action.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.interventions import Pending, route
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.env import Step, VecEnv, joined
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import EpisodeTracker, RunLog
from robot_rl.learn.overseer import Overseer
from robot_rl.learn.rlif import Config, Pupil, learner, make_pupil, pack

ACTION_LIMIT = 0.999
"""Largest action that is executed and stored, so that its density under a squashed policy is finite."""


@dataclass(slots=True)
class Run:
    """A world, an overseer and a pupil on their way."""

    pupil: Pupil
    env: VecEnv
    overseer: Overseer
    replays: dict[str, Replay]
    """``online``, and for HIL-SERL ``demo``; their column ``human`` says who acted."""
    pending: Pending
    tracker: EpisodeTracker
    rng: np.random.Generator
    obs: dict[str, Tensor]
    demos: int = 0
    """Episodes that the expert drove alone so far."""
    started: bool = False
    """The normaliser is fixed; learning may go on."""
    counts: Counter[str] = field(default_factory=Counter[str])
    """Steps and steps of the expert since the last row of metrics."""


def train(
    cfg: Config, env: VecEnv, out: Path, overseer: Overseer, *, resume: bool = False, progress: bool = True
) -> Pupil:
    """Drive, be taken over, remember, learn until ``total_steps`` and return what was learnt.

    Writes ``out/checkpoints/*.npz`` and ``out/metrics.jsonl``; ``overseer/duty`` there is the share of steps that the
    expert drove, ``overseer/onsets`` the take-overs per step of the policy.

    Args:
        cfg: Settings.
        env: The world; its reward is only looked at by HIL-SERL and where ``task_reward`` says so.
        out: Folder of the run.
        overseer: Who takes over, made for ``env.num_envs``.
        resume: Go on from the newest checkpoint; exact where ``env`` is ``checkpoint.Restorable``.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: ``resume`` without a checkpoint, or a fresh run in a folder that has one.
    """
    learning, folder = learner(cfg), out / "checkpoints"
    run = _begin(cfg, env, overseer)
    if resume:
        _resume(run, folder)
    elif checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    pupil, metrics = run.pupil, dict[str, float]()
    first = pupil.steps // learning.log_every
    with RunLog(out, cfg.total_steps, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        while pupil.steps < cfg.total_steps:
            before = pupil.steps
            advance(run, cfg)
            _set_rates(run, cfg, learning)
            for _ in range(_due(run, before, learning)):
                batch = rlpd.draw(run.replays["online"], _prior(run), learning, run.rng)
                metrics |= rlpd.update(pupil.agent, batch, learning)
            if pupil.steps // learning.log_every > before // learning.log_every:
                row = {f"loss/{name}": value for name, value in metrics.items()} | _watched(run)
                log.write(pupil.steps // learning.log_every, pupil.steps, row)
            saves = pupil.steps // learning.save_every > before // learning.save_every or pupil.steps >= cfg.total_steps
            if saves or stop.asked:
                _save(run, cfg, folder)
                stop.leave()
    return pupil


def advance(run: Run, cfg: Config) -> None:
    """Take one step in every environment and store the steps whose reward is now known."""
    alone = run.demos < cfg.demos
    if alone:
        action, human = run.overseer.drive(run.obs), torch.ones(run.env.num_envs, dtype=torch.bool)
    else:
        action, human = run.overseer.oversee(run.obs, _act(run))
    action = action.clamp(-ACTION_LIMIT, ACTION_LIMIT)
    step = run.env.step(action)
    fell = step.terminated >= 1.0
    ended = fell | step.truncated
    ready = run.pending.push(
        _columns(run, cfg, action, step), human=human.numpy(), terminated=fell.numpy(),
        truncated=step.truncated.numpy(), demonstrated=alone,
    )  # fmt: skip
    _store(run, cfg, ready, alone=alone)
    run.tracker.add(step.reward, step.terminated, step.truncated)
    run.overseer.forget(ended)
    run.obs = step.obs
    run.pupil.steps += run.env.num_envs
    if alone:
        run.demos += int(ended.sum())
        if run.demos >= cfg.demos:
            _end_demos(run, cfg)
        return
    run.counts.update(steps=run.env.num_envs, human=int(human.sum()))


@torch.no_grad()
def _act(run: Run) -> Tensor:
    agent, n = run.pupil.agent, run.env.num_envs
    return agent.actor.sample(run.obs["policy"], agent.actor.noise(n, matrices=n, generator=agent.generator))[0]


def _columns(run: Run, cfg: Config, action: Tensor, step: Step) -> dict[str, Tensor]:
    weight = cfg.task_reward if cfg.method == "rlif" else 1.0
    return {
        "obs": joined(run.obs), "action": action, "reward": weight * step.reward, "next_obs": joined(step.next_obs),
        "terminated": step.terminated,
    }  # fmt: skip


def _store(run: Run, cfg: Config, ready: dict[str, np.ndarray], *, alone: bool) -> None:
    """Put steps where they belong; HIL-SERL's demonstrations lie only among the demonstrations."""
    if not ready or not len(ready["human"]):
        return
    for name, chosen in route(ready["human"] > 0.0, cfg.method).items():
        if chosen.any() and not (alone and cfg.method == "hil_serl" and name == "online"):
            run.replays[name].extend({column: x[chosen] for column, x in ready.items()})


def _end_demos(run: Run, cfg: Config) -> None:
    """The policy drives from here on: what the expert began alone, it goes on with, and no take-over led there."""
    _store(run, cfg, run.pending.flush(), alone=True)


def _prior(run: Run) -> Replay | None:
    """HIL-SERL's demonstrations, where there are any yet."""
    demo = run.replays.get("demo")
    return demo if demo else None


def _due(run: Run, before: int, cfg: rlpd.Config) -> int:
    """Return the blocks of updates that the newest step pays for; fixes the normaliser before the first."""
    if not run.started:
        if run.counts["steps"] == 0 or not run.replays["online"]:
            return 0
        if sum(len(replay) for replay in run.replays.values()) < cfg.start_steps:
            return 0
        seen = np.concatenate([replay.split(replay.rows[: len(replay)])["obs"] for replay in run.replays.values()])
        rlpd.fix_statistics(run.pupil.agent, torch.from_numpy(seen), fresh_actor=True)
        run.started = True
    return int(run.pupil.steps * cfg.blocks_per_step) - int(before * cfg.blocks_per_step)


def _set_rates(run: Run, cfg: Config, learning: rlpd.Config) -> None:
    left = 1.0 - (1.0 - cfg.final_rate) * min(1.0, run.pupil.steps / cfg.total_steps)
    agent = run.pupil.agent
    for adam, rate in ((agent.actor_adam, learning.actor_lr), (agent.critic_adam, learning.critic_lr)):
        adam.param_groups[0]["lr"] = rate * left


def _watched(run: Run) -> dict[str, float]:
    """Return what the overseer did since it was last asked, and the means of episodes."""
    steps, human = run.counts["steps"], run.counts["human"]
    row: dict[str, float] = dict(run.tracker.means())
    if steps:
        row |= {"overseer/duty": human / steps, "overseer/onsets": run.pending.onsets / max(steps - human, 1)}
    run.counts.clear()
    run.pending.onsets = 0
    return row


def _begin(cfg: Config, env: VecEnv, overseer: Overseer) -> Run:
    wide = sum(env.obs_sizes.values())
    columns = transition_columns(wide, env.num_actions) | {"human": 0}
    names = ("online", "demo") if cfg.method == "hil_serl" else ("online",)
    return Run(
        pupil=make_pupil(cfg, {**env.obs_sizes, "action": env.num_actions}),
        env=env,
        overseer=overseer,
        replays={name: Replay(cfg.rlpd.capacity, columns) for name in names},
        pending=Pending(env.num_envs, cfg.labels),
        tracker=EpisodeTracker(env.num_envs),
        rng=np.random.default_rng(cfg.seed),
        obs=env.reset(),
    )


def _save(run: Run, cfg: Config, folder: Path) -> None:
    env = run.env
    tree = pack(run.pupil, cfg) | {
        "replays": {name: replay.state_dict() for name, replay in run.replays.items()},
        "pending": run.pending.state_dict(), "overseer": run.overseer.snapshot(), "demos": run.demos,
        "started": run.started, "counts": dict(run.counts), "rng": run.rng.bit_generator.state,
        "tracker": run.tracker.snapshot(), "obs": run.obs,
        "env": env.snapshot() if isinstance(env, checkpoint.Restorable) else None,
    }  # fmt: skip
    checkpoint.save(checkpoint.numbered(folder, run.pupil.steps), tree)
    checkpoint.prune(folder, keep=2, every=0)


def _resume(run: Run, folder: Path) -> None:
    path = checkpoint.latest(folder)
    if path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    tree = checkpoint.load(path)
    run.pupil.agent.restore(tree["agent"])
    run.pupil.steps = tree["steps"]
    for name, replay in run.replays.items():
        stored = tree["replays"][name]
        replay.load_state_dict({**stored, "rows": stored["rows"].numpy()})
    run.demos, run.started, run.counts = tree["demos"], tree["started"], Counter(tree["counts"])
    run.rng.bit_generator.state = tree["rng"]
    run.overseer.restore(tree["overseer"])
    if tree["env"] is not None and isinstance(run.env, checkpoint.Restorable):
        run.env.restore(tree["env"])
        run.tracker.restore(tree["tracker"])
        run.pending.load_state_dict(tree["pending"])
        run.obs = tree["obs"]
    else:
        run.overseer.forget(torch.ones(run.env.num_envs, dtype=torch.bool))  # of episodes that are lost
