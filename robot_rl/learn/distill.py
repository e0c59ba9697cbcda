"""A student learns to act as a teacher that sees more: behaviour cloning on the student's own rollouts.

DAgger (Ross et al. 2011, arXiv:1011.0686) with the student alone at the wheel, as RSL-RL's ``Distillation``: the
student explores with a small constant noise, the teacher says what it would have done in every state, and gradients
are taken over ``gradient_length`` steps of all environments at a time, in the order of time.

Deviations from RSL-RL: the error is that of the squashed actions, which is what a robot gets; gradients of a piece are
means, not sums; the first rollout only feeds the normaliser.

Knows: two actors, the error between them.
Does not know: how the teacher was trained, worlds, files.

Shapes: T time · N environments · D observation · A actions.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss

from robot_rl.learn import checkpoint
from robot_rl.learn.nets import Actor
from robot_rl.learn.rollout import Rollout, require_finite

LOSSES = {"mse": mse_loss, "huber": huber_loss}
"""Errors between two actions, by name."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run; the defaults are RSL-RL's where it has them."""

    teacher: str
    """Recipe whose newest run teaches, where no run is named."""
    total_steps: int = 2_000_000
    """Environment steps, over all environments."""
    max_minutes: float = 0.0
    """Stop after this much training time [min], earlier sessions of a resumed run included; 0 is no limit."""
    num_steps: int = 30
    """T, steps of each environment per iteration."""
    gradient_length: int = 15
    """Steps of all environments behind one gradient."""
    epochs: int = 1
    """Passes over a rollout."""
    loss: str = "mse"
    """mse or huber."""
    learning_rate: float = 1e-3
    """Adam's."""
    max_grad_norm: float = 1.0
    """Of the student."""
    noise_std: float = 0.1
    """Deviation of the student's exploration, before the squash."""
    actor_hidden: tuple[int, ...] = (256, 128, 64)
    """Widths of the student's hidden layers."""
    activation: str = "elu"
    """One of nets.ACTIVATIONS."""
    seed: int = 0
    """Seed of initial weights, worlds and exploration."""
    threads: int = 0
    """Threads of torch; 0 leaves them as they are."""
    save_every: int = 50
    """Iterations between checkpoints."""
    keep_every: int = 500
    """Older checkpoints whose iteration divides by this are kept; 0 keeps only the newest two."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "num_steps", "gradient_length", "epochs", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"distill config: {name} is {getattr(self, name)}; it must be at least 1")
        if self.num_steps % self.gradient_length:
            raise ValueError(
                f"distill config: num_steps is {self.num_steps}; it must divide by gradient_length, "
                f"{self.gradient_length}"
            )
        if self.loss not in LOSSES:
            raise ValueError(f"distill config: no loss {self.loss!r}; the choices are {sorted(LOSSES)}")
        if not self.noise_std > 0.0:
            raise ValueError(f"distill config: noise_std is {self.noise_std}; it must be positive")


@dataclass(slots=True)
class Student:
    """What a run learns, and all it needs to go on exactly."""

    actor: Actor
    optimiser: torch.optim.Adam
    generator: torch.Generator
    iteration: int = 0
    steps: int = 0
    train_s: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    """Widths of the observation groups and ``action``."""


def make_student(cfg: Config, sizes: dict[str, int], device: torch.device | str = "cpu") -> Student:
    """Build a fresh student on the group ``policy``; its noise is constant."""
    seeder = torch.Generator().manual_seed(cfg.seed)
    actor = Actor(
        sizes["policy"], sizes["action"], hidden=cfg.actor_hidden, activation=cfg.activation,
        log_std=math.log(cfg.noise_std), generator=seeder,
    ).to(device)  # fmt: skip
    actor.log_std.requires_grad_(False)
    optimiser = torch.optim.Adam(actor.mlp.parameters(), lr=cfg.learning_rate, fused=True)
    return Student(actor, optimiser, torch.Generator(device).manual_seed(cfg.seed), sizes=dict(sizes))


def update(student: Student, rollout: Rollout, taught: Tensor, cfg: Config) -> dict[str, float]:
    """Pull the student towards ``taught``, (T, N, A), on its own rollout, and return the means of what was seen.

    Raises:
        FloatingPointError: The error or a gradient is not finite; the weights are those of the last good step.
    """
    obs = student.actor.norm(rollout.obs["policy"])  # (T, N, D)
    measure, errors, norms = LOSSES[cfg.loss], [], []
    for _ in range(cfg.epochs):
        for seen, wanted in zip(obs.split(cfg.gradient_length), taught.split(cfg.gradient_length), strict=True):
            mean, _ = student.actor.distribution(seen)
            loss = measure(torch.tanh(mean), wanted)
            student.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            error = loss.detach()
            norm = torch.nn.utils.clip_grad_norm_(student.actor.mlp.parameters(), cfg.max_grad_norm)
            require_finite({"behaviour_loss": error, "actor_grad": norm})
            student.optimiser.step()
            errors.append(error)
            norms.append(norm)
    return {"loss/behaviour": float(torch.stack(errors).mean()), "loss/actor_grad": float(torch.stack(norms).mean())}


def load_student(path: Path) -> tuple[Student, Config]:
    """Read the student of a checkpoint, for evaluation or export, with the config it was trained under.

    Raises:
        ValueError: The file is no whole checkpoint of a distillation.
    """
    tree = checkpoint.load(path)
    if tree.get("algorithm") != "distill":
        raise ValueError(f"{path} is a checkpoint of {tree.get('algorithm')!r}, not of 'distill'")
    return unpack(tree)


def pack(student: Student, cfg: Config) -> dict[str, Any]:
    """Return the student as a tree for ``checkpoint.save``."""
    return {
        "algorithm": "distill", "config": asdict(cfg), "sizes": student.sizes, "iteration": student.iteration,
        "steps": student.steps, "train_s": student.train_s, "actor": student.actor.state_dict(),
        "optimiser": student.optimiser.state_dict(), "generator": student.generator.get_state(),
    }  # fmt: skip


def unpack(
    tree: dict[str, Any], cfg: Config | None = None, device: torch.device | str = "cpu"
) -> tuple[Student, Config]:
    """Rebuild the student; ``cfg`` replaces the stored settings, where given."""
    cfg = cfg or Config(**checkpoint.settings(tree, Config))
    student = make_student(cfg, tree["sizes"], device)
    student.actor.load_state_dict(tree["actor"])
    student.optimiser.load_state_dict(tree["optimiser"])
    student.generator.set_state(tree["generator"])
    student.iteration, student.steps, student.train_s = tree["iteration"], tree["steps"], tree["train_s"]
    return student, cfg
