"""Targets against arithmetic that a person can follow."""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl.learn.targets import gae, n_step, td_target


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(-1)


def estimate(terminated: Tensor, truncated: Tensor) -> list[float]:
    # rewards 1, 2, 3; values 10, 20, 30 of the states; 20, 30, 40 of the successors; discount 0.5, trace 0.5
    advantage = gae(
        column(1.0, 2.0, 3.0),
        column(10.0, 20.0, 30.0),
        column(20.0, 30.0, 40.0),
        terminated,
        truncated.bool(),
        discount=0.5,
        trace=0.5,
    )
    return advantage.squeeze(-1).tolist()


def test_gae_of_an_unbroken_stretch() -> None:
    # deltas: 1 + 10 - 10 = 1, 2 + 15 - 20 = -3, 3 + 20 - 30 = -7
    # A2 = -7, A1 = -3 - 7/4 = -4.75, A0 = 1 - 4.75/4 = -0.1875
    assert estimate(column(0, 0, 0), column(0, 0, 0)) == [-0.1875, -4.75, -7.0]


def test_termination_cuts_bootstrap_and_trace() -> None:
    # delta1 = 2 - 20 = -18, nothing flows from step 2; A0 = 1 - 18/4
    assert estimate(column(0, 1, 0), column(0, 0, 0)) == [-3.5, -18.0, -7.0]


def test_truncation_keeps_the_bootstrap_but_cuts_the_trace() -> None:
    # delta1 = 2 + 15 - 20 = -3 from the true successor; A0 = 1 - 3/4
    assert estimate(column(0, 0, 0), column(0, 1, 0)) == [0.25, -3.0, -7.0]


def test_a_fraction_of_termination_scales_bootstrap_and_trace() -> None:
    # delta1 = 2 + 0.5 * 15 - 20 = -10.5, decay1 = 1/8: A1 = -10.5 - 7/8 = -11.375, A0 = 1 - 11.375/4
    assert estimate(column(0, 0.5, 0), column(0, 0, 0)) == [1.0 - 11.375 / 4.0, -11.375, -7.0]


def test_gae_keeps_environments_apart() -> None:
    reward = torch.tensor([[1.0, 5.0], [2.0, 6.0]])
    zeros = torch.zeros(2, 2)
    both = gae(reward, zeros, zeros, zeros, zeros.bool(), discount=0.5, trace=1.0)
    assert both.tolist() == [[2.0, 8.0], [2.0, 6.0]]


def test_td_target_ignores_the_clock_and_scales_with_survival() -> None:
    target = td_target(
        torch.tensor([1.0, 1.0, 1.0]), torch.full((3,), 10.0), torch.tensor([0.0, 1.0, 0.25]), discount=0.5
    )
    assert target.tolist() == [6.0, 1.0, 1.0 + 0.5 * 0.75 * 10.0]


def test_n_step_stops_where_the_episode_stops() -> None:
    # columns: unbroken, terminated at step 1, truncated at step 0, half terminated at step 0
    reward = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0]])
    terminated = torch.tensor([[0.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    truncated = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]).bool()
    ret, weight, used = n_step(reward, terminated, truncated, discount=0.5)
    assert ret.tolist() == [1.0 + 1.0 + 1.0, 2.0, 1.0, 1.0 + 0.5 + 0.5]
    assert weight.tolist() == [0.125, 0.0, 0.5, 0.0625]
    assert used.tolist() == [3, 2, 1, 3]
