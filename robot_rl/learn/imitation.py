"""Cloning an expert: behaviour cloning, DAgger and HG-DAgger, the baselines of RLIF.

Ross et al. 2011, arXiv 1011.0686 (DAgger); Kelly et al. 2019, arXiv 1810.02890 (HG-DAgger). The schedule and its
numbers are those of the baselines in RLIF's released code (Luo et al. 2024, arXiv 2311.12996).

``bc`` clones what the expert did alone; ``dagger`` lets the policy drive and asks the expert in a share of the steps;
``hg_dagger`` lets an overseer take over and clones what it did.

Deviations from the released code: only steps that the expert labelled are cloned (``clone_robot_steps`` brings its way
back); the error is the mean squared one of the squashed action; observations are normalised by the demonstrations.

Knows: the error, settings, what a run has learnt. Does not know: worlds (``imitation_loop``).

Shapes: B batch · D observation · A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot_rl.data.replay import Replay
from robot_rl.learn import checkpoint, fused
from robot_rl.learn.nets import Actor
from robot_rl.learn.overseer import Strategy

METHODS = ("bc", "dagger", "hg_dagger")


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run."""

    teacher: str = ""
    """Recipe whose newest run is the expert, where none is named."""
    method: str = "hg_dagger"
    """One of ``METHODS``."""
    strategy: Strategy = field(default_factory=Strategy)
    """When the overseer takes over (hg_dagger), and how often the expert errs."""
    relabel: float = 0.5
    """dagger: share of the steps that the expert labels; the released code has 0.3, 0.5 and 0.875."""
    clone_robot_steps: bool = False
    """hg_dagger: clone what the policy did too."""
    demos: int = 10
    """Episodes that the expert drives alone, before the policy does."""
    rounds: int = 100
    """Times that the policy drives and learns from it; bc has none."""
    episodes: int = 5
    """That the policy drives in a round."""
    pretrain_updates: int = 100_000
    """Gradient steps on the demonstrations."""
    round_updates: int = 2_500
    """Gradient steps per round, on all that was labelled so far."""
    noise: float = 0.05
    """Deviation of the policy's exploration in the first round."""
    noise_decay: float = 0.1
    """Rate at which it falls, per round."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the policy's hidden layers."""
    activation: str = "relu"
    batch: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 1e-3
    seed: int = 0
    """Of networks, minibatches and worlds."""
    total_steps: int = 1_000_000
    """Environment steps, over all environments, at which a run ends before its last round."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"no method {self.method!r}; the choices are {METHODS}")
        for name in ("demos", "episodes", "batch", "total_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"imitation: {name} is {getattr(self, name)}; at least 1")
        if not 0.0 < self.relabel <= 1.0:
            raise ValueError(f"imitation: relabel is {self.relabel}; it must lie in (0, 1]")


@dataclass(slots=True)
class Clone:
    """What a run has learnt."""

    actor: Actor
    optimiser: torch.optim.AdamW
    generator: torch.Generator
    sizes: dict[str, int]
    """Widths of the group ``policy`` and of ``action``."""
    steps: int = 0
    """Environment steps behind it."""
    updates: int = 0
    round: int = 0


def make_clone(cfg: Config, sizes: Mapping[str, int]) -> Clone:
    """Build a fresh one."""
    generator = torch.Generator().manual_seed(cfg.seed)
    actor = Actor(
        sizes["policy"], sizes["action"], hidden=cfg.hidden, activation=cfg.activation, generator=generator
    )  # fmt: skip
    actor.log_std.requires_grad_(False)
    optimiser = torch.optim.AdamW(
        actor.mlp.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay, fused=True
    )  # fmt: skip
    return Clone(actor, optimiser, generator, dict(sizes))


def clone_columns(obs_size: int, num_actions: int) -> dict[str, int]:
    """Return the columns of a set to clone: ``obs`` and ``action``."""
    return {"obs": obs_size, "action": num_actions}


def fit(clone: Clone, data: Replay, updates: int, cfg: Config, rng: np.random.Generator) -> float:
    """Take gradient steps on minibatches of ``data`` and return the mean error; the first fit fixes the normaliser.

    Args:
        clone: Who learns.
        data: With the columns of ``clone_columns``.
        updates: Gradient steps.
        cfg: Settings.
        rng: Draws the minibatches.

    Raises:
        FloatingPointError: The error is not finite.
    """
    if clone.updates == 0:
        clone.actor.norm.update(torch.from_numpy(data.split(data.rows[: len(data)])["obs"].copy()))
    closed = clone.actor.mlp.activation in fused.SLOPES
    fused.gather(clone.actor.mlp)
    total = torch.zeros(())
    for _ in range(updates):
        batch = data.sample(cfg.batch, rng)
        obs, wanted = torch.from_numpy(batch["obs"]), torch.from_numpy(batch["action"])
        total += (step if closed else reference_step)(clone, obs, wanted)
    clone.updates += updates
    if not bool(total.isfinite()):
        raise FloatingPointError(f"the cloning error is {float(total)} after {clone.updates} updates")
    return float(total) / max(updates, 1)


@torch.no_grad()
def step(clone: Clone, obs: Tensor, wanted: Tensor) -> Tensor:
    """Take one gradient step towards actions ``wanted`` (B, A) at ``obs`` (B, D) and return the error before it.

    Closed form: the numbers of ``reference_step`` up to rounding, in two thirds of the time. See ``fused.gather``.
    """
    mlp = clone.actor.mlp
    tape = fused.run(mlp, clone.actor.norm(obs))
    action = tape[-1].tanh()
    gap = action - wanted
    fused.backward(mlp, tape, torch.ops.aten.tanh_backward(gap * (2.0 / gap.numel()), action))
    fused.adam_step(clone.optimiser)
    return gap.square_().mean()


def reference_step(clone: Clone, obs: Tensor, wanted: Tensor) -> Tensor:
    """Take the step of ``step`` by autograd: for activations without a closed form."""
    error = (clone.actor(obs) - wanted).square().mean()
    clone.optimiser.zero_grad(set_to_none=True)
    error.backward()
    clone.optimiser.step()
    return error.detach()


def pack(clone: Clone, cfg: Config) -> dict[str, Any]:
    """Return the clone as a tree for ``checkpoint.save``."""
    return {
        "algorithm": "imitation", "config": asdict(cfg), "sizes": clone.sizes, "steps": clone.steps,
        "updates": clone.updates, "round": clone.round, "actor": clone.actor.state_dict(),
        "optimiser": clone.optimiser.state_dict(), "generator": clone.generator.get_state(),
    }  # fmt: skip


def unpack(tree: Mapping[str, Any], cfg: Config | None = None) -> tuple[Clone, Config]:
    """Rebuild the clone; ``cfg`` replaces the stored settings, where given."""
    if cfg is None:
        stored = checkpoint.settings(tree, Config)
        stored["strategy"] = Strategy(**checkpoint.settings({"config": stored["strategy"]}, Strategy))
        cfg = Config(**stored)
    clone = make_clone(cfg, tree["sizes"])
    clone.actor.load_state_dict(tree["actor"])
    clone.optimiser.load_state_dict(tree["optimiser"])
    clone.generator.set_state(tree["generator"])
    clone.steps, clone.updates, clone.round = tree["steps"], tree["updates"], tree["round"]
    return clone, cfg
