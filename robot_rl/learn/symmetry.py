"""Mirrored samples and the mirror loss, as in RSL-RL (Mittal et al. 2024, arXiv:2403.04359).

*Augmentation*: each minibatch is doubled by its mirror image; the images copy old log-probability,
advantage and return of their originals. Their first ratio is therefore 1 only where the policy is symmetric already;
that keeps it so. Images with a first ratio of 1, for gSDE, drove policy and mirror apart: an image far from what the
policy does, and worse than average, then pushes it further away.
*Mirror loss* (Yu et al. 2018, arXiv:1801.08093): ``|mean(mirror(s)) - mirror(mean(s))|^2``, the second term
constant. KL and entropy are those of the originals.

Knows: which columns of a batch have an image.
Does not know: robots (``hardware.symmetry`` builds the permutations), losses of PPO.

Shapes: B minibatch · D observation · A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robot_rl.hardware.symmetry import Reflection, Reflections
from robot_rl.learn.nets import Normaliser
from robot_rl.learn.rollout import Rollout

CHOICES = ("none", "augment", "loss", "both")
"""What ``Config.symmetry`` may be."""

PREFIX = "mirror_"
"""In front of the names of a batch's columns that are mirrored, normalised observations."""

_COPIED = ("log_prob", "value", "ret", "advantage")


@dataclass(frozen=True, slots=True)
class Image:
    """A reflection on a device."""

    index: Tensor
    """(D,) int64."""
    sign: Tensor
    """(D,)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x``, shape (..., D), as a mirror shows it."""
        return x[..., self.index] * self.sign


@dataclass(frozen=True, slots=True)
class Mirror:
    """The reflections of a world, ready for batches."""

    obs: dict[str, Image]
    """Of raw observations, by group."""
    action: Image
    """Of u and of its mean alike."""


def make_mirror(reflections: Reflections, sizes: dict[str, int], device: torch.device | str = "cpu") -> Mirror:
    """Put ``reflections`` on ``device``.

    Raises:
        ValueError: A reflection is not as wide as ``sizes`` says, or is missing.
    """
    widths = {name: len(r.index) for name, r in reflections.obs.items()} | {"action": len(reflections.action.index)}
    if widths != sizes:
        raise ValueError(f"the mirror has the widths {widths}; the environment has {sizes}")

    def image(r: Reflection) -> Image:
        return Image(torch.tensor(r.index, device=device), torch.tensor(r.sign, device=device))

    return Mirror({name: image(r) for name, r in reflections.obs.items()}, image(reflections.action))


def images(
    mirror: Mirror, rollout: Rollout, group: str, norm: Normaliser, critic_norm: Normaliser
) -> dict[str, Tensor]:
    """Return the mirrored, normalised observations of a rollout as columns of its batch, each (T*N, D).

    Args:
        mirror: How observations are mirrored.
        rollout: Raw observations.
        group: What the actor sees.
        norm: The actor's normaliser.
        critic_norm: The critic's.
    """
    obs, critic_obs = rollout.obs[group].flatten(0, 1), rollout.critic_obs.flatten(0, 1)
    return {
        PREFIX + "obs": norm(mirror.obs[group](obs)),
        PREFIX + "critic_obs": critic_norm(mirror.obs[rollout.critic_group](critic_obs)),
    }


def augmented(mb: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
    """Return a minibatch of 2 B rows: the originals, then their images with copied targets."""
    images = {
        "obs": mb[PREFIX + "obs"], "critic_obs": mb[PREFIX + "critic_obs"], "u": mirror.action(mb["u"]),
        **{name: mb[name] for name in _COPIED},
    }  # fmt: skip
    return {name: torch.cat((mb[name], image)) for name, image in images.items()}


def mirror_loss(mean: Tensor, mean_of_image: Tensor, mirror: Mirror) -> Tensor:
    """Return the mean squared difference of ``mean_of_image`` and the image of ``mean``, held constant, from (B, A)."""
    return (mean_of_image - mirror.action(mean).detach()).square().mean()
