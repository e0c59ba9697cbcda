"""A small model of what comes next, and the gate that says when the world surprises it.

Smith, Cao, Levine 2024, arXiv 2310.17634, released code: ``s' = s + mlp(s, a)``, one step of Adam per environment step
on the newest minibatch; at the end of every episode its mean squared error on the newest transitions enters a moving
mean, and beyond a threshold the box of actions shrinks and the mean begins anew.

Deviation: observations are normalised by the critics' fixed statistics, so that an error of 1 is that of a model off by
one deviation, as seen in the random steps, in every quantity. ``normalise=False`` is the released form, whose error is
in squared raw units and whose threshold holds for one robot.

Knows: the model, its gradient in closed form, the rule. Does not know: replays, the box.

Shapes: B batch · D observation of the actor · A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.learn import fused
from robot_rl.learn.nets import Mlp


@dataclass(frozen=True, slots=True)
class Gate:
    """When the world counts as surprising."""

    threshold: float = 1.5
    """Of the moving mean of the error; infinite never shrinks the box."""
    keep: float = 0.5
    """Share of the moving mean that stays when an episode ends."""
    window: int = 256
    """Newest transitions that are looked at; with fewer nothing is said."""
    normalise: bool = True
    """Whether errors are in deviations of each quantity."""
    warmup: int = 500
    """Updates of the model before it is asked: one that knows nothing is surprised by everything."""

    def __post_init__(self) -> None:
        if not self.threshold > 0.0 or not 0.0 <= self.keep < 1.0 or min(self.window, self.warmup) < 1:
            raise ValueError(f"gate: {self}; threshold must be positive, keep in [0, 1), window and warmup at least 1")


def judge(gate: Gate, mean: float | None, error: float) -> tuple[float | None, bool]:
    """Return the moving mean after an episode with ``error``, and whether it is too much; then it begins anew."""
    now = error if mean is None else gate.keep * mean + (1.0 - gate.keep) * error
    return (None, True) if now > gate.threshold else (now, False)


@dataclass(slots=True)
class Dynamics:
    """The model and its optimiser."""

    mlp: Mlp
    adam: torch.optim.Adam
    mean: Tensor
    """Of observations, (D,)."""
    scale: Tensor
    """1 over their deviation, (D,)."""

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree of tensors and numbers."""
        return {
            "mlp": dict(self.mlp.state_dict()), "adam": self.adam.state_dict(), "mean": self.mean, "scale": self.scale
        }  # fmt: skip

    @torch.no_grad()
    def restore(self, tree: dict[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self.mlp.load_state_dict(tree["mlp"])
        self.adam.load_state_dict(tree["adam"])
        self.mean.copy_(tree["mean"])
        self.scale.copy_(tree["scale"])


def make_dynamics(
    obs_size: int, num_actions: int, *, hidden: tuple[int, ...], lr: float, generator: torch.Generator
) -> Dynamics:
    """Build a fresh model: orthogonal hidden layers, Xavier in the last one."""
    mlp = Mlp((obs_size + num_actions, *hidden, obs_size), activation="relu", generator=generator)
    last = mlp.linears()[-1].weight
    bound = math.sqrt(6.0 / sum(last.shape))
    with torch.no_grad():
        last.uniform_(-bound, bound, generator=generator)
    fused.gather(mlp)
    adam = torch.optim.Adam(mlp.parameters(), lr=lr, fused=True)
    return Dynamics(mlp, adam, torch.zeros(obs_size), torch.ones(obs_size))


@torch.no_grad()
def fit(model: Dynamics, obs: Tensor, action: Tensor, next_obs: Tensor) -> float:
    """Take one step of Adam on the mean squared error of a minibatch, (B, D), (B, A), (B, D); return that error."""
    x, change = _normalised(model, obs, action, next_obs)
    tape = fused.run(model.mlp, x)
    off = tape[-1] - change
    fused.backward(model.mlp, tape, off * (2.0 / off.numel()))
    fused.adam_step(model.adam)
    return float(off.square().mean())


@torch.no_grad()
def surprise(model: Dynamics, obs: Tensor, action: Tensor, next_obs: Tensor) -> float:
    """Return the mean squared error over transitions (B, D), (B, A), (B, D)."""
    x, change = _normalised(model, obs, action, next_obs)
    return float(nn.functional.mse_loss(fused.run(model.mlp, x)[-1], change))


def _normalised(model: Dynamics, obs: Tensor, action: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat(((obs - model.mean) * model.scale, action), -1), (next_obs - obs) * model.scale
