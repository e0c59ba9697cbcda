"""Exploration inside the policy file: a deterministic network whose action trembles like noise.

A robot runs a policy as it is, so a learner that needs exploration must ship it. Sines of the observation, quick
enough to turn by about a radian from tick to tick, look like noise to a critic that cannot follow them, yet the file
stays a pure function: golden vectors hold, the shield sees every action, and no runtime needs a random source.
(Deterministic and state dependent as in gSDE, Raffin et al. 2021, arXiv 2005.05719, but fast and fresh per file.)

Knows: sines, an actor's deviation. Does not know: files, learning.

Shapes: n observations · D observation · A action · F sines per action.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robot_rl.learn.squashed import Actor

SINES = 4
"""Per action; the sum of four is close to a Gaussian."""
REACH = 5.0
"""Observations beyond this many deviations turn the sines no further, so that float32 stays exact enough."""


class Dithered(nn.Module):
    """``tanh(mlp(obs) + scale * std(obs) * dither(obs))``."""

    def __init__(
        self, actor: Actor, obs: Tensor, next_obs: Tensor, *, scale: float, turn: float, generator: torch.Generator
    ) -> None:
        """Draw the sines.

        Args:
            actor: The policy.
            obs: Recorded observations, (n, D).
            next_obs: Those one tick later, (n, D).
            scale: Factor on the actor's deviation.
            turn: Root mean square change of a sine's phase from one tick to the next [rad].
            generator: Source of directions and phases.
        """
        super().__init__()
        self.actor, self.scale = actor, scale
        std, mean = torch.std_mean(obs, 0)
        std = std + 1e-2
        pace = ((next_obs - obs) / std).square().mean(0).sqrt().clamp(min=0.1)  # (D,)
        count = SINES * actor.num_actions
        directions = torch.randn(obs.shape[1], count, generator=generator) / math.sqrt(obs.shape[1])
        self.mean, self.over_std = mean, 1.0 / std
        self.weight = directions * (turn / pace)[:, None]  # (D, A*F)
        self.phase = torch.rand(count, generator=generator) * (2.0 * math.pi)
        self.mix = torch.eye(actor.num_actions).repeat_interleave(SINES, 0) * math.sqrt(2.0 / SINES)  # (A*F, A)

    def dither(self, obs: Tensor) -> Tensor:
        """Return numbers of mean zero and deviation one over recorded observations, (..., A)."""
        z = ((obs - self.mean) * self.over_std).clamp(-REACH, REACH)
        return torch.sin(z @ self.weight + self.phase) @ self.mix

    def forward(self, obs: Tensor) -> Tensor:
        """Return actions, (..., A)."""
        mean, std = self.actor.law(obs)
        return torch.tanh(mean + self.scale * std * self.dither(obs))
