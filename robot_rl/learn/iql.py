"""IQL: offline learning that never asks a critic about an action that is not in the data.

Kostrikov, Nair and Levine 2022, arXiv 2110.06169. V is an expectile of Q over the actions of the data (eq. 5), Q
bootstraps from V (eq. 6), the policy imitates actions weighted by their advantage (eq. 7). In this order: V, policy,
Q, target average; policy and Q see the new V. ``begin_online`` hands policy and critics over to RLPD, which then
starts where IQL ended.

Shapes: B batch · E critics · D observation, whose first D_a columns the policy sees · A action · P parameters.

Deviations from the paper: critics and V see observations normalised by the data's statistics, which are folded into
the policy's first layer at its start; no dropout in the policy (the paper has it for Adroit and Kitchen).

Knows: losses and their order, the hand-over. Does not know: stores, files, worlds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.learn import checkpoint, ensemble, fused, rlpd
from robot_rl.learn.agent import Agent
from robot_rl.learn.nets import DenseNet, Mlp


@dataclass(frozen=True, slots=True)
class Config:
    """Defaults are the paper's for locomotion; AntMaze: expectile 0.9, inverse temperature 10, rewards less 1."""

    expectile: float = 0.7
    """0.5 is the mean of Q over the data's actions; towards 1 their maximum."""
    inverse_temperature: float = 3.0
    """Weight of the advantage in the exponent; 0 is plain imitation."""
    weight_clip: float = 100.0
    critics: int = 2
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    """In the critics; RLPD's carry it, and are taken over from here."""
    actor_hidden: tuple[int, ...] = (256, 256)
    batch: int = 256
    discount: float = 0.99
    tau: float = 0.005
    actor_lr: float = 3e-4
    """Falls to 0 along a cosine over ``updates``."""
    critic_lr: float = 3e-4
    value_lr: float = 3e-4
    log_std_range: tuple[float, float] = (-5.0, 2.0)
    n_step: int = 1
    seed: int = 0
    updates: int = 1_000_000
    block: int = 50
    """Updates per call of ``update``, whose minibatches are gathered at once."""
    log_every: int = 1_000
    """Updates between rows of ``metrics.jsonl``."""
    save_every: int = 50_000
    """Updates between checkpoints."""

    def __post_init__(self) -> None:
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile is {self.expectile}; it must lie strictly between 0 and 1")
        for name in ("critics", "batch", "n_step", "updates", "block", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        for name in ("log_every", "save_every", "updates"):
            if getattr(self, name) % self.block:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a multiple of block = {self.block}")


class Policy(nn.Module):
    """A Gaussian around ``tanh(mlp(obs))`` with one deviation per action, whatever the observation."""

    def __init__(self, obs_size: int, num_actions: int, cfg: Config, generator: torch.Generator) -> None:
        """Build it with deviations of 1."""
        super().__init__()
        sizes = (obs_size, *cfg.actor_hidden, num_actions)
        self.obs_size, self.log_std_range = obs_size, cfg.log_std_range
        self.mlp = Mlp(sizes, activation="relu", orthogonal=False, generator=generator)
        self.log_std = nn.Parameter(torch.zeros(num_actions))

    def forward(self, obs: Tensor) -> Tensor:
        """Return the deterministic action, (..., A), for raw observations (..., D_a)."""
        return torch.tanh(self.mlp(obs))

    @torch.no_grad()
    def as_mlp(self) -> DenseNet:
        """Return the deterministic policy as arrays."""
        layers = tuple((x.weight.numpy().copy(), x.bias.numpy().copy()) for x in self.mlp.linears())
        return DenseNet(layers=layers, activation=self.mlp.activation)


@dataclass(slots=True)
class Student:
    """All that learning changes."""

    policy: Policy
    shape: ensemble.Shape
    value_shape: ensemble.Shape
    value: nn.Parameter
    critics: nn.Parameter
    """(P,)"""
    targets: Tensor
    """(P,)"""
    obs_mean: Tensor
    obs_scale: Tensor
    """1 over the deviation, (D,)."""
    policy_adam: torch.optim.Adam
    value_adam: torch.optim.Adam
    critic_adam: torch.optim.Adam
    updates: int = 0

    @property
    def actor(self) -> Policy:
        """The policy, by the name that every algorithm has for it."""
        return self.policy

    @property
    def action_scale(self) -> Tensor:
        """Its critics see actions as they are, ()."""
        return torch.ones(())

    @property
    def steps(self) -> int:
        """Updates behind it: IQL takes no steps in a world."""
        return self.updates

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree of tensors and numbers."""
        return {
            "policy": dict(self.policy.state_dict()),
            "tensors": {name: getattr(self, name).detach() for name in _TENSORS},
            "adam": {name: getattr(self, f"{name}_adam").state_dict() for name in _ADAMS},
            "updates": self.updates,
        }

    @torch.no_grad()
    def restore(self, tree: dict[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self.policy.load_state_dict(tree["policy"])
        for name in _TENSORS:
            getattr(self, name).copy_(tree["tensors"][name])
        for name in _ADAMS:
            getattr(self, f"{name}_adam").load_state_dict(tree["adam"][name])
        self.updates = tree["updates"]


_TENSORS = ("value", "critics", "targets", "obs_mean", "obs_scale")
_ADAMS = ("policy", "value", "critic")


@torch.no_grad()
def make_student(
    cfg: Config, obs: Tensor, *, num_actions: int, policy_obs_size: int = 0, floor: float = 1e-2
) -> Student:
    """Build a fresh learner for data with the observations ``obs`` (n, D).

    Args:
        cfg: Sizes and rates.
        obs: All observations of the data, or a fair sample; they give the normaliser.
        num_actions: A.
        policy_obs_size: D_a; 0 is D.
        floor: Added to deviations, so that constant columns are not blown up.
    """
    generator = torch.Generator().manual_seed(cfg.seed)
    std, mean = torch.std_mean(obs, 0)
    scale, wide = 1.0 / (std + floor), obs.shape[-1]
    width = policy_obs_size or wide
    policy = Policy(width, num_actions, cfg, generator)
    first = policy.mlp.linears()[0]
    first.weight.mul_(scale[:width])
    first.bias.sub_(first.weight @ mean[:width])
    shape = ensemble.Shape(wide + num_actions, cfg.hidden, cfg.critics, cfg.layer_norm)
    value_shape = ensemble.Shape(wide, cfg.hidden, 1, layer_norm=False)
    critics, value = (nn.Parameter(ensemble.init_ensemble(s, generator)) for s in (shape, value_shape))
    for net in (critics, value):
        net.grad = torch.zeros_like(net)
    fused.gather(policy)
    return Student(
        policy=policy,
        shape=shape,
        value_shape=value_shape,
        value=value,
        critics=critics,
        targets=critics.detach().clone(),
        obs_mean=mean,
        obs_scale=scale,
        policy_adam=torch.optim.Adam(policy.parameters(), lr=cfg.actor_lr, fused=True),
        value_adam=torch.optim.Adam([value], lr=cfg.value_lr, fused=True),
        critic_adam=torch.optim.Adam([critics], lr=cfg.critic_lr, fused=True),
    )


@torch.no_grad()
def update(student: Student, batch: rlpd.Batch, cfg: Config) -> dict[str, float]:
    """Take one step of everything per minibatch of ``batch``; return means over them."""
    obs = (batch.obs - student.obs_mean) * student.obs_scale
    next_obs = (batch.next_obs - student.obs_mean) * student.obs_scale
    x = torch.cat((obs, batch.action), -1)  # (U*B, D+A)
    mask, seen = cfg.discount * (1.0 - batch.terminated), torch.zeros(5)
    value, critics, targets = _views(student)
    for begin in range(0, len(x), cfg.batch):
        at = slice(begin, begin + cfg.batch)
        low = ensemble.evaluate(targets, x[at]).amin(0)  # (B,)
        value_loss = _fit_value(student, value, obs[at], low, cfg)
        advantage = low - ensemble.evaluate(value, obs[at])[0]
        weight = advantage_weight(advantage, cfg)
        imitation = _imitate(student, batch.obs[at, : student.policy.obs_size], batch.action[at], weight, cfg)
        y = batch.reward[at] + mask[at] * ensemble.evaluate(value, next_obs[at])[0]  # (B,)
        assert student.critics.grad is not None
        q = ensemble.regress(critics, ensemble.split(student.critics.grad, student.shape), x[at], y)
        fused.adam_step(student.critic_adam)
        student.targets.lerp_(student.critics, cfg.tau)
        student.updates += 1
        seen += torch.stack(((q - y).square().mean(), value_loss, imitation, q.mean(), weight.mean()))
    names = ("critic_loss", "value_loss", "log_prob", "q", "weight")
    return dict(zip(names, (seen * (cfg.batch / len(x))).tolist(), strict=True))


def advantage_weight(advantage: Tensor, cfg: Config) -> Tensor:
    """Return ``min(exp(beta (Q - V)), clip)``, shape (B,) (eq. 7; the clip is the authors' code's)."""
    return (cfg.inverse_temperature * advantage).exp().clamp(max=cfg.weight_clip)


def _views(student: Student) -> tuple[list[ensemble.Layer], ...]:
    value = ensemble.split(student.value.detach(), student.value_shape)
    return (value, *(ensemble.split(x.detach(), student.shape) for x in (student.critics, student.targets)))


def _fit_value(student: Student, layers: list[ensemble.Layer], obs: Tensor, low: Tensor, cfg: Config) -> Tensor:
    """One step on ``mean |expectile - 1(u < 0)| u^2`` with u = Q - V (eq. 5); return the loss."""
    tape: list[ensemble.Tape] = []
    u = low - ensemble.evaluate(layers, obs, tape)  # (1, B)
    weight = torch.where(u < 0.0, 1.0 - cfg.expectile, cfg.expectile)
    assert student.value.grad is not None
    grads = ensemble.split(student.value.grad, student.value_shape)
    ensemble.backward(layers, tape, (-2.0 / len(obs)) * weight * u, grads)
    fused.adam_step(student.value_adam)
    return (weight * u.square()).mean()


def _imitate(student: Student, obs: Tensor, action: Tensor, weight: Tensor, cfg: Config) -> Tensor:
    """One step of the policy on ``-mean(weight log pi(a|s))`` (eq. 7); return the mean log-probability."""
    policy, scaled = student.policy, weight[:, None] / len(obs)
    tape = fused.run(policy.mlp, obs)
    mean = tape[-1].tanh()
    low, high = cfg.log_std_range
    log_std = policy.log_std.clamp(low, high)
    z = (action - mean) / log_std.exp()  # (B, A)
    d_raw = torch.ops.aten.tanh_backward(-scaled * z / log_std.exp(), mean)
    fused.backward(policy.mlp, tape, d_raw)
    d_log_std = (scaled * (1.0 - z.square())).sum(0)
    inside = (policy.log_std >= low) & (policy.log_std <= high)
    fused.grad_of(policy.log_std).copy_(torch.where(inside, d_log_std, 0.0))
    past = min(1.0, student.updates / cfg.updates)
    student.policy_adam.param_groups[0]["lr"] = cfg.actor_lr * 0.5 * (1.0 + math.cos(math.pi * past))
    fused.adam_step(student.policy_adam)
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1).mean()


def pack(student: Student, cfg: Config) -> dict[str, Any]:
    """Return the student as a tree for ``checkpoint.save``."""
    wide = len(student.obs_mean)
    sizes = {"policy": student.policy.obs_size, "critic": wide, "action": student.shape.inputs - wide}
    return {"algorithm": "iql", "config": asdict(cfg), "sizes": sizes, "student": student.snapshot()}


def unpack(tree: Mapping[str, Any]) -> tuple[Student, Config]:
    """Rebuild the student and the settings that it learnt with."""
    cfg, sizes = Config(**checkpoint.settings(tree, Config)), tree["sizes"]
    student = make_student(
        cfg, torch.zeros(2, sizes["critic"]), num_actions=sizes["action"], policy_obs_size=sizes["policy"]
    )  # fmt: skip
    student.restore(tree["student"])
    return student, cfg


def begin_online(student: Student, cfg: rlpd.Config) -> Agent:
    """Return an agent of RLPD whose actor, critics, targets and normaliser are those that were learnt offline.

    Args:
        student: What IQL learnt.
        cfg: RLPD's settings; its critics must be of the same sizes. Its actor begins at IQL's, with ``start_std``.

    Raises:
        ValueError: The critics differ in number, widths or LayerNorm, or the actor's mean shall be clipped.
    """
    shape = student.shape
    wanted = {
        "critics": cfg.critics, "hidden": cfg.hidden, "layer_norm": cfg.layer_norm, "action_scale": cfg.action_scale
    }  # fmt: skip
    learnt = {
        "critics": shape.members, "hidden": shape.hidden, "layer_norm": shape.layer_norm,
        "action_scale": float(student.action_scale),
    }  # fmt: skip
    if wanted != learnt:
        raise ValueError(f"RLPD wants critics {wanted}; those learnt offline are {learnt}")
    wide = len(student.obs_mean)
    actions = shape.inputs - wide
    agent = rlpd.make_agent(
        cfg, obs_size=student.policy.obs_size, num_actions=actions,
        start=student.policy.as_mlp(), critic_obs_size=wide,
    )  # fmt: skip
    with torch.no_grad():
        agent.critics.copy_(student.critics)
        agent.targets.copy_(student.targets)
        agent.obs_mean.copy_(student.obs_mean)
        agent.obs_scale.copy_(student.obs_scale)
    return agent
