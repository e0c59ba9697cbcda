"""APRL: grow the limits of what a policy may do while its dynamics stay familiar; DroQ learns underneath.

Smith, Cao, Levine 2024, arXiv 2310.17634 ("Grow Your Limits: Continuous Improvement with Real-World RL for Robotic
Locomotion"), in the form of the released code. The defaults are those of its launch script.

One environment step pays for 20 critic steps, then one each of actor, temperature and dynamics model on the last
minibatch. The actor's loss is ``alpha log pi - mean_i Q_i + penalty(a)``: nothing is clipped, the box is soft.

Deviations: critics see normalised observations, biases and weights start uniform as in ``torch.nn.Linear``; the gate
sees normalised observations too, and is asked only after some updates (``aprl_dynamics``); log deviations lie in
[-5, 2], approached smoothly. The paper's target entropy -A is of actions in [-1, 1]; here, and for the critics, the
unit is the first box, [-c, c]: with the paper's numbers a go2, whose thighs turn further than a Go1's, is shaken off
its feet by its own noise and learns to throw itself forward (asked for 1.5 m/s, 5 updates per step, networks of 128,
seed 0: still 39 falls in 500 steps after 8000; in this unit one).

Without a box (``UNLIMITED``) this is DroQ over all that the action law allows, the paper's unrestricted and, with a law
of a narrow range, its restricted learner.

Knows: settings, what a run has learnt, how one block is learnt. Does not know: worlds (``aprl_loop``).

Shapes: U updates per block · B batch · D observation · A action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.contract.box import Box
from robot_rl.data.replay import Replay
from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.agent import Agent
from robot_rl.learn.aprl_box import Growth, Penalty, Ramp, range_penalty, reach, shrink
from robot_rl.learn.aprl_dynamics import Dynamics, Gate, fit, judge, make_dynamics, surprise
from robot_rl.learn.squashed import Actor

LEARNER = rlpd.Config(
    critics=2, subset=2, layer_norm=True, dropout=0.01, utd=20, batch=256, discount=0.99, tau=0.005, temperature=0.1,
    actor_reduce="mean", backup_entropy=True, grad_clip=200.0, actor_grad_clip=0.0, start_steps=1_000,
    save_every=10_000,
)  # fmt: skip
"""DroQ; ``target_entropy`` None is -A in units of the first box. The clip is the paper's 100 of a mean over two
critics; ours is a sum."""
UNLIMITED = Growth(low=1.0, high=1.0, steps=0)
"""No box: nothing lies beyond 1, and nothing shrinks."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run."""

    growth: Growth = field(default_factory=Growth)
    """How the box grows."""
    penalty: Penalty = field(default_factory=Penalty)
    """What lies beyond it costs."""
    gate: Gate = field(default_factory=Gate)
    """When it shrinks."""
    rlpd: rlpd.Config = LEARNER
    """How it learns; its ``seed``, ``total_steps`` and ``action_scale`` come from here."""
    dynamics_hidden: tuple[int, ...] = (256, 256)
    dynamics_lr: float = 3e-4
    wide_share: float = 0.15
    """Share of the random actions, before learning starts, that are drawn from a wider box."""
    wide_factor: float = 1.5
    """How much wider; never beyond 1."""
    hold_margin: float | None = None
    """A robot that runs the policy holds its actions within the box and this much more; None only tells it the box."""
    seed: int = 0
    """Of networks, minibatches and worlds."""
    total_steps: int = 40_000
    """Environment steps; the paper's robot walked 80 000, 67 minutes."""

    def __post_init__(self) -> None:
        r = self.rlpd
        if r.n_step != 1 or r.exploration != "gaussian" or r.segment != 1:
            raise ValueError(
                f"aprl: n_step is {r.n_step}, exploration {r.exploration!r}, segment {r.segment}; the dynamics model "
                "takes single steps and the box is that of fresh noise: only 1, 'gaussian' and 1 fit"
            )
        if not 0.0 <= self.wide_share <= 1.0 or self.wide_factor < 1.0:
            raise ValueError(
                f"aprl: wide_share is {self.wide_share}, wide_factor {self.wide_factor}; in [0, 1], and at least 1"
            )
        if self.hold_margin is not None and self.hold_margin < 0.0:
            raise ValueError(f"aprl: hold_margin is {self.hold_margin}; at least 0, or None")
        if self.total_steps < 1:
            raise ValueError(f"aprl: total_steps is {self.total_steps}; at least 1")


def learner(cfg: Config, num_actions: int) -> rlpd.Config:
    """Return the settings of DroQ for a run with A = ``num_actions``, noise and values in units of the first box."""
    goal, low = cfg.rlpd.target_entropy, cfg.growth.low
    return replace(
        cfg.rlpd, seed=cfg.seed, total_steps=cfg.total_steps, action_scale=1.0 / low,
        target_entropy=num_actions * (math.log(low) - 1.0) if goal is None else goal,
    )  # fmt: skip


@dataclass(slots=True)
class Grown:
    """What a run has learnt."""

    cfg: Config
    learning: rlpd.Config
    agent: Agent
    dynamics: Dynamics
    sizes: dict[str, int]
    """Widths of the observation groups and ``action``."""
    ramp: Ramp
    mean_error: float | None = None
    """Moving mean of the model's error at ends of episodes; None before the first one and after the box shrank."""
    error: float = float("nan")
    """The model's error when the last episode ended."""
    shrunk: int = 0
    """How often the box shrank."""
    steps: int = 0
    """Environment steps behind it."""

    @property
    def actor(self) -> Actor:
        """The policy."""
        return self.agent.actor

    @property
    def half_width(self) -> float:
        """The box in force."""
        return reach(self.cfg.growth, self.ramp, self.steps)

    @property
    def box(self) -> Box:
        """What a robot is told of it, for ``robot_rl.contract.box.with_box``."""
        return Box(self.half_width, self.cfg.hold_margin)


def make_grown(cfg: Config, sizes: Mapping[str, int]) -> Grown:
    """Build a fresh one; policy and model see the group ``policy``, the critics all groups."""
    learning = learner(cfg, sizes["action"])
    wide = sum(sizes.values()) - sizes["action"]
    agent = rlpd.make_agent(learning, obs_size=sizes["policy"], num_actions=sizes["action"], critic_obs_size=wide)
    dynamics = make_dynamics(
        sizes["policy"], sizes["action"], hidden=cfg.dynamics_hidden, lr=cfg.dynamics_lr, generator=agent.generator
    )
    return Grown(cfg, learning, agent, dynamics, dict(sizes), Ramp(cfg.growth.low, 0))


def random_action(grown: Grown) -> Tensor:
    """Draw an action before learning starts, (1, A): uniform in the box, now and then in a wider one."""
    cfg, generator = grown.cfg, grown.agent.generator
    wide = float(torch.rand((), generator=generator)) < cfg.wide_share
    most = min(1.0, grown.half_width * (cfg.wide_factor if wide else 1.0))
    return (torch.rand((1, grown.sizes["action"]), generator=generator) * 2.0 - 1.0) * most


def fix_statistics(grown: Grown, replay: Replay) -> None:
    """Normalise by what the random steps showed; once, before the first update."""
    seen = torch.from_numpy(replay.split(replay.rows[: len(replay)])["obs"])
    rlpd.fix_statistics(grown.agent, seen, fresh_actor=True)
    if grown.cfg.gate.normalise:
        width = grown.sizes["policy"]
        grown.dynamics.mean.copy_(grown.agent.obs_mean[:width])
        grown.dynamics.scale.copy_(grown.agent.obs_scale[:width])


def improve(grown: Grown, replay: Replay, rng: np.random.Generator) -> dict[str, float]:
    """Learn one block: U critic steps, one of actor and temperature in the box in force, one of the model."""
    cfg, learning, width = grown.cfg, grown.learning, grown.sizes["policy"]
    batch, half_width = rlpd.draw(replay, None, learning, rng), grown.half_width
    metrics = rlpd.update(grown.agent, batch, learning, term=lambda a: range_penalty(a, half_width, cfg.penalty))
    last = slice(-learning.batch, None)
    error = fit(grown.dynamics, batch.obs[last, :width], batch.action[last], batch.next_obs[last, :width])
    return metrics | {"penalty": metrics.pop("term", 0.0), "dynamics": error}


def end_episode(grown: Grown, replay: Replay) -> None:
    """Look at the newest transitions after an episode, and shrink the box where they surprise."""
    gate, width = grown.cfg.gate, grown.sizes["policy"]
    if replay.total < max(gate.window, grown.learning.start_steps + gate.warmup):
        return
    newest = np.arange(replay.total - min(gate.window, len(replay)), replay.total) % replay.capacity
    seen = replay.split(torch.from_numpy(replay.rows[newest]))
    grown.error = surprise(grown.dynamics, seen["obs"][:, :width], seen["action"], seen["next_obs"][:, :width])
    grown.mean_error, surprised = judge(gate, grown.mean_error, grown.error)
    if surprised:
        grown.ramp = shrink(grown.cfg.growth, grown.ramp, grown.steps)
        grown.shrunk += 1


# -- carried over a crash ----------------------------------------------------------------------------------------------


def pack(grown: Grown) -> dict[str, Any]:
    """Return what was learnt as a tree for ``checkpoint.save``."""
    return {
        "algorithm": "aprl", "config": asdict(grown.cfg), "sizes": grown.sizes, "steps": grown.steps,
        "agent": grown.agent.snapshot(), "dynamics": grown.dynamics.snapshot(), "ramp": list(grown.ramp),
        "mean_error": grown.mean_error, "error": grown.error, "shrunk": grown.shrunk,
    }  # fmt: skip


def unpack(tree: Mapping[str, Any], cfg: Config | None = None) -> tuple[Grown, Config]:
    """Rebuild it; ``cfg`` replaces the stored settings, where given."""
    cfg = cfg or _settings(tree)
    grown = make_grown(cfg, tree["sizes"])
    grown.agent.restore(tree["agent"])
    grown.dynamics.restore(tree["dynamics"])
    start, begun = tree["ramp"]
    grown.ramp, grown.steps = Ramp(float(start), int(begun)), int(tree["steps"])
    grown.mean_error, grown.error, grown.shrunk = tree["mean_error"], tree["error"], tree["shrunk"]
    return grown, cfg


def load_grown(path: Path) -> tuple[Grown, Config]:
    """Read what a checkpoint learnt.

    Raises:
        ValueError: The file is no whole checkpoint of this algorithm.
    """
    tree = checkpoint.load(path)
    if tree.get("algorithm") != "aprl":
        raise ValueError(f"{path} is a checkpoint of {tree.get('algorithm')!r}, not of 'aprl'")
    return unpack(tree)


def _settings(tree: Mapping[str, Any]) -> Config:
    stored = checkpoint.settings(tree, Config)
    for name, kind in (("growth", Growth), ("penalty", Penalty), ("gate", Gate), ("rlpd", rlpd.Config)):
        stored[name] = kind(**checkpoint.settings({"config": stored[name]}, kind))
    return Config(**stored)
