"""Scaled rewards against a running deviation written plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from robot_rl.learn.env import Step
from robot_rl.learn.reward_scale import ScaledRewards


class Paying:
    """Two environments that pay from a list; environment 0 falls at step 3, environment 1 is cut at step 5."""

    num_envs, obs_sizes, num_actions = 2, {"policy": 1}, 1

    def __init__(self, rewards: np.ndarray) -> None:
        self.rewards, self.k = rewards, 0

    def reset(self) -> dict[str, Tensor]:
        return {"policy": torch.zeros(2, 1)}

    def step(self, action: Tensor) -> Step:
        row, self.k = self.rewards[self.k], self.k + 1
        fell, cut = torch.tensor([float(self.k == 3), 0.0]), torch.tensor([False, self.k == 5])
        return Step(self.reset(), torch.tensor(row, dtype=torch.float32), fell, cut, self.reset(), {"a": 1.0})

    def close(self) -> None:
        pass


def test_the_unit_is_the_deviation_of_all_discounted_returns_so_far() -> None:
    rewards = np.random.default_rng(0).normal(3.0, 5.0, (8, 2))
    env = ScaledRewards(Paying(rewards), discount=0.9)
    env.reset()
    seen, running = [], np.zeros(2)
    for k, row in enumerate(rewards):
        running = 0.9 * running + row
        seen.extend(running)
        step = env.step(torch.zeros(2, 1))
        np.testing.assert_allclose(step.reward.numpy(), row / (np.std(seen) + 1e-4), rtol=1e-4)
        assert step.log == {"a": 1.0}
        running[0] *= k != 2
        running[1] *= k != 4


def test_scale_does_not_matter_and_rare_prizes_are_clipped() -> None:
    rewards = np.random.default_rng(1).normal(0.0, 1.0, (200, 2))
    rewards[-1] = 1e4
    paid = []
    for factor in (1.0, 1000.0):
        env = ScaledRewards(Paying(rewards * factor), discount=0.99, clip=2.0)
        env.reset()
        paid.append([env.step(torch.zeros(2, 1)).reward.tolist() for _ in rewards])
    np.testing.assert_allclose(paid[0][50:], paid[1][50:], rtol=1e-2)
    assert max(map(max, paid[0])) == pytest.approx(2.0)
