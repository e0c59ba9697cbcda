"""RLPD from pictures: one encoder for the critics and the actor, taught by the critics' loss alone.

Ball et al. 2023, arXiv 2302.02948, section 5.3 (RLPD from pixels: random shifts, few updates per step); Luo et al.
2024, arXiv 2401.16013 (SERL: numbers beside pictures, frozen encoders); Yarats et al. 2021, arXiv 1910.01741 (SAC-AE:
the actor takes features as they are, without a gradient); Kostrikov et al. 2021, arXiv 2004.13649 (DrQ: shifts on both
sides of a transition). Actor, critics, targets and temperature are those of ``rlpd``, whose observation is here the
features of the pictures and then the numbers.

Shapes: U updates per block · B batch · E critics · F features · D numbers beside the pictures · A action · H, W, C
pictures, cameras side by side.

Deviations from the papers: the targets' features come from the learning encoder, not from an average of it (as in
DrQ-v2, arXiv 2107.09645, appendix B); a picture is seen once and not as a stack of three, for the numbers have the
joints' velocities; the actor may be pulled towards what the demonstrations did (``imitation``), which is ours.

Knows: losses and their order, what a run has learnt. Does not know: worlds (``pixels_loop``), files of weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.data.pictures import PictureReplay, sample_pictures
from robot_rl.learn import checkpoint, encoder, ensemble, fused, rlpd
from robot_rl.learn.agent import Agent
from robot_rl.learn.critic_steps import draw_subset
from robot_rl.learn.encoder import Encoder, random_shift
from robot_rl.learn.ensemble import Layer
from robot_rl.learn.squashed import Actor
from robot_rl.learn.squashed_fused import sample

LEARNER = rlpd.Config(
    critics=10, subset=1, utd=1, temperature=0.1, backup_entropy=False, start_steps=5_000, capacity=100_000,
    total_steps=0,
)  # fmt: skip
"""RLPD's from pixels."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run."""

    rlpd: rlpd.Config = LEARNER
    """Everything but the pictures; its ``seed`` and ``total_steps`` come from here."""
    encoder: encoder.Config = field(default_factory=encoder.Config)
    encoder_lr: float = 3e-4
    imitation: float = 0.0
    """Weight of the mean squared distance of the actor's action to the one in prior data, in units of the value."""
    imitation_half_life: float = math.inf
    """Actor updates after which that weighs half."""
    offline_blocks: int = 0
    """Blocks of updates on prior data alone, before the first step in the world."""
    seed: int = 0
    """Of networks, minibatches and worlds."""
    total_steps: int = 30_000
    """Environment steps, over all environments."""

    def __post_init__(self) -> None:
        if self.rlpd.exploration != "gaussian" or self.rlpd.dropout > 0.0 or self.rlpd.anchor > 0.0:
            raise ValueError(
                f"pixels: exploration is {self.rlpd.exploration!r}, dropout {self.rlpd.dropout} and anchor "
                f"{self.rlpd.anchor}; what learns from pictures has 'gaussian', 0 and 0 alone"
            )
        if self.rlpd.action_scale != 1.0:
            raise ValueError(f"pixels: action_scale is {self.rlpd.action_scale}; critics of pictures have 1 alone")
        if self.imitation < 0.0 or self.imitation_half_life <= 0.0 or self.offline_blocks < 0 or self.total_steps < 1:
            raise ValueError(
                f"pixels: imitation is {self.imitation}, its half-life {self.imitation_half_life}, offline_blocks "
                f"{self.offline_blocks} and total_steps {self.total_steps}; at least 0, above 0, 0 and 1"
            )

    @property
    def learner(self) -> rlpd.Config:
        """RLPD's settings with this run's seed and length."""
        return replace(self.rlpd, seed=self.seed, total_steps=self.total_steps)


class Batch(NamedTuple):
    """The minibatches of a block; pictures are shifted already."""

    obs: Tensor
    """Numbers beside the pictures, (U, B, D)."""
    action: Tensor
    """(U, B, A)"""
    reward: Tensor
    """(U, B)"""
    next_obs: Tensor
    """(U, B, D)"""
    terminated: Tensor
    """What the bootstrap loses, (U, B), see ``Replay.ahead``."""
    pictures: Tensor
    """uint8 (U, B, H, W, C), or what a frozen trunk made of them."""
    next_pictures: Tensor
    prior: int
    """How many rows of each minibatch, the first ones, are prior."""


class Policy(nn.Module):
    """What a robot runs: numbers and the pictures of each camera to an action."""

    def __init__(self, eyes: Encoder, actor: Actor) -> None:
        """Join the two; nothing is copied."""
        super().__init__()
        self.encoder, self.actor = eyes, actor

    def forward(self, obs: Tensor, *pictures: Tensor) -> Tensor:
        """Return the deterministic action (B, A) for numbers (B, D) and uint8 pictures (B, H, W, 3), one per camera."""
        return self.actor(torch.cat((self.encoder(torch.cat(pictures, -1)), obs), -1))


@dataclass(slots=True)
class Seer:
    """All that learning changes."""

    heads: Agent
    """Actor, critics and temperature over features and numbers, (F + D)."""
    encoder: Encoder
    encoder_adam: torch.optim.Adam
    steps: int = 0
    """Environment steps behind it."""
    offline: int = 0
    """Blocks that were learnt from prior data alone."""

    @property
    def actor(self) -> Policy:
        """The policy."""
        return Policy(self.encoder, self.heads.actor)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree of tensors and numbers."""
        return {
            "heads": self.heads.snapshot(), "encoder": dict(self.encoder.state_dict()),
            "encoder_adam": self.encoder_adam.state_dict(), "steps": self.steps, "offline": self.offline,
        }  # fmt: skip

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self.heads.restore(tree["heads"])
        self.encoder.load_state_dict(tree["encoder"])
        self.encoder_adam.load_state_dict(tree["encoder_adam"])
        self.steps, self.offline = tree["steps"], tree["offline"]

    @torch.no_grad()
    def kept(self, pictures: np.ndarray) -> np.ndarray:
        """Return what replay keeps of pictures (N, H, W, C): themselves, or as float16 what a frozen trunk sees."""
        return self.encoder.see(torch.from_numpy(pictures)).half().numpy() if self.encoder.frozen else pictures

    @torch.no_grad()
    def act(self, obs: Tensor, kept: np.ndarray, *, explore: bool) -> Tensor:
        """Return actions (N, A) for numbers (N, D) and what ``kept`` returned."""
        actor, seen = self.heads.actor, torch.cat((self.encoder(torch.from_numpy(kept)), obs), -1)
        if not explore:
            return actor(seen)
        return actor.sample(seen, actor.noise(len(obs), matrices=len(obs), generator=self.heads.generator))[0]


def make_seer(cfg: Config, *, obs_size: int, num_actions: int, shape: Sequence[int]) -> Seer:
    """Build a fresh one for ``obs_size`` numbers beside pictures of ``shape``, (H, W, C)."""
    heads = rlpd.make_agent(cfg.learner, obs_size=cfg.encoder.features + obs_size, num_actions=num_actions)
    eyes = Encoder(cfg.encoder, shape, generator=heads.generator)
    learning = [p for p in eyes.parameters() if p.requires_grad]
    return Seer(heads, eyes, torch.optim.Adam(learning, lr=cfg.encoder_lr, fused=True))


@torch.no_grad()
def fix_statistics(seer: Seer, numbers: Tensor, *, floor: float = 1e-2) -> None:
    """Take mean and deviation of ``numbers`` (B, D) as the normaliser of critics and actor; once, before learning."""
    std, mean = torch.std_mean(numbers, 0)
    heads, features = seer.heads, seer.encoder.features
    heads.obs_mean[features:] = mean
    heads.obs_scale[features:] = 1.0 / (std + floor)
    heads.actor.fold(heads.obs_mean, heads.obs_scale)


def draw(prior: PictureReplay | None, online: PictureReplay, cfg: Config, rng: np.random.Generator) -> Batch:
    """Draw the U minibatches of one block, half of each prior where there is prior data, and shift their pictures."""
    lr = cfg.rlpd
    found = sample_pictures(prior, online, lr.utd, lr.batch, rng, steps=lr.n_step, discount=lr.discount)
    shift = 0 if cfg.encoder.frozen else cfg.encoder.shift
    for name in ("pictures", "next_pictures"):
        x = found[name]
        found[name] = random_shift(x.reshape(-1, *x.shape[2:]), shift, rng).reshape(x.shape) if shift else x
    theirs = 0 if prior is None or not len(prior) else lr.batch // 2 if len(online) else lr.batch
    return Batch(**{name: torch.from_numpy(x) for name, x in found.items()}, prior=theirs)


def update(seer: Seer, batch: Batch, cfg: Config) -> dict[str, float]:
    """Take U steps of critics and encoder, then one of the actor and the temperature; return means over the block."""
    lr, heads = cfg.rlpd, seer.heads
    layers, targets = ensemble.split(heads.critics.detach(), heads.shape), ensemble.split(heads.targets, heads.shape)
    assert heads.critics.grad is not None
    grads = ensemble.split(heads.critics.grad, heads.shape)
    loss = value = torch.zeros(())
    seen = torch.zeros(0)
    for u in range(len(batch.reward)):
        y = _target(seer, batch, u, targets, lr)
        features = seer.encoder(batch.pictures[u])  # (B, F)
        seen = torch.cat((features.detach(), batch.obs[u]), -1)
        x = torch.cat(((seen - heads.obs_mean) * heads.obs_scale, batch.action[u]), -1)
        q, pull = _regress(layers, grads, x, y, features.shape[-1])
        seer.encoder_adam.zero_grad()
        features.backward(pull)
        if lr.grad_clip > 0.0:
            nn.utils.clip_grad_norm_([heads.critics], lr.grad_clip)
            nn.utils.clip_grad_norm_(seer.encoder.parameters(), lr.grad_clip)
        seer.encoder_adam.step()
        fused.adam_step(heads.critic_adam)
        heads.targets.lerp_(heads.critics.detach(), lr.tau)
        loss, value = loss + (q - y).square().mean(), value + q.mean()
    count = len(batch.reward)
    heads.critic_updates += count
    metrics = {"critic_loss": float(loss) / count, "q": float(value) / count, "reward": float(batch.reward.mean())}
    if heads.critic_updates > lr.warmup:
        metrics |= _improve(heads, seen, batch.action[-1, : batch.prior], layers, cfg)
    return metrics


@torch.no_grad()
def _target(seer: Seer, batch: Batch, u: int, targets: list[Layer], lr: rlpd.Config) -> Tensor:
    """Return ``r + discount (1 - d) (min_M Q'(s', a') [- temperature log pi(a'|s')])``, (B,)."""
    heads = seer.heads
    seen = torch.cat((seer.encoder(batch.next_pictures[u]), batch.next_obs[u]), -1)
    xi = heads.actor.noise(len(seen), matrices=1, generator=heads.generator)
    action, log_prob, _ = heads.actor.sample(seen, xi)
    if lr.subset < lr.critics:
        targets = ensemble.pick(targets, draw_subset(lr, heads.generator))
    x = torch.cat(((seen - heads.obs_mean) * heads.obs_scale, action), -1)
    q = ensemble.evaluate(targets, x).amin(0)
    if lr.backup_entropy:
        q = q - log_prob * heads.log_temperature.detach().exp()
    mask = lr.discount * (1.0 - batch.terminated[u])
    return torch.addcmul(batch.reward[u], mask, q).clamp_(*lr.target_range)


@torch.no_grad()
def _regress(layers: list[Layer], grads: list[Layer], x: Tensor, y: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """Return values (E, B) and the gradient of ``sum_i mean_b (Q_i - y)^2`` by features (B, F); write the critics' own.

    The normaliser leaves features as they are, so that no scale stands between.
    """
    tape: list[ensemble.Tape] = []
    q = ensemble.evaluate(layers, x, tape)
    dh = ensemble.backward(layers, tape, (q - y) * (2.0 / len(y)), grads)  # (E, B, H)
    return q, torch.bmm(dh, layers[0].weight[:, :features].transpose(1, 2)).sum(0)


@torch.no_grad()
def _improve(heads: Agent, seen: Tensor, shown: Tensor, layers: list[Layer], cfg: Config) -> dict[str, float]:
    """One step on ``alpha log pi - Q / scale + imitation |a - a_prior|^2`` and one of the temperature.

    ``seen`` (B, F + D) are features of before the encoder's last step; ``shown`` (P, A) what the first P rows did.
    """
    lr, rows, num_actions = cfg.rlpd, len(seen), heads.actor.num_actions
    drawn = sample(heads.actor, seen, heads.actor.noise(rows, matrices=1, generator=heads.generator))
    x = torch.cat(((seen - heads.obs_mean) * heads.obs_scale, drawn.action), -1)
    q, dq = ensemble.action_gradient(layers, x, num_actions, reduce=lr.actor_reduce)
    scale = float(q.abs().mean()) + 1e-6 if lr.scale_value else 1.0
    temperature = math.exp(float(heads.log_temperature))
    weight = cfg.imitation * 0.5 ** (heads.actor_updates / cfg.imitation_half_life)
    away, pull = drawn.mean[: len(shown)] - shown, None
    if weight > 0.0 and len(shown):
        pull = torch.zeros_like(drawn.mean)
        pull[: len(shown)] = away * (2.0 * weight / len(shown))
    drawn.back(dq.mul_(-1.0 / (scale * rows)), temperature / rows, pull)
    if lr.grad_clip > 0.0:
        nn.utils.clip_grad_norm_(heads.actor.parameters(), lr.grad_clip)
    fused.adam_step(heads.actor_adam)
    entropy = -float(drawn.log_prob.mean())
    if lr.temperature_lr > 0.0:
        goal = -0.5 * num_actions if lr.target_entropy is None else lr.target_entropy
        heads.log_temperature.grad = torch.full_like(heads.log_temperature, temperature * (entropy - goal))
        heads.temperature_adam.step()
    heads.actor_updates += 1
    metrics = {"actor_q": float(q.mean()), "entropy": entropy, "temperature": temperature, "imitation": weight}
    return metrics | ({"away": math.sqrt(float(away.square().mean()))} if len(shown) else {})


def pack(seer: Seer, cfg: Config) -> dict[str, Any]:
    """Return what was learnt as a tree for ``checkpoint.save``."""
    numbers = len(seer.heads.obs_mean) - seer.encoder.features
    sizes = {"obs": numbers, "action": seer.heads.actor.num_actions, "shape": list(seer.encoder.shape)}
    return {"algorithm": "pixels", "config": asdict(cfg), "sizes": sizes, "seer": seer.snapshot()}


def unpack(tree: Mapping[str, Any]) -> tuple[Seer, Config]:
    """Rebuild what was learnt, and the settings that it was learnt with; frozen weights are read from their file."""
    stored = checkpoint.settings(tree, Config)
    for name, kind in (("rlpd", rlpd.Config), ("encoder", encoder.Config)):
        stored[name] = kind(**checkpoint.settings({"config": stored[name]}, kind))
    cfg, sizes = Config(**stored), tree["sizes"]
    seer = make_seer(cfg, obs_size=sizes["obs"], num_actions=sizes["action"], shape=sizes["shape"])
    seer.restore(tree["seer"])
    return seer, cfg
