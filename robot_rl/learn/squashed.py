"""A squashed Gaussian whose mean network is the plain MLP that a robot runs, so that learning starts at a policy.

Haarnoja et al. 2018, arXiv 1812.05905, appendix C; state-dependent noise as in Raffin et al. 2021, arXiv 2005.05719.

Knows: sampling, densities, the copy from and to plain arrays. Does not know: losses, files, when noise is drawn anew.

Shapes: B batch · D observation · F last hidden layer · A action · M noise matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robot_rl.learn import gsde
from robot_rl.learn.nets import EXPLORATIONS, DenseNet, Mlp


class Actor(nn.Module):
    """A squashed Gaussian around the MLP that a robot runs, ``a = tanh(mlp(obs) + noise)``.

    The noise is ``std(obs) xi``, or with gSDE ``W^T z(obs)``, linear in the last hidden layer.
    """

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
        exploration: str = "gaussian",
        sde_log_std: float = -3.0,
        sde_full_std: bool = True,
        sde_expln: bool = False,
        sde_learn_features: bool = True,
        mean_clip: float = math.inf,
    ) -> None:
        """Build a fresh actor.

        Args:
            obs_size: D.
            num_actions: A.
            hidden: Widths of the hidden layers; the last gives the features of the deviation.
            activation: A key of ``nets.ACTIVATIONS``.
            start_std: Deviation before the tanh, at every observation (gaussian).
            std_range: Bounds that the deviation keeps for ever, approached smoothly (gaussian).
            generator: Source of the initial weights.
            exploration: ``gaussian`` or ``gsde``.
            sde_log_std: Initial log deviation of the entries of W.
            sde_full_std: One deviation per feature and action; else one per feature.
            sde_expln: See ``gsde.positive_std``.
            sde_learn_features: Let gradients of the noise reach the features (off-policy), or stop them (on-policy).
            mean_clip: Bound of the mean before the tanh, hard; infinite is none.
        """
        super().__init__()
        if exploration not in EXPLORATIONS:
            raise ValueError(f"no exploration {exploration!r}; the choices are {EXPLORATIONS}")
        sizes = (obs_size, *hidden, num_actions)
        self.obs_size, self.num_actions = obs_size, num_actions
        self.exploration, self.mean_clip = exploration, mean_clip
        self.mlp = Mlp(sizes, activation=activation, orthogonal=False, generator=generator)
        if exploration == "gsde":
            self.expln, self.learn_features = sde_expln, sde_learn_features
            shape = (sizes[-2], num_actions if sde_full_std else 1)
            self.sde_log_std = nn.Parameter(torch.full(shape, sde_log_std))
            return
        self.log_std = nn.Linear(sizes[-2], num_actions)
        low, high = (math.log(s) for s in std_range)
        self.middle, self.half_range = (low + high) / 2.0, (high - low) / 2.0
        with torch.no_grad():
            self.log_std.weight.zero_()
            self.log_std.bias.fill_(math.atanh((math.log(start_std) - self.middle) / self.half_range))

    def forward(self, obs: Tensor) -> Tensor:
        """Return the deterministic action ``tanh(mlp(obs))``, (..., A)."""
        return torch.tanh(self._mean(self.mlp.features(obs)))

    def explored(self, obs: Tensor, xi: Tensor) -> Tensor:
        """Return gSDE's action, shape (..., A), for observations (..., D) and normal ``xi``, (F, A) or (B, F, A)."""
        z = self.mlp.features(obs)
        return torch.tanh(self._mean(z) + gsde.noise(z, gsde.positive_std(self.sde_log_std, expln=self.expln) * xi))

    def noise(self, rows: int, *, matrices: int, generator: torch.Generator) -> Tensor:
        """Draw standard noise for ``sample``.

        Args:
            rows: B.
            matrices: M, gSDE only: matrix m serves the m-th of M equal blocks of rows. B gives each row its own.
            generator: Source of randomness, on the CPU wherever the actor is.

        Returns:
            (B, A), or with gSDE (M, F, A), where the actor is.
        """
        structured = self.exploration == "gsde"
        shape = (matrices, self.sde_log_std.shape[0], self.num_actions) if structured else (rows, self.num_actions)
        return torch.randn(shape, generator=generator).to(self.mlp.linears()[0].weight.device)

    def sample(self, obs: Tensor, xi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return action (B, A), its log-probability (B,) and the deterministic action (B, A) for ``noise`` ``xi``."""
        if self.exploration == "gsde":
            return self._sample_sde(obs, xi)
        mean, log_std = self._gaussian(obs)
        u = mean + log_std.exp() * xi
        # log N(u) - log|d tanh(u)/du|, with log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)) (SAC, appendix C)
        log_prob = -0.5 * (xi.square() + math.log(2.0 * math.pi)) - log_std
        log_prob = log_prob - 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))
        return torch.tanh(u), log_prob.sum(-1), torch.tanh(mean)

    def law(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation before the tanh, each (..., A); gSDE's is the one over all draws of W."""
        if self.exploration == "gsde":
            mean, std, _ = self._law_sde(obs)
            return mean, std
        mean, log_std = self._gaussian(obs)
        return mean, log_std.exp()

    def _sample_sde(self, obs: Tensor, xi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, std, z = self._law_sde(obs)
        matrix = gsde.positive_std(self.sde_log_std, expln=self.expln) * xi  # (M, F, A)
        u = mean + torch.bmm(z.view(matrix.shape[0], -1, z.shape[-1]), matrix).view_as(mean)
        return torch.tanh(u), gsde.squashed_log_prob(u, mean, std), torch.tanh(mean)

    def _law_sde(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.mlp.features(obs)
        z = features if self.learn_features else features.detach()
        return self._mean(features), gsde.marginal_std(z, self.sde_log_std, self.num_actions, expln=self.expln), z

    def _gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.mlp.features(obs)
        return self._mean(features), self.middle + self.half_range * torch.tanh(self.log_std(features))

    def _mean(self, features: Tensor) -> Tensor:
        mean = self.mlp.layers[-1](features)
        return mean if math.isinf(self.mean_clip) else mean.clamp(-self.mean_clip, self.mean_clip)

    @torch.no_grad()
    def as_mlp(self) -> DenseNet:
        """Return the policy as arrays, gSDE included."""
        layers = tuple((x.weight.numpy().copy(), x.bias.numpy().copy()) for x in self._linear())
        gaussian = self.exploration == "gaussian"
        std = None if gaussian else gsde.positive_std(self.sde_log_std, expln=self.expln).numpy()
        return DenseNet(layers=layers, activation=self.mlp.activation, std=std, mean_clip=self.mean_clip)

    @torch.no_grad()
    def start_at(self, net: DenseNet) -> None:
        """Copy a plain MLP into the mean network, not its noise; raise ValueError where layers or mean clip differ."""
        if not math.isclose(net.mean_clip, self.mean_clip, rel_tol=1e-6):  # files hold float32
            raise ValueError(f"policy has mean_clip {net.mean_clip}; the actor {self.mean_clip}")
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
