"""What learns in the RLPD family: an actor, an ensemble of critics with their targets, a temperature, optimisers.

Knows: how all of it is carried over a crash. Does not know: losses, how it is built (``rlpd``).

Shapes: P parameters of the ensemble · D observation of the critic · N environments · F features · A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.learn.captured import Captured
from robot_rl.learn.ensemble import Shape
from robot_rl.learn.squashed import Actor


@dataclass(slots=True)
class Agent:
    """All that learning changes. ``snapshot`` and ``restore`` carry it over a crash exactly."""

    actor: Actor
    start: Actor
    """The actor before learning; the anchor."""
    shape: Shape
    critics: nn.Parameter
    """(P,)"""
    targets: Tensor
    """(P,)"""
    log_temperature: nn.Parameter
    obs_mean: Tensor
    obs_scale: Tensor
    """1 over the deviation, (D,)."""
    action_scale: Tensor
    """What the critics multiply actions by, ()."""
    actor_adam: torch.optim.Adam
    critic_adam: torch.optim.Adam
    temperature_adam: torch.optim.Adam
    generator: torch.Generator
    critic_updates: int = 0
    actor_updates: int = 0
    noise: Tensor | None = None
    """gSDE: what the environments explore with until the next draw, standard normal, (N, F, A)."""
    captured: tuple[Any, Captured] | None = None
    """On a GPU: the critic steps as a graph, and the settings that it is of."""

    @property
    def device(self) -> torch.device:
        """Where it learns; ``generator`` is on the CPU everywhere."""
        return self.critics.device

    @torch.no_grad()
    def to(self, device: torch.device | str) -> Agent:
        """Move a fresh agent, whose optimisers have taken no step yet, and return it."""
        self.actor.to(device)
        self.start.to(device)
        for parameter in (self.critics, self.log_temperature):
            grad, parameter.grad = parameter.grad, None
            parameter.data = parameter.data.to(device)
            parameter.grad = None if grad is None else grad.to(device)
        for name in ("targets", "obs_mean", "obs_scale", "action_scale"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree of tensors and numbers."""
        return {
            "actor": dict(self.actor.state_dict()),
            "start": dict(self.start.state_dict()),
            "tensors": {name: getattr(self, name).detach() for name in _TENSORS},
            "adam": {name: getattr(self, f"{name}_adam").state_dict() for name in _ADAMS},
            "generator": self.generator.get_state(),
            "critic_updates": self.critic_updates,
            "actor_updates": self.actor_updates,
            "noise": self.noise,
        }

    @torch.no_grad()
    def restore(self, tree: dict[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self.actor.load_state_dict(tree["actor"])
        self.start.load_state_dict(tree["start"])
        stored = {"action_scale": torch.ones(()), **tree["tensors"]}  # absent in checkpoints of before it could differ
        for name in _TENSORS:
            getattr(self, name).copy_(stored[name])
        for name in _ADAMS:
            getattr(self, f"{name}_adam").load_state_dict(tree["adam"][name])
        self.generator.set_state(tree["generator"])
        self.critic_updates, self.actor_updates = tree["critic_updates"], tree["actor_updates"]
        noise = tree.get("noise")  # absent in checkpoints of before gSDE
        self.noise, self.captured = None if noise is None else noise.to(self.device), None  # Adam's memory is new


_TENSORS = ("critics", "targets", "log_temperature", "obs_mean", "obs_scale", "action_scale")
_ADAMS = ("actor", "critic", "temperature")
