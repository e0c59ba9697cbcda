"""Generalised state-dependent exploration (gSDE), Raffin, Kober and Stulp, CoRL 2021 (arXiv:2005.05719).

The noise is a linear function of the policy's last features, ``W^T z(s)``, whose matrix is drawn anew only every n
control steps: the same state gives the same action in between, so motors see smooth exploration. The marginal law of
the action stays Gaussian with a closed-form variance, so log-probabilities are exact.

Knows: features, standard deviations, Gaussian and squashed log-probabilities.
Does not know: networks, when matrices are drawn.

Shapes: ... batch · N environments · F features · A actions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

VARIANCE_FLOOR = 1e-6
"""Added to the variance, under the square root."""

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def positive_std(log_std: Tensor, *, expln: bool = False) -> Tensor:
    """Map the free parameter to a standard deviation.

    Args:
        log_std: Any shape.
        expln: Grow only logarithmically above zero: ``exp(x)`` for x <= 0, ``log(1 + x) + 1`` above.
    """
    if not expln:
        return log_std.exp()
    below = log_std.clamp(max=0.0).exp()
    above = log_std.clamp(min=0.0).log1p() + 1.0
    return torch.where(log_std > 0.0, above, below)


def draw(
    log_std: Tensor, count: int, num_actions: int, *, expln: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Draw ``count`` noise matrices ``W_ij ~ N(0, sigma_ij^2)``, reparameterised.

    Args:
        log_std: Shape (F, A), or (F, 1) where all actions share a deviation.
        count: Number of matrices, one per environment.
        num_actions: A.

    Returns:
        Shape (count, F, A).
    """
    shape = (count, log_std.shape[0], num_actions)
    xi = torch.randn(shape, generator=generator, device=log_std.device, dtype=log_std.dtype)
    return positive_std(log_std, expln=expln) * xi


def noise(z: Tensor, matrix: Tensor) -> Tensor:
    """Return ``z^T W``.

    Args:
        z: Features, shape (N, F).
        matrix: One matrix per row, shape (N, F, A), or one for the whole batch, shape (F, A). The number of
            dimensions chooses, never the batch size.

    Returns:
        Shape (N, A).
    """
    if matrix.dim() == 2:
        return z @ matrix
    return torch.bmm(z.unsqueeze(-2), matrix).squeeze(-2)


def marginal_std(z: Tensor, log_std: Tensor, num_actions: int, *, expln: bool = False) -> Tensor:
    """Return the deviation of the action given the state: ``sqrt(z^2 @ sigma^2 + 1e-6)``.

    Args:
        z: Features, shape (..., F); detach them for on-policy learning.
        log_std: Shape (F, A) or (F, 1).
        num_actions: A.

    Returns:
        Shape (..., A).
    """
    variance = z.square() @ positive_std(log_std, expln=expln).square()  # (..., A) or (..., 1)
    return (variance + VARIANCE_FLOOR).sqrt().expand(*z.shape[:-1], num_actions)


def log_prob(u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian before the squash, summed over actions, shape (...)."""
    return (-0.5 * ((u - mean) / std).square() - std.log() - _HALF_LOG_2PI).sum(-1)


def squashed_log_prob(u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of ``tanh(u)``, shape (...); the Jacobian is exact, ``2 (log 2 - u - softplus(-2u))``."""
    jacobian = 2.0 * (math.log(2.0) - u - torch.nn.functional.softplus(-2.0 * u))
    return log_prob(u, mean, std) - jacobian.sum(-1)


def unsquash(action: Tensor) -> Tensor:
    """Return atanh(action), kept finite at the bounds."""
    eps = torch.finfo(action.dtype).eps
    a = action.clamp(-1.0 + eps, 1.0 - eps)
    return 0.5 * (a.log1p() - (-a).log1p())


def entropy(std: Tensor) -> Tensor:
    """Entropy of a diagonal Gaussian before the squash [nat], summed over actions, shape (...)."""
    return (std.log() + 0.5 + _HALF_LOG_2PI).sum(-1)


def continuity_cost(action: Tensor, *, span: float = 2.0) -> Tensor:
    """Return ``100 E[((a_{t+1} - a_t) / span)^2]``: 0 for a constant command, 100 from limit to limit every step.

    Args:
        action: Executed actions along time, shape (T, ..., A).
        span: Width of the action range.
    """
    return 100.0 * ((action[1:] - action[:-1]) / span).square().mean()
