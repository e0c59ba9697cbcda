"""Networks: the normaliser equals plain statistics and folds away; actors start calm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robot_rl.learn.nets import ACTIVATIONS, Actor, Critic, DenseNet, Mlp, Normaliser


def forward(net: DenseNet, obs: np.ndarray) -> np.ndarray:
    """Evaluate the arrays with nothing but NumPy."""
    act = {
        "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
        "relu": lambda x: np.maximum(x, 0.0),
        "silu": lambda x: x / (1.0 + np.exp(-x)),
        "tanh": np.tanh,
    }[net.activation]
    for i, (w, b) in enumerate(net.layers):
        obs = obs @ w.T + b
        obs = np.tanh(obs) if i == len(net.layers) - 1 else act(obs)
    return obs


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("exploration", ["gaussian", "gsde"])
def test_the_arrays_of_an_actor_act_like_the_actor(activation: str, exploration: str) -> None:
    generator = torch.Generator().manual_seed(0)
    net = Actor(5, 3, hidden=(16, 8), activation=activation, exploration=exploration, generator=generator)
    rows = torch.randn(400, 5, generator=generator) * torch.tensor([0.1, 1.0, 30.0, 1.0, 1.0]) + 1.0
    net.norm.update(rows)
    with torch.no_grad():
        net.mlp.layers[-1].weight.mul_(50.0)
        expected = net(rows).numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(forward(net.as_mlp(), rows.numpy()), expected, atol=1e-5)


def test_the_normaliser_equals_the_statistics_of_all_rows_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1000, 4, generator=generator) * 3.0 + 7.0
    norm = Normaliser(4)
    for part in rows.split([10, 490, 1, 499]):
        norm.update(part)
    assert torch.allclose(norm.mean, rows.mean(0), atol=1e-5)
    assert torch.allclose(norm.var, rows.var(0, unbiased=False), rtol=1e-4)
    assert int(norm.count) == 1000


def test_a_constant_column_stays_bounded() -> None:
    norm = Normaliser(1)
    norm.update(torch.full((50, 1), 2.0))
    assert float(norm(torch.tensor([[2.05]]))) == pytest.approx(5.0, rel=1e-3)


def test_a_fresh_actor_acts_near_zero() -> None:
    net = Actor(45, 12, generator=torch.Generator().manual_seed(0))
    assert float(net(torch.randn(100, 45)).detach().abs().max()) < 0.15


def test_without_orthogonal_weights_every_layer_keeps_to_its_bound() -> None:
    seeded = torch.Generator().manual_seed(0)
    actor = Actor(11, 3, hidden=(256, 256), activation="relu", orthogonal=False, generator=seeded)
    critic = Critic(11, hidden=(256, 256), activation="relu", orthogonal=False, generator=seeded)
    for layer, gain in zip((*actor.mlp.linears(), *critic.mlp.linears()), (1.0, 1.0, 0.01, 1.0, 1.0, 1.0), strict=True):
        bound = gain / layer.in_features**0.5
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert 0.0 < float(layer.bias.detach().abs().max()) <= bound


def test_the_generator_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        return Mlp((4, 8, 2), generator=torch.Generator().manual_seed(seed)).layers[0].weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"no activation 'gelu'.*'elu', 'relu', 'silu', 'tanh'"):
        Mlp((2, 2), activation="gelu")
    with pytest.raises(ValueError, match=r"no exploration 'ou'.*'gaussian', 'gsde'"):
        Actor(2, 2, exploration="ou")
