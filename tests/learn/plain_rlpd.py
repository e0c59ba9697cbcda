"""The RLPD family written plainly: a loop of ``nn.Sequential`` critics, autograd, ``torch.optim.Adam``.

One minibatch and one critic at a time, with the random numbers of the fast update.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from robot_rl.learn import dropout
from robot_rl.learn.dropout import Drops
from robot_rl.learn.ensemble import split
from robot_rl.learn.rlpd import Agent, Batch, Config


class Sitting(nn.Module):
    """Dropout with a given mask, (B, H), 1 where a unit stays."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.mask = rate, torch.ones(())

    def forward(self, h: Tensor) -> Tensor:
        return h * self.mask / (1.0 - self.rate)


def sequential(agent: Agent, flat: Tensor, rate: float) -> list[nn.Sequential]:
    """The members of ``flat`` as ordinary modules."""
    members = []
    for e in range(agent.shape.members):
        modules: list[nn.Module] = []
        *hidden, last = split(flat, agent.shape)
        for layer in hidden:
            linear, norm = nn.Linear(*layer.weight.shape[1:]), nn.Identity()
            linear.weight.data.copy_(layer.weight[e].T)
            linear.bias.data.copy_(layer.bias[e, 0])
            if layer.gain is not None and layer.shift is not None:
                norm = nn.LayerNorm(layer.weight.shape[2])
                norm.weight.data.copy_(layer.gain[e, 0])
                norm.bias.data.copy_(layer.shift[e, 0])
            modules += [linear, Sitting(rate), norm, nn.ReLU()]
        top = nn.Linear(last.weight.shape[1], 1)
        top.weight.data.copy_(last.weight[e].T)
        top.bias.data.copy_(last.bias[e, 0])
        members.append(nn.Sequential(*modules, top))
    return members


class Reference:
    """The update written plainly, one minibatch and one critic at a time."""

    def __init__(self, agent: Agent, cfg: Config) -> None:
        self.cfg = cfg
        self.critics = sequential(agent, agent.critics.detach(), cfg.dropout)
        self.targets = copy.deepcopy(self.critics)
        self.actor, self.start = copy.deepcopy(agent.actor), copy.deepcopy(agent.start)
        self.log_temperature = nn.Parameter(agent.log_temperature.detach().clone())
        self.mean, self.scale = agent.obs_mean.clone(), agent.obs_scale.clone()
        self.generator = torch.Generator()
        self.generator.set_state(agent.generator.get_state())
        self.critic_adam = torch.optim.Adam([p for q in self.critics for p in q.parameters()], lr=cfg.critic_lr)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=cfg.actor_lr)
        self.temperature_adam = torch.optim.Adam([self.log_temperature], lr=cfg.temperature_lr)
        self.actor_updates = 0

    def value(self, critics: list[nn.Sequential], obs: Tensor, action: Tensor, drops: Drops | None = None) -> Tensor:
        self.seat(critics, len(obs), drops)
        x = torch.cat(((obs - self.mean) * self.scale, self.cfg.action_scale * action), -1)
        return torch.stack([q(x).squeeze(-1) for q in critics])

    def seat(self, critics: list[nn.Sequential], rows: int, drops: Drops | None) -> None:
        """Hand every dropout layer its part of the mask; without drops all units stay and none is scaled."""
        for i, width in enumerate(self.cfg.hidden):
            mask = torch.ones(len(critics), rows, width)
            if drops is not None:
                mask.view(-1)[drops.at[i]] = 0.0
            for q, part in zip(critics, mask, strict=True):
                layer = [m for m in q if isinstance(m, Sitting)][i]
                layer.mask, layer.rate = part, 0.0 if drops is None else self.cfg.dropout

    def drops(self, members: int, rows: int, passes: int) -> list[Drops] | list[None]:
        cfg = self.cfg
        return dropout.draw(
            cfg.dropout, cfg.hidden, members=members, rows=rows, passes=passes, generator=self.generator
        )

    def target(self, batch: Batch, xi: Tensor, drops: Drops | None) -> Tensor:
        cfg = self.cfg
        with torch.no_grad():
            action, log_prob, _ = self.actor.sample(batch.next_obs, xi)
            chosen = list(range(cfg.critics))
            if cfg.subset < cfg.critics:
                whole = int(cfg.subset)
                chosen = torch.randperm(cfg.critics, generator=self.generator).tolist()
                if cfg.subset > whole:
                    whole += int(torch.rand((), generator=self.generator) < cfg.subset - whole)
                chosen = chosen[:whole]
            low = self.value([self.targets[i] for i in chosen], batch.next_obs, action, drops).min(0).values
            if cfg.backup_entropy:
                low = low - self.log_temperature.exp() * log_prob
            return batch.reward + cfg.discount * (1.0 - batch.terminated) * low

    def update(self, batch: Batch) -> None:
        cfg, size = self.cfg, batch.obs.shape[0] // self.cfg.utd
        xi = self.actor.noise(len(batch.action), matrices=cfg.utd, generator=self.generator)
        per = len(xi) // cfg.utd  # rows of noise per minibatch, or one matrix
        now = self.drops(cfg.critics, size, cfg.utd)
        then = self.drops(math.ceil(cfg.subset), size, cfg.utd)
        part = batch
        for u in range(cfg.utd):
            part = Batch(*(t[u * size : (u + 1) * size] for t in batch))
            y = self.target(part, xi[u * per : (u + 1) * per], then[u])
            loss = sum((q - y).square().mean() for q in self.value(self.critics, part.obs, part.action, now[u]))
            self.critic_adam.zero_grad()
            loss.backward()  # pyright: ignore[reportAttributeAccessIssue]
            self.critic_adam.step()
            with torch.no_grad():
                for q, t in zip(self.critics, self.targets, strict=True):
                    for a, b in zip(q.parameters(), t.parameters(), strict=True):
                        b.mul_(1.0 - cfg.tau).add_(a, alpha=cfg.tau)
        self.improve(part)

    def improve(self, part: Batch) -> None:
        cfg = self.cfg
        xi = self.actor.noise(len(part.obs), matrices=1, generator=self.generator)
        action, log_prob, mean = self.actor.sample(part.obs, xi)
        q = self.value(self.critics, part.obs, action, self.drops(cfg.critics, len(part.obs), 1)[0])
        q = q.mean(0) if cfg.actor_reduce == "mean" else q.min(0).values
        scale = q.detach().abs().mean() + 1e-6 if cfg.scale_value else 1.0
        temperature = self.log_temperature.exp()
        loss = (temperature.detach() * log_prob - q / scale).mean()
        weight = cfg.anchor * 0.5 ** (self.actor_updates / cfg.anchor_half_life)
        loss = loss + weight * (mean - self.start(part.obs).detach()).square().sum(-1).mean()
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        goal = -0.5 * action.shape[-1] if cfg.target_entropy is None else cfg.target_entropy
        self.temperature_adam.zero_grad()
        (temperature * (-log_prob.detach().mean() - goal)).backward()
        self.temperature_adam.step()
        self.actor_updates += 1
