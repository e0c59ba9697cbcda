"""The squashed actor's closed-form way back against autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from robot_rl.learn import fused, squashed_fused
from robot_rl.learn.squashed import Actor

LAWS: dict[str, dict[str, Any]] = {
    "gaussian": {"exploration": "gaussian"},
    "gaussian, tanh, clipped mean": {"exploration": "gaussian", "activation": "tanh", "mean_clip": 0.6},
    "gsde": {},
    "gsde, elu, clipped mean": {"activation": "elu", "mean_clip": 0.6},
    "gsde, one deviation per feature": {"sde_full_std": False},
    "gsde, expln": {"sde_expln": True},
    "gsde, features kept": {"sde_learn_features": False},
    "gsde, silu": {"activation": "silu"},
}
ROWS = 60


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(name: str) -> Actor:
    """Return an actor in float64 whose deviations differ, some above 1."""
    settings: dict[str, Any] = {"exploration": "gsde", "activation": "relu", "sde_log_std": 0.0} | LAWS[name]
    actor = Actor(
        4, 3, hidden=(12, 7), start_std=0.8, std_range=(0.01, 7.0), generator=torch.Generator().manual_seed(0),
        **settings,
    ).double()  # fmt: skip
    with torch.no_grad():
        for i, p in enumerate(actor.parameters()):
            p.add_(0.3 * randn(*p.shape, seed=i))
    return actor


@pytest.mark.parametrize("matrices", [1, 4])
@pytest.mark.parametrize("name", LAWS)
def test_samples_and_gradients_are_those_of_autograd(name: str, matrices: int) -> None:
    actor, obs = moved(name), randn(ROWS, 4, seed=10)
    structured = actor.exploration == "gsde"
    xi = randn(matrices, 7, 3, seed=11) if structured else randn(ROWS, 3, seed=11)
    d_action, d_mean, d_log_prob = randn(ROWS, 3, seed=12), randn(ROWS, 3, seed=13), 0.37
    action, log_prob, mean = actor.sample(obs, xi)
    ((action * d_action).sum() + d_log_prob * log_prob.sum() + (mean * d_mean).sum()).backward()
    wanted = {key: p.grad for key, p in actor.named_parameters()}
    assert all(g is not None and float(g.abs().max()) > 1e-3 for g in wanted.values())  # every parameter speaks
    if structured:
        assert bool((actor.sde_log_std > 0.0).any()) and bool((actor.sde_log_std < 0.0).any())
    fused.gather(actor)
    drawn = squashed_fused.sample(actor, obs, xi)
    torch.testing.assert_close((drawn.action, drawn.log_prob, drawn.mean), (action, log_prob, mean))
    assert not drawn.action.requires_grad
    for _ in range(2):  # the gradient is overwritten, not added to
        drawn = squashed_fused.sample(actor, obs, xi)
        drawn.back(d_action.clone(), d_log_prob, d_mean)
    got = {key: p.grad for key, p in actor.named_parameters()}
    torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-9)


def test_nothing_by_the_mean_is_a_gradient_of_zero() -> None:
    for name in ("gaussian", "gsde", "gsde, silu"):
        actor, obs = moved(name), randn(ROWS, 4, seed=10)
        flat = fused.gather(actor)
        xi = actor.noise(ROWS, matrices=1, generator=torch.Generator()).double()
        d, grads = randn(ROWS, 3, seed=12), []
        for d_mean in (None, torch.zeros(ROWS, 3, dtype=torch.float64)):
            squashed_fused.sample(actor, obs, xi).back(d.clone(), 0.1, d_mean)
            grads.append(flat.clone())
        torch.testing.assert_close(grads[0], grads[1])
        assert float(grads[0].abs().max()) > 0.0


def test_only_what_has_a_closed_form_takes_it() -> None:
    assert {name for name in LAWS if not squashed_fused.fits(moved(name))} == {"gsde, silu"}
