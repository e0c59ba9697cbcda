"""State-dependent exploration against its closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from robot_rl.learn import gsde
from robot_rl.learn.nets import Actor


def test_the_variance_of_the_noise_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.tensor([0.5, -1.0, 2.0])
    log_std = torch.tensor([[-1.0, 0.0], [0.3, -2.0], [-0.5, -0.7]])
    matrices = gsde.draw(log_std, 200_000, 2, generator=generator)
    seen = gsde.noise(z.expand(200_000, 3), matrices).var(0)
    expected = z.square() @ log_std.exp().square()
    assert torch.allclose(seen, expected, rtol=0.01)
    assert torch.allclose(gsde.marginal_std(z, log_std, 2).square(), expected + 1e-6)


def test_the_gradient_of_the_log_prob_is_equation_6() -> None:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    u = torch.randn(10, 2, 4, generator=generator, dtype=torch.float64)
    mean = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    log_std = torch.randn(3, 4, generator=generator, dtype=torch.float64).mul(0.3).requires_grad_()
    std = gsde.marginal_std(z, log_std, 4)
    gsde.log_prob(u, mean, std).sum().backward()
    s, sigma = std.detach(), log_std.detach().exp()
    by_std = ((u - mean).square() - s.square()) / s**3  # (10, 2, 4)
    by_sigma = torch.einsum("kbj,bi,ij,bj->ij", by_std, z.square(), sigma, 1.0 / s)
    assert log_std.grad is not None
    assert torch.allclose(log_std.grad, by_sigma * sigma, rtol=1e-6)  # d sigma / d log_std = sigma


def test_the_squashed_density_integrates_to_one() -> None:
    a = torch.linspace(-1.0, 1.0, 400_001, dtype=torch.float64)[1:-1]
    u = torch.atanh(a).unsqueeze(-1)
    density = gsde.squashed_log_prob(u, torch.tensor([0.4], dtype=torch.float64), torch.tensor([0.6])).exp()
    assert float(torch.trapezoid(density, a)) == pytest.approx(1.0, abs=1e-3)


def test_unsquash_inverts_tanh_and_stays_finite_at_the_bounds() -> None:
    u = torch.linspace(-4.0, 4.0, 101)
    assert torch.allclose(gsde.unsquash(torch.tanh(u)), u, atol=2e-3)
    assert gsde.unsquash(torch.tensor([-1.0, 1.0])).isfinite().all()


def test_expln_joins_smoothly_and_grows_slowly() -> None:
    x = torch.tensor([-1e-4, 0.0, 1e-4], dtype=torch.float64)
    y = gsde.positive_std(x, expln=True)
    assert y[1] == 1.0
    assert float((y[2] - y[0]) / 2e-4) == pytest.approx(1.0, abs=1e-3)
    assert float(gsde.positive_std(torch.tensor(10.0), expln=True)) == pytest.approx(1.0 + math.log(11.0))
    grid = gsde.positive_std(torch.linspace(-30.0, 30.0, 1000), expln=True)
    assert (grid > 0.0).all() and (grid.diff() > 0.0).all()


def test_expln_has_a_finite_gradient_far_below_zero() -> None:
    x = torch.tensor([-50.0, -2.0, 3.0], requires_grad=True)
    gsde.positive_std(x, expln=True).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def actor(**options: bool) -> Actor:
    generator = torch.Generator().manual_seed(0)
    return Actor(3, 2, hidden=(8,), exploration="gsde", log_std=-0.5, generator=generator, **options)


def test_one_matrix_means_one_action_per_state_until_the_next_draw() -> None:
    net, obs = actor(), torch.ones(4, 3)
    seen = []
    for t in range(12):
        if t % 4 == 0:
            net.redraw(4)
        seen.append(net.explore(obs)[0])
    distinct = {tuple(u[0].tolist()) for u in seen}
    assert len(distinct) == 3
    assert len({tuple(row.tolist()) for row in seen[0]}) == 4  # environments explore differently


def test_a_minibatch_as_long_as_the_environments_shares_one_matrix_where_asked() -> None:
    matrix = torch.randn(3, 2)
    z = torch.randn(3, 3)
    assert torch.equal(gsde.noise(z, matrix), z @ matrix)


@pytest.mark.parametrize("detach", [True, False])
def test_on_policy_noise_sends_no_gradient_into_the_features(detach: bool) -> None:
    net = actor(detach=detach)
    _, std = net.distribution(torch.randn(5, 3))
    std.sum().backward()
    trunk = net.mlp.layers[0].weight.grad
    assert net.log_std.grad is not None and net.log_std.grad.abs().sum() > 0.0
    assert (trunk is None) if detach else (trunk is not None and trunk.abs().sum() > 0.0)


def test_without_full_std_all_actions_share_a_deviation() -> None:
    net = actor(full_std=False)
    _, std = net.distribution(torch.randn(5, 3))
    assert net.log_std.shape == (8, 1)
    assert torch.equal(std[:, 0], std[:, 1])


def test_continuity_cost_of_known_signals() -> None:
    assert float(gsde.continuity_cost(torch.full((10, 2), 0.3))) == 0.0
    limits = torch.tensor([1.0, -1.0]).repeat(10).unsqueeze(-1)
    assert float(gsde.continuity_cost(limits)) == 100.0
    noise = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    assert float(gsde.continuity_cost(noise)) == pytest.approx(100.0 / 6.0, rel=0.02)
