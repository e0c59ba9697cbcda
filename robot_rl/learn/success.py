"""A classifier of success from labelled pictures or observations: trained, calibrated, and judged on data held out.

Singh et al. 2019, arXiv 1904.07854 (a reward from pictures of success); Luo et al. 2024, arXiv 2410.21845, appendix B
(its size: Linear, dropout, LayerNorm, ReLU; balanced minibatches). Guo et al. 2017, arXiv 1706.04599 (temperature
scaling, section 4.2; expected calibration error, eq. 3). The temperature is fitted to softened labels (Platt 1999), so
that data which the classifier separates leaves it finite; what balanced minibatches do to the odds is taken back
(Elkan 2001), so that probabilities hold for the share of successes among the labels. The threshold is the one with
the most recall among those that are precise enough: a policy finds what a classifier wrongly calls success, and does
that.

Episodes are never torn: frames of one lie in training, in calibration (temperature, threshold) or in the test alone.

Knows: labelled inputs, losses, numbers. Does not know: where labels come from, files (``success_file``).

Shapes: n inputs · B batch · D observation · H height · W width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.data.labels import Labelled
from robot_rl.learn import encoder as vision
from robot_rl.learn.nets import Normaliser

SPLIT = (0.6, 0.2, 0.2)
"""Shares of the episodes for training, calibration and test."""
BINS = 15


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the training."""

    encoder: vision.Config = field(default_factory=vision.Config)
    """Pictures only."""
    hidden: int = 256
    dropout: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch: int = 64
    """Half of it successes."""
    updates: int = 300
    noise: float = 0.02
    """Numbers only: deviation of what is added in training, in deviations of the data."""
    precision: float = 0.97
    """The threshold is chosen to be right this often where it says yes, on the calibration data."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 2 or self.batch % 2:
            raise ValueError(f"success: batch is {self.batch}; half of it are successes, so that it must be even")
        if not 0.5 <= self.precision <= 1.0 or not 0.0 <= self.dropout < 1.0:
            raise ValueError(
                f"success: precision is {self.precision}, in [0.5, 1], and dropout {self.dropout}, in [0, 1)"
            )


@dataclass(frozen=True, slots=True)
class Report:
    """How good a classifier is on data that it was not trained on."""

    precision: float
    recall: float
    calibration_error: float
    """Of the probabilities, after the temperature."""
    uncalibrated_error: float
    """The same at temperature 1."""
    held_out: int


@dataclass(frozen=True, slots=True)
class Classifier:
    """What was learnt."""

    network: Network
    temperature: float
    offset: float
    """Log-odds of success in the training data, which balanced minibatches hid from the network."""
    threshold: float
    report: Report

    @torch.no_grad()
    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the probability of success, (n,), of inputs (n, D) or (n, H, W, 3)."""
        return _sigmoid(logits(self.network, inputs) / self.temperature + self.offset)


class Network(nn.Module):
    """From inputs to one logit each."""

    def __init__(self, cfg: Config, shape: tuple[int, ...], generator: torch.Generator) -> None:
        """Build it for inputs of ``shape``: (D,) numbers, or (H, W, 3) pictures."""
        super().__init__()
        pictures = len(shape) == 3
        self.see: nn.Module = (
            vision.Encoder(cfg.encoder, shape, generator=generator) if pictures else Normaliser(shape[0])
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            self.head = nn.Sequential(
                nn.Linear(cfg.encoder.features if pictures else shape[0], cfg.hidden),
                nn.Dropout(cfg.dropout),
                nn.LayerNorm(cfg.hidden),
                nn.ReLU(),
                nn.Linear(cfg.hidden, 1),
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B,)."""
        return self.head(self.see(inputs)).squeeze(-1)


def train(data: Labelled, cfg: Config) -> Classifier:
    """Learn from labelled inputs and find out how well.

    Raises:
        ValueError: A part of the split has no success or no failure: label more episodes, or more of each.
        FloatingPointError: The loss is not finite.
    """
    rng = np.random.default_rng(cfg.seed)
    fit, hold, test = split(data, rng)
    generator = torch.Generator().manual_seed(cfg.seed)
    network = Network(cfg, data.inputs.shape[1:], generator)
    if isinstance(network.see, Normaliser):
        network.see.update(torch.from_numpy(fit.inputs))
    _fit(network, fit, cfg, rng)
    share = float(fit.success.mean())
    offset = float(np.log(share / (1.0 - share)))
    raw = logits(network, hold.inputs)
    temperature = fit_temperature(raw, hold.success, offset)
    threshold = choose_threshold(_sigmoid(raw / temperature + offset), hold.success, cfg.precision)
    unseen = logits(network, test.inputs)
    chance = _sigmoid(unseen / temperature + offset)
    precision, recall = precision_recall(chance >= threshold, test.success)
    report = Report(
        precision, recall, calibration_error(chance, test.success),
        calibration_error(_sigmoid(unseen + offset), test.success), len(test.success),
    )  # fmt: skip
    return Classifier(network, temperature, offset, threshold, report)


def split(data: Labelled, rng: np.random.Generator) -> tuple[Labelled, Labelled, Labelled]:
    """Deal whole episodes out to training, calibration and test, those with a success and those without apart.

    Raises:
        ValueError: A part has no success or no failure.
    """
    episodes = np.unique(data.episode)
    solved = np.array([bool(data.success[data.episode == e].any()) for e in episodes])
    part_of: dict[int, int] = {}
    for group in (episodes[solved], episodes[~solved]):
        dealt = rng.permutation(group)
        ends = np.floor(np.cumsum(SPLIT) * len(dealt) + 0.5).astype(int)
        for part, at in enumerate(np.split(np.arange(len(dealt)), ends[:-1])):
            part_of.update((int(dealt[i]), part) for i in at)
    where = np.array([part_of[int(e)] for e in data.episode])
    parts = [data.pick(where == part) for part in range(len(SPLIT))]
    for name, part in zip(("training", "calibration", "test"), parts, strict=True):
        wins = int(part.success.sum())
        if not 0 < wins < len(part.success):
            raise ValueError(
                f"success: of {len(part.success)} frames for {name} {wins} are successes; both kinds are needed in "
                f"each part. There are {len(episodes)} episodes, {int(solved.sum())} with a success: label more"
            )
    return parts[0], parts[1], parts[2]


@torch.no_grad()
def logits(network: Network, inputs: np.ndarray, chunk: int = 256) -> np.ndarray:
    """Return the logits of inputs (n, ...) without dropout, float64 (n,)."""
    was, _ = network.training, network.eval()
    parts = [network(torch.from_numpy(inputs[i : i + chunk])).double().numpy() for i in range(0, len(inputs), chunk)]
    network.train(was)
    return np.concatenate(parts)


def fit_temperature(raw: np.ndarray, success: np.ndarray, offset: float = 0.0) -> float:
    """Return the T that minimises the cross-entropy of ``sigmoid(raw / T + offset)``, (n,), by Newton's method."""
    wins = success.sum()
    target = np.where(success, (wins + 1.0) / (wins + 2.0), 1.0 / (len(success) - wins + 2.0))
    log_beta = 0.0  # beta = 1 / T
    for _ in range(100):
        beta = np.exp(log_beta)
        chance = _sigmoid(beta * raw + offset)
        slope = beta * ((chance - target) * raw).mean()
        bend = beta**2 * (chance * (1.0 - chance) * raw**2).mean() + abs(slope)
        step = slope / max(bend, 1e-12)
        log_beta = float(np.clip(log_beta - np.clip(step, -1.0, 1.0), -5.0, 5.0))
        if abs(step) < 1e-9:
            break
    return float(np.exp(-log_beta))


def calibration_error(chance: np.ndarray, success: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between the predicted and the seen share of success, over equal bins (Guo et al., eq. 3)."""
    place = np.minimum((chance * bins).astype(int), bins - 1)
    gap = np.bincount(place, chance - success, bins)
    return float(np.abs(gap).sum() / len(chance))


def choose_threshold(chance: np.ndarray, success: np.ndarray, precision: float) -> float:
    """Return the threshold with the most recall among those that are precise enough, midway between two probabilities.

    Where none is, the one above all but the most certain success.
    """
    seen = np.unique(np.clip(chance, 1e-6, 1.0 - 1e-6))
    choices = (seen[:-1] + seen[1:]) / 2.0 if len(seen) > 1 else seen
    found = [(precision_recall(chance >= t, success), t) for t in choices]
    good = [(recall, t) for (right, recall), t in found if right >= precision and recall > 0.0]
    return float(max(good)[1]) if good else float(choices[-1])


def precision_recall(says: np.ndarray, success: np.ndarray) -> tuple[float, float]:
    """Return the share of yeses that are right (1 where there is none) and the share of successes that are seen."""
    right, said = float((says & success).sum()), float(says.sum())
    return (right / said if said else 1.0), right / max(float(success.sum()), 1.0)


def _fit(network: Network, data: Labelled, cfg: Config, rng: np.random.Generator) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)
    pools = [np.flatnonzero(data.success), np.flatnonzero(~data.success)]
    target = torch.cat((torch.ones(cfg.batch // 2), torch.zeros(cfg.batch // 2)))
    spread = data.inputs.std(0) if data.inputs.ndim == 2 else None
    network.train()
    total = torch.zeros(())
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global source
        torch.manual_seed(cfg.seed)
        for _ in range(cfg.updates):
            inputs = data.inputs[np.concatenate([rng.choice(pool, cfg.batch // 2) for pool in pools])]
            if spread is None:
                inputs = vision.random_shift(inputs, cfg.encoder.shift, rng)
            else:
                inputs = inputs + (cfg.noise * spread * rng.normal(size=inputs.shape)).astype(np.float32)
            loss = nn.functional.binary_cross_entropy_with_logits(network(torch.from_numpy(inputs)), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach()
    if not bool(total.isfinite()):
        raise FloatingPointError(f"the loss of the classifier of success is {float(total)}")


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))
