"""Pictures to a short vector: convolutions, a head that keeps where things are, a bottleneck; and random shifts.

The trunk is a few strided convolutions, small enough to learn on a CPU, or a frozen residual network whose weights come
from a file (``resnet``). Heads: ``flatten`` (Yarats et al. 2022, arXiv 2107.09645, DrQ-v2), ``embeddings``, learned
spatial weights for each channel (Luo et al. 2024, arXiv 2401.16013, SERL), or ``keypoints``, where in the picture each
channel answers (Levine et al. 2016, arXiv 1504.00702, spatial softmax). All end in Linear, LayerNorm, tanh (DrQ).

Shifts: pad by replication, crop at random (Kostrikov et al. 2021, arXiv 2004.13649, DrQ); whole pixels, one for each
picture, all cameras of it alike.

What is fast on a CPU (``robot-rl bench pixels``): channels last, float32, strides from the first layer on. bfloat16
under autocast takes ten times as long backwards where the CPU has no bfloat16 products. Only the pictures are channels
last: weights that are, too, gain nothing, and lie in another order than their averages in Adam after a checkpoint.

Knows: uint8 pictures, weights. Does not know: losses, replay, cameras.

Shapes: B batch · H height · W width · C colours, of all cameras side by side · F features · K channels of the trunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.learn.resnet import load_resnet

HEADS = ("flatten", "embeddings", "keypoints")


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of an encoder."""

    channels: tuple[int, ...] = (16, 32, 32, 32)
    """Of the convolutions, 3 x 3 each."""
    strides: tuple[int, ...] = (2, 2, 2, 2)
    head: str = "flatten"
    """One of ``HEADS``."""
    embeddings: int = 8
    """Head ``embeddings``: learned weightings of the places, for each channel."""
    features: int = 50
    """F, what comes out (50 in DrQ)."""
    shift: int = 4
    """Largest random shift in training [pixels]; 0 is none."""
    frozen: str = ""
    """File with the weights of a ResNet-10 or -18, .npz or .safetensors, in place of ``channels``; it never learns."""

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"encoder: no head {self.head!r}; the choices are {HEADS}")
        if len(self.channels) != len(self.strides) or min((*self.channels, *self.strides), default=0) < 1:
            raise ValueError(f"encoder: channels {self.channels} and strides {self.strides}; one each, positive")
        if min(self.embeddings, self.features) < 1 or self.shift < 0:
            sizes = (self.embeddings, self.features, self.shift)
            raise ValueError(f"encoder: embeddings, features and shift are {sizes}; at least 1, 1 and 0")


class Encoder(nn.Module):
    """Maps pictures (B, H, W, C), uint8, to features (B, F) in [-1, 1]."""

    def __init__(self, cfg: Config, shape: Sequence[int], *, generator: torch.Generator) -> None:
        """Build it.

        Args:
            cfg: Sizes.
            shape: (H, W, C).
            generator: Source of the initial weights.

        Raises:
            ValueError: The pictures are too small, or the weights' file does not fit.
        """
        super().__init__()
        height, width, colours = shape
        self.shape, self.features, self.frozen = (height, width, colours), cfg.features, bool(cfg.frozen)
        if self.frozen:
            self.trunk: nn.Module = load_resnet(Path(cfg.frozen), colours)
        else:
            self.trunk = _convolutions(cfg, colours, generator)
        with torch.no_grad():
            _, channels, *places = self.trunk(torch.zeros(1, colours, height, width)).shape
        self.head = _head(cfg, channels, places[0], places[1], generator)
        with torch.no_grad():
            width_in = self.head(torch.zeros(1, channels, *places)).shape[-1]
        self.bottleneck = _initialised(nn.Linear(width_in, cfg.features), 1.0, generator)
        self.norm = nn.LayerNorm(cfg.features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return features (B, F) of uint8 pictures (B, H, W, C), or of what ``see`` made of them, (B, K, H', W')."""
        return self.compress(self.see(pictures) if pictures.dtype == torch.uint8 else pictures.float())

    def see(self, pictures: Tensor) -> Tensor:
        """Return what the trunk makes of uint8 pictures (B, H, W, C), (B, K, H', W'); a frozen one records no graph."""
        x = pictures.permute(0, 3, 1, 2).float() * (1.0 / 255.0) - 0.5  # channels last as it lies in memory
        if not self.frozen:
            return self.trunk(x)
        with torch.no_grad():
            return self.trunk(x)

    def compress(self, seen: Tensor) -> Tensor:
        """Return features (B, F) of what the trunk saw."""
        return torch.tanh(self.norm(self.bottleneck(self.head(seen))))


class Embeddings(nn.Module):
    """Sums each channel over the picture under learned weights, E of them: (B, K, H', W') to (B, K E)."""

    def __init__(self, channels: int, height: int, width: int, embeddings: int, generator: torch.Generator) -> None:
        super().__init__()
        kernel = torch.empty(channels, height, width, embeddings)
        bound = 1.0 / math.sqrt(height * width)
        self.kernel = nn.Parameter(kernel.uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums."""
        return torch.einsum("bkhw,khwe->bke", x, self.kernel).flatten(1)


class Keypoints(nn.Module):
    """Where each channel answers, and how strongly: (B, K, H', W') to (B, 3 K), places in [-1, 1]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("y", torch.linspace(-1.0, 1.0, height), persistent=False)
        self.register_buffer("x", torch.linspace(-1.0, 1.0, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return columns, rows and mean answers."""
        share = torch.softmax(x.flatten(2), -1).view_as(x)
        across, down = share.sum(2) @ self.get_buffer("x"), share.sum(3) @ self.get_buffer("y")  # (B, K) each
        return torch.cat((across, down, x.mean((2, 3))), -1)


def random_shift(pictures: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return each picture moved by up to ``most`` pixels either way, its rim repeated.

    Args:
        pictures: (B, H, W, C).
        most: 0 returns the pictures as they are.
        rng: Source of randomness: two whole numbers in [-most, most] for each picture.
    """
    if most == 0:
        return pictures
    b, h, w, c = pictures.shape
    at = rng.integers(0, 2 * most + 1, (2, b))
    padded = np.empty((b, h + 2 * most, (w + 2 * most) * c), pictures.dtype)
    wide = padded.reshape(b, h + 2 * most, w + 2 * most, c)
    wide[:, most:-most, most:-most] = pictures
    wide[:, most:-most, :most], wide[:, most:-most, -most:] = pictures[:, :, :1], pictures[:, :, -1:]
    wide[:, :most], wide[:, -most:] = wide[:, most : most + 1], wide[:, -most - 1 : -most]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w * c), axis=(1, 2))
    return windows[np.arange(b), at[0], at[1] * c].reshape(b, h, w, c)


def _convolutions(cfg: Config, colours: int, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels, stride in zip(cfg.channels, cfg.strides, strict=True):
        conv = nn.Conv2d(colours, channels, 3, stride=stride, padding=1)
        layers += [_initialised(conv, math.sqrt(2.0), generator), nn.ReLU()]
        colours = channels
    return nn.Sequential(*layers)


def _head(cfg: Config, channels: int, height: int, width: int, generator: torch.Generator) -> nn.Module:
    if cfg.head == "embeddings":
        return Embeddings(channels, height, width, cfg.embeddings, generator)
    return Keypoints(height, width) if cfg.head == "keypoints" else nn.Flatten()


_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)


def _initialised(layer: _Layer, gain: float, generator: torch.Generator) -> _Layer:
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
