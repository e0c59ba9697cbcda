"""Adam without bookkeeping is Adam."""

from __future__ import annotations

import copy

import torch
from torch import nn

from robot_rl.learn.fused import adam_step


def learner() -> tuple[list[nn.Parameter], torch.optim.Adam]:
    g = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(size, generator=g)) for size in (300, 7)]
    return parameters, torch.optim.Adam(parameters, lr=1e-2, betas=(0.8, 0.95), eps=1e-7, fused=True)


def test_steps_and_state_are_bit_for_bit_those_of_torch() -> None:
    (ours, mine), (theirs, torchs) = learner(), learner()
    g = torch.Generator().manual_seed(1)
    for k in range(6):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=g)
            b.grad = a.grad.clone()
        if k == 4:  # a state that was carried over a crash
            again, mine = learner()
            for a, b in zip(again, ours, strict=True):
                a.data.copy_(b.data)
                a.grad = b.grad
            ours = again
            mine.load_state_dict(copy.deepcopy(torchs.state_dict()))
        adam_step(mine)
        torchs.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for name in ("exp_avg", "exp_avg_sq", "step"):
        assert torch.equal(mine.state[ours[0]][name], torchs.state[theirs[0]][name])
