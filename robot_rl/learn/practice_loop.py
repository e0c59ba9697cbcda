"""Practice in one world: whoever has the turn acts, remembers and learns; a person resets where nobody else can.

Knows: one robot's world that never resets by itself, one replay for each policy, when updates are due.
Does not know: losses, whose turn it is and why (``practice``).

Shapes: A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.env import joined
from robot_rl.learn.interrupt import held_interrupt
from robot_rl.learn.metrics import RunLog
from robot_rl.learn.practice import Config, Practised, learner, make_practised, pack, unpack


class Turn(NamedTuple):
    """The outcome of one control step, whoever had the turn."""

    obs: dict[str, Tensor]
    """What the step led to, each (1, D_group); nothing is reset."""
    reward: float
    """Of the phase that had the turn."""
    reached: bool
    """Whether its goal is reached."""
    stuck: bool
    """Whether the robot cannot go on without a person."""


class PracticeWorld(Protocol):
    """One robot in a world that never resets by itself."""

    obs_sizes: dict[str, int]
    num_actions: int
    phases: int
    """P, goals in a round."""

    def reset(self) -> None:
        """Put robot and world back, as a person would."""
        ...

    def observe(self, phase: int) -> dict[str, Tensor]:
        """Return what the policy of a phase sees now, each (1, D_group)."""
        ...

    def step(self, action: Tensor, phase: int) -> Turn:
        """Apply a raw action (1, A) for one control period, judged by the goal of ``phase``."""
        ...


@dataclass(slots=True)
class Run:
    """A world and its policies on their way."""

    practised: Practised
    world: PracticeWorld
    replays: list[Replay]
    rngs: list[np.random.Generator]
    started: list[bool]
    """Whether a policy's normaliser is fixed; learning may go on."""
    obs: dict[str, Tensor]


def train(cfg: Config, world: PracticeWorld, out: Path, *, resume: bool = False, progress: bool = True) -> Practised:
    """Take turns until ``total_steps`` and return what was learnt.

    Writes ``out/checkpoints/*.npz`` and ``out/metrics.jsonl``.

    Args:
        cfg: Settings.
        world: With as many phases as ``cfg.policies`` has.
        out: Folder of the run.
        resume: Go on from the newest checkpoint; exact where ``world`` is ``checkpoint.Restorable``. Elsewhere a person
            resets first.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The phases differ, ``resume`` without a checkpoint or with other settings, or a fresh run in a
            folder that has one.
    """
    if world.phases != len(cfg.policies):
        raise ValueError(f"practice: the world has {world.phases} phases; policies {cfg.policies} are for others")
    folder, metrics = out / "checkpoints", dict[str, float]()
    run = _begin(cfg, world, folder, resume=resume)
    turns, every = run.practised.turns, cfg.rlpd.log_every
    first = turns.steps // every
    with RunLog(out, cfg.total_steps, first_iteration=first, progress=progress) as log, held_interrupt() as stop:
        while turns.steps < cfg.total_steps:
            policy = cfg.policies[turns.phase]
            advance(run, cfg)
            for _ in range(_due(run, cfg, policy)):
                settings, replay = learner(cfg, policy), run.replays[policy]
                batch = rlpd.draw(replay, None, settings, run.rngs[policy])
                found = rlpd.update(run.practised.agents[policy], batch, settings)
                metrics |= {f"loss/{name}_{policy}": value for name, value in found.items()}
            if turns.steps % every == 0:
                log.write(turns.steps // every, turns.steps, metrics | turns.watched())
            if turns.steps % cfg.rlpd.save_every == 0 or turns.steps >= cfg.total_steps or stop.asked:
                _save(run, cfg, folder)
                stop.leave()
    return run.practised


def advance(run: Run, cfg: Config) -> None:
    """Take one step, remember it, and let the next in turn, or a person, come."""
    turns = run.practised.turns
    phase, policy = turns.phase, cfg.policies[turns.phase]
    action = _act(run, cfg, policy)
    turn = run.world.step(action, phase)
    terminal = np.float32(turn.reached or turn.stuck)
    run.replays[policy].extend({
        "obs": joined(run.obs), "action": action, "reward": np.array([turn.reward], np.float32),
        "next_obs": joined(turn.obs), "terminated": np.array([terminal]),
    })  # fmt: skip
    over, hard = turns.count(cfg, reached=turn.reached, stuck=turn.stuck)
    if hard:
        run.world.reset()
    run.obs = run.world.observe(turns.phase) if over else turn.obs


@torch.no_grad()
def _act(run: Run, cfg: Config, policy: int) -> Tensor:
    agent = run.practised.agents[policy]
    if run.replays[policy].total < cfg.rlpd.start_steps:
        return torch.rand((1, run.world.num_actions), generator=agent.generator) * 2.0 - 1.0
    return agent.actor.sample(run.obs["policy"], agent.actor.noise(1, matrices=1, generator=agent.generator))[0]


def _due(run: Run, cfg: Config, policy: int) -> int:
    """Return the blocks that the newest step of a policy pays for; fixes its normaliser before the first."""
    replay = run.replays[policy]
    if replay.total < cfg.rlpd.start_steps:
        return 0
    if not run.started[policy]:
        seen = torch.from_numpy(replay.split(replay.rows[: len(replay)])["obs"])
        rlpd.fix_statistics(run.practised.agents[policy], seen, fresh_actor=True)
        run.started[policy] = True
    ratio = cfg.rlpd.blocks_per_step
    return int(replay.total * ratio) - int((replay.total - 1) * ratio)


def _begin(cfg: Config, world: PracticeWorld, folder: Path, *, resume: bool) -> Run:
    path = checkpoint.latest(folder)
    if resume and path is None:
        raise ValueError(f"nothing to resume: no checkpoint in {folder}")
    if not resume and path is not None:
        raise ValueError(f"{folder} already holds checkpoints; resume the run or choose another folder")
    sizes = {**world.obs_sizes, "action": world.num_actions}
    practised = make_practised(cfg, sizes)
    columns = transition_columns(sum(world.obs_sizes.values()), world.num_actions)
    count = len(practised.agents)
    world.reset()
    run = Run(
        practised, world, [Replay(cfg.rlpd.capacity, columns) for _ in range(count)],
        [np.random.default_rng(learner(cfg, i).seed) for i in range(count)], [False] * count, world.observe(0),
    )  # fmt: skip
    if resume and path is not None:
        _resume(run, cfg, path)
    return run


def _save(run: Run, cfg: Config, folder: Path) -> None:
    world = run.world
    tree = pack(run.practised, cfg) | {
        "replays": [replay.state_dict() for replay in run.replays], "started": run.started, "obs": run.obs,
        "rngs": [rng.bit_generator.state for rng in run.rngs],
        "world": world.snapshot() if isinstance(world, checkpoint.Restorable) else None,
    }  # fmt: skip
    checkpoint.save(checkpoint.numbered(folder, run.practised.steps), tree)
    checkpoint.prune(folder, keep=2, every=0)


def _resume(run: Run, cfg: Config, path: Path) -> None:
    tree = checkpoint.load(path)
    checkpoint.check_settings(tree, cfg, path, free=("total_steps",))
    run.practised, _ = unpack(tree, cfg)
    for replay, stored in zip(run.replays, tree["replays"], strict=True):
        replay.load_state_dict({**stored, "rows": stored["rows"].numpy()})
    for rng, state in zip(run.rngs, tree["rngs"], strict=True):
        rng.bit_generator.state = state
    run.started = list(tree["started"])
    if tree["world"] is not None and isinstance(run.world, checkpoint.Restorable):
        run.world.restore(tree["world"])
        run.obs = tree["obs"]
        return
    turns = run.practised.turns  # the world was put back, which is where the first phase begins
    turns.phase, turns.age, turns.hard_resets = 0, 0, turns.hard_resets + 1
    run.obs = run.world.observe(0)
