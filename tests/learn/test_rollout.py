"""What a rollout says of itself."""

from __future__ import annotations

import pytest
import torch

from robot_rl.learn.rollout import continuity_cost, start_rollout


def test_the_continuity_cost_of_training_stops_at_the_ends_of_episodes() -> None:
    """Two environments: limit to limit and back is 100 twice; the other stays, but for a jump where it was reset."""
    rollout = start_rollout({"policy": torch.zeros(2, 3)}, 3, 1)
    rollout.u[:, 0, 0] = torch.tensor([50.0, -50.0, 50.0])
    rollout.u[:, 1, 0] = torch.tensor([0.0, 0.0, 50.0])
    rollout.terminated[1, 1] = 1.0
    assert continuity_cost(rollout) == pytest.approx(100.0 * 2 / 3)
    rollout.terminated[1, 1], rollout.truncated[1, 1] = 0.9, True  # a soft termination ends nothing, the clock does
    assert continuity_cost(rollout) == pytest.approx(100.0 * 2 / 3)
    rollout.truncated[1, 1] = False
    assert continuity_cost(rollout) == pytest.approx(25.0 * (4 + 4 + 1) / 4)
