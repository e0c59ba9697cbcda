"""A yard in the plane that nobody resets: there is the goal, here the start, and a ditch that holds who falls in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.learn.practice_loop import Turn

STRIDE = 0.15
THERE, HERE = torch.tensor([[0.6, 0.6]]), torch.tensor([[-0.6, -0.6]])
RADIUS = 0.25
DITCH = -0.9
"""Whoever goes below it along y is stuck."""


class Yard:
    """Positions in [-1, 1]^2; phase 0 leads there, phase 1 back here; nearer pays more, arriving 1."""

    obs_sizes, num_actions, phases = {"policy": 2}, 2, 2

    def __init__(self, *, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.pos = HERE
        self.resets = 0

    def reset(self) -> None:
        """Back to near the start."""
        self.pos = HERE + 0.1 * torch.randn((1, 2), generator=self._generator).clamp(-1.0, 1.0)
        self.resets += 1

    def observe(self, phase: int) -> dict[str, Tensor]:
        return {"policy": self.pos}

    def step(self, action: Tensor, phase: int) -> Turn:
        goal = (THERE, HERE)[phase]
        before = float((self.pos - goal).norm())
        self.pos = (self.pos + STRIDE * action).clamp(-1.0, 1.0)
        far = float((self.pos - goal).norm())
        reached, stuck = far < RADIUS, bool(self.pos[0, 1] < DITCH)
        return Turn(self.observe(phase), before - far + float(reached) - float(stuck), reached, stuck)

    def snapshot(self) -> dict[str, Any]:
        return {"pos": self.pos, "resets": self.resets, "generator": self._generator.get_state()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.pos, self.resets = snapshot["pos"].clone(), snapshot["resets"]
        self._generator.set_state(snapshot["generator"])


def arrives(act: Any, *, tries: int = 20, steps: int = 25, phase: int = 0) -> float:
    """Return the share of tries in which ``act`` comes from here to there, or in phase 1 back."""
    yard, arrived = Yard(seed=99), 0
    for _ in range(tries):
        yard.reset()
        if phase:
            yard.pos = yard.pos - HERE + THERE
        for _ in range(steps):
            with torch.no_grad():
                turn = yard.step(act(yard.observe(phase)["policy"]), phase)
            if turn.reached or turn.stuck:
                arrived += int(turn.reached)
                break
    return arrived / tries
