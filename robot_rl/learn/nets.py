"""Networks: multi-layer perceptrons, a running normaliser, an actor and a critic.

Knows: layers, observation statistics, how an actor explores.
Does not know: losses, environments, files.

Shapes: ... batch · D observation · F last hidden layer · A actions.

The action convention: ``u ~ N(mlp(obs), std)`` and the environment receives ``tanh(u)``; the deterministic policy is
``tanh(mlp(obs))``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.learn import gsde

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": torch.nn.functional.elu_,
    "relu": torch.relu_,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh_,
}
"""By name; in place where the backward pass needs only the result."""

EXPLORATIONS = ("gaussian", "gsde")


class Mlp(nn.Module):
    """Linear layers with one activation between them and none after the last."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "elu",
        orthogonal: bool = True,
        output_gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build the layers.

        Args:
            sizes: Widths from input to output, at least two.
            activation: A key of ``ACTIVATIONS``.
            orthogonal: Orthogonal weights with gain sqrt(2) and zero biases; else uniform ±1/sqrt(fan in).
            output_gain: Factor on the weights of the last layer.
            generator: Source of the initial weights.
        """
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"no activation {activation!r}; the choices are {sorted(ACTIVATIONS)}")
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs an input and an output width, got {list(sizes)}")
        self.activation = activation
        self.layers = nn.ModuleList(torch.nn.utils.skip_init(nn.Linear, a, b) for a, b in itertools.pairwise(sizes))
        for i, layer in enumerate(self.linears()):
            last = i == len(self.layers) - 1
            _initialise(layer, orthogonal, output_gain if last else None, generator)

    def linears(self) -> list[nn.Linear]:
        """Return the layers from input to output."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, shape (..., F)."""
        act = ACTIVATIONS[self.activation]
        for layer in self.layers[:-1]:
            x = act(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return the output layer."""
        return self.layers[-1](self.features(x))


def _initialise(layer: nn.Linear, orthogonal: bool, gain: float | None, generator: torch.Generator | None) -> None:
    with torch.no_grad():
        if orthogonal:
            nn.init.orthogonal_(layer.weight, math.sqrt(2.0) if gain is None else gain, generator=generator)
            layer.bias.zero_()
            return
        bound = 1.0 / math.sqrt(layer.in_features)
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
        if gain is not None:
            layer.weight.mul_(gain)
            layer.bias.mul_(gain)


class Normaliser(nn.Module):
    """Running mean and deviation of observations; affine and unclipped, so that it folds into a linear layer."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, *, floor: float = 1e-2) -> None:
        """Start as the identity.

        Args:
            size: Width D.
            floor: Added to the deviation, so that a constant column is not blown up.
        """
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take the rows of ``x``, shape (B, D), into the statistics (Chan's parallel formula)."""
        rows = x.shape[0]
        total = self.count + rows
        weight = (rows / total).to(x.dtype)
        var, mean = torch.var_mean(x, 0, unbiased=False)
        delta = mean - self.mean
        spread = self.var * (1.0 - weight) + var * weight + delta.square() * weight * (1.0 - weight)
        self.var.copy_(spread)
        self.mean.add_(delta * weight)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / (std + floor)``, shape (..., D)."""
        return (x - self.mean) / (self.var.sqrt() + self.floor)


@dataclass(frozen=True, slots=True)
class DenseNet:
    """A deterministic policy as plain arrays: ``tanh(W_k act(... act(W_1 obs + b_1) ...) + b_k)``."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Weights (out, in) and biases (out,), float32, from input to output; the normaliser is folded in."""
    activation: str
    """A key of ``ACTIVATIONS``, between layers; the last layer ends in tanh."""
    std: np.ndarray | None = None
    """gSDE: deviations of the noise matrix, float32 (F, A), or (F, 1) for all actions alike; None without gSDE."""
    mean_clip: float = math.inf
    """Hard bound of the last layer before noise and tanh; infinite is none."""


class Actor(nn.Module):
    """A squashed Gaussian policy with one learnt deviation per action, or with gSDE."""

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        activation: str = "elu",
        orthogonal: bool = True,
        exploration: str = "gaussian",
        log_std: float = 0.0,
        full_std: bool = True,
        expln: bool = False,
        detach: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build the network.

        Args:
            obs_size: D.
            num_actions: A.
            hidden: Widths of the hidden layers; gSDE uses the last as its features.
            activation: A key of ``ACTIVATIONS``.
            orthogonal: See ``Mlp``.
            exploration: ``gaussian`` or ``gsde``.
            log_std: Initial log deviation, of each action (gaussian) or each entry of the matrix (gsde).
            full_std: gSDE only: one deviation per feature and action; else one per feature.
            expln: gSDE only: see ``gsde.positive_std``.
            detach: gSDE only: stop gradients from the noise into the features (on-policy: True, SAC: False).
        """
        super().__init__()
        if exploration not in EXPLORATIONS:
            raise ValueError(f"no exploration {exploration!r}; the choices are {EXPLORATIONS}")
        self.num_actions = num_actions
        self.exploration, self.expln, self.detach = exploration, expln, detach
        self.norm = Normaliser(obs_size)
        self.mlp = Mlp(
            (obs_size, *hidden, num_actions), activation=activation, orthogonal=orthogonal, output_gain=0.01,
            generator=generator,
        )  # fmt: skip
        gaussian = exploration == "gaussian"
        shape = (num_actions,) if gaussian else (hidden[-1], num_actions if full_std else 1)
        self.log_std = nn.Parameter(torch.full(shape, log_std))
        self.matrix: Tensor | None = None
        """gSDE noise of each environment, shape (N, F, A); never saved, drawn anew after loading."""

    def forward(self, obs: Tensor) -> Tensor:
        """Return the deterministic action in [-1, 1], shape (..., A), from raw observations (..., D)."""
        return torch.tanh(self.mlp(self.norm(obs)))

    def distribution(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of ``u``, each (..., A), from *normalised* observations (..., D)."""
        mean, std, _ = self._law(normalised)
        return mean, std

    def explored(self, obs: Tensor, xi: Tensor) -> Tensor:
        """Return gSDE's action, shape (..., A), for raw observations (..., D) and standard normal ``xi`` (F, A)."""
        z = self.mlp.features(self.norm(obs))
        return torch.tanh(self.mlp.layers[-1](z) + self.noise(z, xi))

    def noise(self, z: Tensor, xi: Tensor) -> Tensor:
        """Return gSDE's noise, shape (..., A), for features (..., F) and standard normal ``xi`` (F, A)."""
        return gsde.noise(z, gsde.positive_std(self.log_std, expln=self.expln) * xi)

    def redraw(self, num_envs: int, *, generator: torch.Generator | None = None) -> None:
        """Draw one noise matrix per environment; nothing to do without gSDE."""
        if self.exploration == "gsde":
            with torch.no_grad():
                self.matrix = gsde.draw(self.log_std, num_envs, self.num_actions, expln=self.expln, generator=generator)

    def explore(self, normalised: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Sample ``u`` and return it with its mean and deviation, each (N, A)."""
        mean, std, z = self._law(normalised)
        if self.exploration == "gsde":
            assert self.matrix is not None, "gSDE: call redraw(num_envs) before explore()"
            return mean + gsde.noise(z, self.matrix), mean, std
        xi = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return torch.addcmul(mean, std, xi), mean, std

    def _law(self, normalised: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.mlp.features(normalised)
        mean = self.mlp.layers[-1](z)
        if self.exploration == "gaussian":
            return mean, self.log_std.exp().expand_as(mean), z
        z = z.detach() if self.detach else z
        return mean, gsde.marginal_std(z, self.log_std, self.num_actions, expln=self.expln), z

    @torch.no_grad()
    def as_mlp(self) -> DenseNet:
        """Return the policy as arrays, gSDE included, the normaliser folded into the first layer in float64."""
        weights = [(x.weight.double().cpu(), x.bias.double().cpu()) for x in self.mlp.linears()]
        w, b = weights[0]
        w = w / (self.norm.var.double().cpu().sqrt() + self.norm.floor)
        weights[0] = (w, b - w @ self.norm.mean.double().cpu())
        layers = tuple((w.float().numpy(), b.float().numpy()) for w, b in weights)
        gaussian = self.exploration == "gaussian"
        std = None if gaussian else gsde.positive_std(self.log_std, expln=self.expln).cpu().numpy()
        return DenseNet(layers=layers, activation=self.mlp.activation, std=std)


class Critic(nn.Module):
    """A state value."""

    def __init__(
        self,
        obs_size: int,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        activation: str = "elu",
        orthogonal: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build the network; arguments as in ``Actor``."""
        super().__init__()
        self.norm = Normaliser(obs_size)
        sizes = (obs_size, *hidden, 1)
        self.mlp = Mlp(sizes, activation=activation, orthogonal=orthogonal, generator=generator)

    def forward(self, normalised: Tensor) -> Tensor:
        """Return V from *normalised* observations (..., D), shape (...)."""
        return self.mlp(normalised).squeeze(-1)
