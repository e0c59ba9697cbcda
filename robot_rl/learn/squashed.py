"""A squashed Gaussian whose mean network is the plain MLP that a robot runs, so that learning starts at a policy.

Haarnoja et al. 2018, arXiv 1812.05905, appendix C.

Knows: sampling, densities, the copy from and to plain arrays. Does not know: losses, files.

Shapes: B batch · D observation · A action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robot_rl.learn.nets import DenseNet, Mlp


class Actor(nn.Module):
    """A squashed Gaussian ``a = tanh(mlp(obs) + std(obs) xi)``; its mean network is the MLP that a robot runs."""

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        *,
        hidden: Sequence[int],
        activation: str,
        start_std: float,
        std_range: tuple[float, float],
        generator: torch.Generator,
    ) -> None:
        """Build a fresh actor.

        Args:
            obs_size: D.
            num_actions: A.
            hidden: Widths of the hidden layers; the last gives the features of the deviation.
            activation: A key of ``nets.ACTIVATIONS``.
            start_std: Deviation before the tanh, at every observation.
            std_range: Bounds that the deviation keeps for ever, approached smoothly.
            generator: Source of the initial weights.
        """
        super().__init__()
        sizes = (obs_size, *hidden, num_actions)
        self.obs_size, self.num_actions = obs_size, num_actions
        self.mlp = Mlp(sizes, activation=activation, orthogonal=False, generator=generator)
        self.log_std = nn.Linear(sizes[-2], num_actions)
        low, high = (math.log(s) for s in std_range)
        self.middle, self.half_range = (low + high) / 2.0, (high - low) / 2.0
        with torch.no_grad():
            self.log_std.weight.zero_()
            self.log_std.bias.fill_(math.atanh((math.log(start_std) - self.middle) / self.half_range))

    def forward(self, obs: Tensor) -> Tensor:
        """Return the deterministic action ``tanh(mlp(obs))``, (..., A)."""
        return torch.tanh(self.mlp(obs))

    def sample(self, obs: Tensor, xi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return action (B, A), its log-probability (B,) and the deterministic action (B, A) for noise ``xi``."""
        mean, log_std = self._law(obs)
        u = mean + log_std.exp() * xi
        # log N(u) - log|d tanh(u)/du|, with log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)) (SAC, appendix C)
        log_prob = -0.5 * (xi.square() + math.log(2.0 * math.pi)) - log_std
        log_prob = log_prob - 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))
        return torch.tanh(u), log_prob.sum(-1), torch.tanh(mean)

    def law(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation before the tanh, each (..., A)."""
        mean, log_std = self._law(obs)
        return mean, log_std.exp()

    def _law(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.mlp.features(obs)
        return self.mlp.layers[-1](features), self.middle + self.half_range * torch.tanh(self.log_std(features))

    @torch.no_grad()
    def as_mlp(self) -> DenseNet:
        """Return the deterministic policy as arrays."""
        layers = tuple((x.weight.numpy().copy(), x.bias.numpy().copy()) for x in self._linear())
        return DenseNet(layers=layers, activation=self.mlp.activation)

    @torch.no_grad()
    def start_at(self, net: DenseNet) -> None:
        """Copy a plain MLP into the mean network; raise ValueError where the layers differ."""
        ours = [tuple(x.weight.shape) for x in self._linear()]
        theirs = [w.shape for w, _ in net.layers]
        if ours != theirs or net.activation != self.mlp.activation:
            raise ValueError(f"policy has layers {theirs} ({net.activation}); the actor {ours} ({self.mlp.activation})")
        for layer, (w, b) in zip(self._linear(), net.layers, strict=True):
            layer.weight.copy_(torch.as_tensor(w))
            layer.bias.copy_(torch.as_tensor(b))

    @torch.no_grad()
    def fold(self, mean: Tensor, scale: Tensor) -> None:
        """Make the first layer see ``(obs - mean) * scale``, each (D,), while its input stays raw."""
        first = self._linear()[0]
        first.weight.mul_(scale)
        first.bias.sub_(first.weight @ mean)

    def _linear(self) -> list[nn.Linear]:
        return [layer for layer in self.mlp.layers if isinstance(layer, nn.Linear)]
