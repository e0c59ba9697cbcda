"""Mirrored samples and the mirror loss, as in RSL-RL (Mittal et al. 2024, arXiv:2403.04359).

*Augmentation*: each minibatch is doubled by its mirror image; the images copy old log-probability,
advantage and return of their originals. Their first ratio is therefore 1 only where the policy is symmetric already.
*Swapping*, our own, is the same in the mean at half the cost: in each pass a random half of the samples is exchanged
for its images. Their KL, which steers the learning rate, is from what the policy would have done there.
*Mirror loss* (Yu et al. 2018, arXiv:1801.08093): ``|mean(mirror(s)) - mirror(mean(s))|^2``, the second term constant.
KL and entropy are those of the originals, with swapping those of what a pass sees.

Knows: which columns of a batch have an image.
Does not know: robots (``hardware.symmetry`` builds the permutations), losses of PPO.

Shapes: B minibatch · D observation · A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robot_rl.hardware.symmetry import Reflection, Reflections
from robot_rl.learn.nets import Actor, Critic
from robot_rl.learn.rollout import Rollout

CHOICES = ("none", "augment", "swap", "loss", "both")
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


def images(mirror: Mirror, rollout: Rollout, group: str, actor: Actor, critic: Critic) -> dict[str, Tensor]:
    """Return columns of a batch that belong to the images of a rollout.

    Args:
        mirror: How observations are mirrored.
        rollout: Raw observations.
        group: What the actor sees.
        actor: Its normaliser, and what it would have done.
        critic: Its normaliser.

    Returns:
        Normalised observations ``obs`` and ``critic_obs``, (T*N, D), ``mean`` and ``std`` of u there, (T*N, A); each
        name begins with ``PREFIX``.
    """
    obs, critic_obs = rollout.obs[group].flatten(0, 1), rollout.critic_obs.flatten(0, 1)
    seen = actor.norm(mirror.obs[group](obs))
    mean, std = actor.distribution(seen)
    critic_seen = critic.norm(mirror.obs[rollout.critic_group](critic_obs))
    return {PREFIX + "obs": seen, PREFIX + "critic_obs": critic_seen, PREFIX + "mean": mean, PREFIX + "std": std}


def augmented(mb: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
    """Return a minibatch of 2 B rows: the originals, then their images with copied targets."""
    images = {
        "obs": mb[PREFIX + "obs"], "critic_obs": mb[PREFIX + "critic_obs"], "u": mirror.action(mb["u"]),
        **{name: mb[name] for name in _COPIED},
    }  # fmt: skip
    return {name: torch.cat((mb[name], image)) for name, image in images.items()}


def of_pass(
    batch: dict[str, Tensor], mirror: Mirror | None, symmetry: str, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return what one pass over a batch sees: with ``swap`` a random half of its rows mirrored, else the batch."""
    if symmetry != "swap":
        return batch
    assert mirror is not None, "symmetry: the agent has no mirror"
    turned = torch.rand(len(batch["u"]), 1, generator=generator, device=batch["u"].device) < 0.5
    images = {name: batch[PREFIX + name] for name in ("obs", "critic_obs", "mean", "std")}
    images["u"] = mirror.action(batch["u"])
    mixed = {name: torch.where(turned, image, batch[name]) for name, image in images.items()}
    return {name: mixed.get(name, x) for name, x in batch.items() if not name.startswith(PREFIX)}


def mirror_loss(mean: Tensor, mean_of_image: Tensor, mirror: Mirror) -> Tensor:
    """Return the mean squared difference of ``mean_of_image`` and the image of ``mean``, held constant, from (B, A)."""
    return (mean_of_image - mirror.action(mean).detach()).square().mean()
