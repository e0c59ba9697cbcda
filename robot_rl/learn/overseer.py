"""Simulated overseers: who watches a policy, when it takes over, and how well it drives then.

Luo et al. 2024 (RLIF, arXiv 2311.12996): an overseer that judges by the value of a reference, or one that takes over
at random. Kelly et al. 2019 (HG-DAgger, arXiv 1810.02890): one that judges by the distance to its own action. The
numbers of ``UNIFORM`` are those of RLIF's released code for its baselines.

Knows: actions, action values, take-overs that last and pause. Does not know: what is learnt from them.

Shapes: N environments · A action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from robot_rl.learn.agent import Agent
from robot_rl.learn.ensemble import Layer, evaluate, split
from robot_rl.learn.env import joined

Act: TypeAlias = Callable[[dict[str, Tensor]], Tensor]
"""Observations, each (N, D_group), to actions in [-1, 1], (N, A)."""
Judge: TypeAlias = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Observations and actions (N, A) to how good it is to take these, (N,); or in E opinions, (E, N)."""

KINDS = ("value", "distance", "random", "uniform")


@dataclass(frozen=True, slots=True)
class Strategy:
    """When an overseer takes over; the defaults are RLIF's for the one that judges by value."""

    kind: str = "value"
    """``value``: the judge, in one of its opinions, prefers the reference's action; ``distance``: the expert's is far;
    ``random``: at every chance with ``rate``; ``uniform``: pauses and take-overs take turns."""
    relative: float = 0.97
    """value: take over where Q(robot) < relative * Q(reference); only for positive values."""
    margin: float | None = None
    """value: take over where Q(reference) > Q(robot) + margin instead; for values of any sign."""
    floor: float | None = None
    """value: take over too where the reference's action is worth less than this; who is about to fall is, whatever they
    do, and all actions are alike then."""
    threshold: float = 1.0
    """distance: take over where the L1 distance between the actions exceeds this."""
    certainty: float = 0.95
    """value, distance: chance to take over where it should, and not to where it should not."""
    rate: float = 0.5
    """random: chance to take over."""
    takeover_steps: tuple[int, int] = (4, 4)
    """Shortest and longest take-over, drawn uniformly [control steps]."""
    pause_steps: tuple[int, int] = (1, 1)
    """Shortest and longest rest after a take-over, in which the policy drives and nobody judges [control steps]."""
    hindsight: bool = False
    """value, distance: judge what the policy has just done, as people do, and its step is the one that is blamed. Else,
    as in RLIF's released code, what it is about to do, which is then never done: only who leads there is blamed."""
    errors: float = 0.0
    """Share of the steps in which who took over acts at random; the judge's reference does not."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no overseer {self.kind!r}; the choices are {KINDS}")
        for name in ("certainty", "rate", "errors"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"overseer: {name} is {getattr(self, name)}; it must lie in [0, 1]")
        for name, least in (("takeover_steps", 1), ("pause_steps", 0)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"overseer: {name} is {(low, high)}; shortest, then longest, at least {least}")


UNIFORM = (((1, 10), (1, 5)), ((1, 5), (3, 7)), ((1, 2), (4, 8)), ((1, 1), (12, 16)))
"""Pauses and take-overs of RLIF's baselines, from seldom to nearly always [control steps]."""


def at_random(rate: float) -> Strategy:
    """Return RLIF's random overseer: at every step anew with ``rate``; the paper has 0.3, 0.5 and 0.85."""
    return Strategy("random", rate=rate, takeover_steps=(1, 1), pause_steps=(0, 0))


def in_turns(level: int) -> Strategy:
    """Return the uniform overseer of ``UNIFORM[level]``."""
    pause, takeover = UNIFORM[level]
    return Strategy("uniform", takeover_steps=takeover, pause_steps=pause)


class Overseer:
    """Watches N environments and drives where it takes over.

    Args:
        strategy: When it takes over.
        num_envs: N.
        expert: How it drives, but for ``Strategy.errors``.
        judge: Values of actions; needed by ``value``.
        reference: Whose action the judge compares with; None is the expert's.
        seed: Of chances and durations.

    Raises:
        ValueError: ``value`` without a judge.
    """

    def __init__(
        self, strategy: Strategy, num_envs: int, *, expert: Act, judge: Judge | None = None,
        reference: Act | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        if strategy.kind == "value" and judge is None:
            raise ValueError(
                f"an overseer of kind 'value' needs a judge of action values, which a teacher trained by rlpd has; "
                f"others of {KINDS} do not"
            )
        self.strategy, self.expert = strategy, expert
        self._judge, self._reference = judge, reference
        self._generator = torch.Generator().manual_seed(seed)
        self._left = torch.zeros(num_envs, dtype=torch.int64)  # steps that the take-over goes on
        self._rest = torch.zeros(num_envs, dtype=torch.int64)  # steps that nobody judges
        self._done: tuple[dict[str, Tensor], Tensor] | None = None  # what was seen and executed last
        self._own = torch.zeros(num_envs, dtype=torch.bool)  # the policy did that, in this episode
        self.forget(torch.ones(num_envs, dtype=torch.bool))

    @torch.no_grad()
    def oversee(self, obs: dict[str, Tensor], robot: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action that is executed in every environment, (N, A), and whether the expert acts, bool (N,).

        Args:
            obs: What the policy and the expert see, (N, D) per group.
            robot: What the policy wants, (N, A).

        Raises:
            ValueError: The judge's values do not suit the relative test.
        """
        free = (self._left == 0) & (self._rest == 0)
        starts = free & (torch.rand(len(robot), generator=self._generator) < self._chance(obs, robot))
        length = self._draw(self.strategy.takeover_steps, len(robot))
        human = starts | (self._left > 0)
        self._rest = torch.where(human, self._rest, (self._rest - 1).clamp_min(0))
        self._left = torch.where(starts, length, self._left) - human.long()
        over = human & (self._left == 0)
        self._rest = torch.where(over, self._draw(self.strategy.pause_steps, len(robot)), self._rest)
        self._done, self._own = (obs, robot), ~human
        return torch.where(human[:, None], self.drive(obs), robot), human

    @torch.no_grad()
    def drive(self, obs: dict[str, Tensor]) -> Tensor:
        """Return what the expert does, errors included, (N, A)."""
        action = self.expert(obs)
        if self.strategy.errors > 0.0:
            errs = torch.rand(len(action), 1, generator=self._generator) < self.strategy.errors
            random = torch.rand(action.shape, generator=self._generator) * 2.0 - 1.0
            action = torch.where(errs, random, action)
        return action

    def forget(self, ended: Tensor) -> None:
        """End the take-overs of environments that begin a new episode, bool (N,)."""
        first = self._draw(self.strategy.pause_steps, len(ended))
        first = first if self.strategy.kind == "uniform" else torch.zeros_like(first)
        self._left, self._own = torch.where(ended, 0, self._left), self._own & ~ended
        self._rest = torch.where(ended, first, self._rest)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        done = None if self._done is None else list(self._done)
        counts = {"left": self._left, "rest": self._rest, "own": self._own}
        return counts | {"done": done, "generator": self._generator.get_state()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a state that ``snapshot`` returned."""
        self._left, self._rest, self._own = (snapshot[name].clone() for name in ("left", "rest", "own"))
        self._done = None if snapshot["done"] is None else (snapshot["done"][0], snapshot["done"][1])
        self._generator.set_state(snapshot["generator"])

    def _chance(self, obs: dict[str, Tensor], robot: Tensor) -> Tensor:
        """Return the probability of a take-over, (N,)."""
        strategy = self.strategy
        if strategy.kind in ("random", "uniform"):
            return torch.full((len(robot),), strategy.rate if strategy.kind == "random" else 1.0)
        if not strategy.hindsight:
            return torch.where(self._bad(obs, robot), strategy.certainty, 1.0 - strategy.certainty)
        if self._done is None:
            return torch.zeros(len(robot))
        chance = torch.where(self._bad(*self._done), strategy.certainty, 1.0 - strategy.certainty)
        return torch.where(self._own, chance, 0.0)

    def _bad(self, obs: dict[str, Tensor], robot: Tensor) -> Tensor:
        """Return where the policy should not go on, bool (N,)."""
        strategy = self.strategy
        if strategy.kind == "distance":
            return (self.expert(obs) - robot).abs().sum(-1) > strategy.threshold
        assert self._judge is not None, "checked at construction"
        twice = {name: torch.cat((x, x)) for name, x in obs.items()}
        both = self._judge(twice, torch.cat((robot, (self._reference or self.expert)(obs))))
        value, best = both.chunk(2, -1)
        lost = best < (-math.inf if strategy.floor is None else strategy.floor)
        if strategy.margin is not None:
            return _any_opinion(lost | (best > value + strategy.margin))
        if not bool(((best > 0.0) | lost).all()):
            raise ValueError(
                f"the judge values a reference action at {float(best.min()):.4g}; the relative test needs positive "
                "values: set Strategy.margin, which suits any sign"
            )
        return _any_opinion(lost | (value < strategy.relative * best))

    def _draw(self, span: tuple[int, int], n: int) -> Tensor:
        return torch.randint(span[0], span[1] + 1, (n,), generator=self._generator)


def _any_opinion(objects: Tensor) -> Tensor:
    return objects if objects.dim() == 1 else objects.any(0)


@dataclass(frozen=True, slots=True)
class Critics:
    """The judge that ensembles of critics are: an opinion of each, the mean of its members; all are asked in one go."""

    layers: list[Layer]
    """Of all members of all ensembles; the first takes what the critics' own inputs are made of."""
    opinions: int
    """E; alone it is no panel, and its values are (N,)."""

    @torch.no_grad()
    def __call__(self, obs: dict[str, Tensor], action: Tensor) -> Tensor:
        """Return values (E, N), or (N,) of a single opinion."""
        values = evaluate(self.layers, torch.cat((joined(obs), action), -1))
        means = values.view(self.opinions, -1, values.shape[-1]).mean(1)
        return means if self.opinions > 1 else means[0]


def by_critics(agent: Agent) -> Critics:
    """Return the judge that an RLPD agent's ensemble is: the mean of its critics."""
    first, *others = split(agent.critics.detach(), agent.shape)
    actions = agent.action_scale.expand(first.weight.shape[1] - len(agent.obs_scale))
    scale = torch.cat((agent.obs_scale, actions))[:, None]
    mean = torch.cat((agent.obs_mean, torch.zeros_like(actions)))[:, None]
    weight = first.weight * scale
    return Critics([first._replace(weight=weight, bias=first.bias - (weight * mean).sum(1, keepdim=True)), *others], 1)


def panel(judges: Sequence[Critics]) -> Critics:
    """Return a judge whose opinions are those of others, (E, N), or (N,) of one: who fools one has yet to fool all.

    Raises:
        ValueError: The judges' networks differ in shape, or there is none.
    """
    shapes = [[None if x is None else tuple(x.shape) for layer in judge.layers for x in layer] for judge in judges]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"a panel asks judges of one shape in one go; these have {shapes}")
    layers = [
        Layer(torch.cat([x.weight for x in same]), torch.cat([x.bias for x in same]),
              _joined([x.gain for x in same]), _joined([x.shift for x in same]))
        for same in zip(*(judge.layers for judge in judges), strict=True)
    ]  # fmt: skip
    return Critics(layers, sum(judge.opinions for judge in judges))


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None
