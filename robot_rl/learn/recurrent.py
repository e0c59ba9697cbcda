"""Policies and values with a memory: a GRU or LSTM in front of the perceptron, learnt by back-propagation through time.

A rollout is cut into *sequences*, one per piece of an episode, padded to one length; each starts from the memory that
the environment had (zeros after an end), so that the update sees exactly what was collected. Gradients stop at the
start of the rollout (truncated back-propagation, Werbos 1990); minibatches are of whole environments. The critic's
memory is carried from rollout to rollout beside the actor's.

Knows: recurrent cells, ends of episodes, which memory belongs where.
Does not know: losses, worlds, files.

Shapes: T time · N environments · D observation · F memory features · W memory width · A actions · S sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from robot_rl.learn.nets import Actor, Critic, Normaliser
from robot_rl.learn.rollout import Rollout

CHOICES = ("none", "gru", "lstm")
"""What ``Config.memory`` may be."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """T steps of N environments as padded sequences; all episodes' pieces, first those of environment 0."""

    index: Tensor
    """Which row t * N + n stands at each place, (L, S); padding repeats row 0."""
    lengths: Tensor
    """(S,), on the CPU."""
    state: Tensor
    """Memory at the start of each sequence, (S, W)."""
    rows: Tensor
    """Where each row t * N + n stands among the places, flat, (T * N,)."""
    ids: Tensor
    """Which sequence each row belongs to, (T, N)."""


def cut(ended: Tensor, state: Tensor) -> Sequences:
    """Cut a rollout into sequences.

    Args:
        ended: Whether the episode ended with the step, (T, N), bool.
        state: Memory of each environment before the first step, (N, W).
    """
    steps, count = ended.shape
    first = torch.ones_like(ended)
    first[1:] = ended[:-1]
    starts = first.t().flatten()  # (N*T,), environment by environment
    ids = starts.cumsum(0) - 1
    begin = starts.nonzero().squeeze(-1)  # (S,)
    place = torch.arange(steps * count, device=ended.device) - begin[ids]
    lengths = torch.bincount(ids)
    length, pieces = int(lengths.max()), len(lengths)
    times, envs = torch.arange(steps, device=ended.device), torch.arange(count, device=ended.device)
    row = (times[None, :] * count + envs[:, None]).flatten()  # (N*T,)
    index = torch.zeros(length, pieces, dtype=torch.int64, device=ended.device)
    index[place, ids] = row
    rows = torch.empty_like(row)
    rows[row] = place * pieces + ids
    start = torch.zeros(pieces, state.shape[1], dtype=state.dtype, device=state.device)
    start[ids.view(count, steps)[:, 0]] = state
    return Sequences(index, lengths.cpu(), start, rows, ids.view(count, steps).t())


class Memory(nn.Module):
    """One recurrent layer; its state is one tensor (..., W): hidden features, and for an LSTM the cells behind."""

    def __init__(self, kind: str, size: int, features: int, *, generator: torch.Generator | None = None) -> None:
        """Build the layer.

        Args:
            kind: ``gru`` or ``lstm``.
            size: Width of the input.
            features: F.
            generator: Source of the weights, uniform within 1/sqrt(F).
        """
        super().__init__()
        if kind not in CHOICES[1:]:
            raise ValueError(f"no memory {kind!r}; the choices are {CHOICES}")
        self.features = features
        self.rnn = (nn.GRU if kind == "gru" else nn.LSTM)(size, features)
        bound = 1.0 / math.sqrt(features)
        with torch.no_grad():
            for parameter in self.rnn.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    @property
    def width(self) -> int:
        """W."""
        return self.features * (2 if isinstance(self.rnn, nn.LSTM) else 1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step from memory (N, W) with inputs (N, D); return features (N, F) and the memory after it."""
        out, after = self.rnn(x.unsqueeze(0), self._split(state))
        return out.squeeze(0), self._join(after)

    def replay(self, x: Tensor, sequences: Sequences) -> Tensor:
        """Return the features of every row, (T * N, F), from inputs (T * N, D)."""
        out, _ = self.rnn(x[sequences.index], self._split(sequences.state))
        return out.flatten(0, 1)[sequences.rows]

    def replay_to_end(self, x: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Return ``replay``'s features, and the memory at the end of each sequence, (S, W)."""
        packed = nn.utils.rnn.pack_padded_sequence(x[sequences.index], sequences.lengths, enforce_sorted=False)
        out, after = self.rnn(packed, self._split(sequences.state))
        padded, _ = nn.utils.rnn.pad_packed_sequence(out)
        return padded.flatten(0, 1)[sequences.rows], self._join(after)

    def _split(self, state: Tensor) -> Any:
        if isinstance(self.rnn, nn.GRU):
            return state.unsqueeze(0).contiguous()
        h, c = state.unsqueeze(0).split(self.features, -1)
        return h.contiguous(), c.contiguous()

    def _join(self, after: Any) -> Tensor:
        return (after if isinstance(after, Tensor) else torch.cat(after, -1)).squeeze(0)


class RecurrentActor(nn.Module):
    """An ``Actor`` on the features of a memory, with the memory of every environment that it acts in."""

    def __init__(
        self, kind: str, obs_size: int, features: int, head: Actor, *, generator: torch.Generator | None = None
    ) -> None:
        """Put a memory of ``kind`` with F ``features`` in front of ``head``, whose normaliser is left alone."""
        super().__init__()
        self.norm = Normaliser(obs_size)
        self.memory = Memory(kind, obs_size, features, generator=generator)
        self.head = head
        self.state: Tensor | None = None
        """Memory of each environment, (N, W); None before the first step."""

    @property
    def log_std(self) -> nn.Parameter:
        """The head's."""
        return self.head.log_std

    @property
    def num_actions(self) -> int:
        """A."""
        return self.head.num_actions

    def forward(self, obs: Tensor) -> Tensor:
        """Act without exploration on raw observations (N, D), and remember; see ``begin`` and ``forget``."""
        features = self._remember(self.norm(obs))
        return torch.tanh(self.head.distribution(features)[0])

    @torch.no_grad()
    def act(self, obs: Tensor, state: Tensor, xi: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Act on raw observations (N, D) from memory (N, W), which is given back, (N, W), and not kept.

        Args:
            obs: Raw observations, (N, D).
            state: Memory before, (N, W).
            xi: gSDE only: explore with this standard normal matrix, (F, A) of the head; None is the mean.

        Returns:
            Actions in [-1, 1], (N, A), and the memory after, (N, W).
        """
        features, after = self.memory.step(self.norm(obs), state)
        z = self.head.mlp.features(features)
        u = self.head.mlp.layers[-1](z)
        if xi is not None:
            u = u + self.head.noise(z, xi)
        return torch.tanh(u), after

    def clear(self) -> None:
        """Forget everything, of all environments."""
        self.state = None

    def begin(self, num_envs: int) -> Tensor:
        """Return the memory of each environment as it is now, (N, W); zeros where there is none of so many."""
        self.state = _memory_of(num_envs, self.state, self.memory)
        return self.state.clone()

    @torch.no_grad()
    def forget(self, ended: Tensor) -> None:
        """Clear the memory where the episode ended, (N,) bool."""
        assert self.state is not None, "memory: nothing to forget before the first step"
        self.state = self.state * (~ended).unsqueeze(-1)

    def redraw(self, num_envs: int, *, generator: torch.Generator | None = None) -> None:
        """Draw gSDE's matrices, as ``Actor.redraw``."""
        self.head.redraw(num_envs, generator=generator)

    def explore(self, normalised: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Sample ``u`` and return it with its mean and deviation, each (N, A), and remember."""
        return self.head.explore(self._remember(normalised), generator=generator)

    def distribution(self, normalised: Tensor, ended: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of ``u`` for every row, each (T * N, A).

        Args:
            normalised: Observations of T steps of N environments, (T * N, D).
            ended: Whether the episode ended with the row, (T * N,).
            state: Memory before the first step, (N, W).
        """
        sequences = cut(ended.view(-1, len(state)) > 0.5, state)
        return self.head.distribution(self.memory.replay(normalised, sequences))

    def _remember(self, normalised: Tensor) -> Tensor:
        features, self.state = self.memory.step(normalised, _memory_of(len(normalised), self.state, self.memory))
        return features


class RecurrentCritic(nn.Module):
    """A ``Critic`` on the features of a memory."""

    def __init__(
        self, kind: str, obs_size: int, features: int, head: Critic, *, generator: torch.Generator | None = None
    ) -> None:
        """Put a memory of ``kind`` with F ``features`` in front of ``head``, whose normaliser is left alone."""
        super().__init__()
        self.norm = Normaliser(obs_size)
        self.memory = Memory(kind, obs_size, features, generator=generator)
        self.head = head
        self.state: Tensor | None = None
        """Memory of each environment at the start of the next rollout, (N, W)."""

    def forward(self, normalised: Tensor, ended: Tensor, state: Tensor) -> Tensor:
        """Return V of every row, (T * N,); arguments as in ``RecurrentActor.distribution``."""
        sequences = cut(ended.view(-1, len(state)) > 0.5, state)
        return self.head(self.memory.replay(normalised, sequences))

    @torch.no_grad()
    def of_rollout(self, rollout: Rollout) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Value a rollout and carry the memory on.

        Returns:
            V(s_t) and V of the true successors, each (T, N), and what ``context`` and ``minibatches`` need.
        """
        assert rollout.memory is not None, "memory: the rollout was collected without"
        ended, obs = ends(rollout), self.norm(rollout.critic_obs.flatten(0, 1))
        start = _memory_of(ended.shape[1], self.state, self.memory)
        sequences = cut(ended, start)
        features, after = self.memory.replay_to_end(obs, sequences)
        value = self.head(features).view_as(rollout.reward)
        self.state = after[sequences.ids[-1]] * (~ended[-1]).unsqueeze(-1)
        last = self._next(rollout.last_critic_obs, self.state)
        successor = torch.cat((value[1:], last.unsqueeze(0)))
        if rollout.cut_at:  # a truncated step ends its sequence: the memory there is that of the end
            where = torch.cat(rollout.cut_at)
            successor.view(-1)[where] = self._next(torch.cat(rollout.cut_obs), after[sequences.ids.flatten()[where]])
        needed = {"ended": ended.flatten().float(), "actor_state": rollout.memory, "critic_state": start}
        return value, successor, needed

    def _next(self, obs: Tensor, state: Tensor) -> Tensor:
        return self.head(self.memory.step(self.norm(obs), state)[0])


def wrap(
    kind: str, actor: Actor, critic: Critic, sizes: tuple[int, int], *, generator: torch.Generator
) -> tuple[Actor, Critic]:
    """Put memories in front of two heads, which take the memories' features; what comes back acts like them.

    Args:
        kind: ``gru`` or ``lstm``.
        actor: Takes the features of its memory.
        critic: Takes the features of its own.
        sizes: Widths of what the two memories see.
        generator: Source of the weights.
    """
    features = actor.norm.mean.shape[0], critic.norm.mean.shape[0]
    wrapped = RecurrentActor(kind, sizes[0], features[0], actor, generator=generator)
    values = RecurrentCritic(kind, sizes[1], features[1], critic, generator=generator)
    return cast("Actor", wrapped), cast("Critic", values)


def ends(rollout: Rollout) -> Tensor:
    """Return whether the world began anew after each step, (T, N); a soft termination does not."""
    return (rollout.terminated >= 1.0) | rollout.truncated


def context(mb: Mapping[str, Tensor], who: str) -> tuple[Tensor, ...]:
    """Return what ``actor`` or ``critic`` needs beside the observations of a minibatch; nothing without a memory."""
    return (mb["ended"], mb[f"{who}_state"]) if "ended" in mb else ()


def minibatches(batch: Mapping[str, Tensor], count: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Cut a batch into ``count`` parts of whole environments, shuffled.

    Args:
        batch: Columns of T * N rows, row t * N + n, and ``actor_state``, ``critic_state`` of N rows.
        count: Parts of a pass; at most N.
        generator: Shuffles.
    """
    envs, rows = len(batch["actor_state"]), len(batch["u"])
    device = batch["u"].device
    times = torch.arange(0, rows, envs, device=device).unsqueeze(-1)  # (T, 1)
    for part in torch.randperm(envs, generator=generator, device=device).tensor_split(min(count, envs)):
        chosen = (times + part).flatten()
        yield {name: x[part if name.endswith("_state") else chosen] for name, x in batch.items()}


def pack(actor: nn.Module, critic: nn.Module) -> dict[str, Tensor | None] | None:
    """Return the memories of all environments as a tree for ``checkpoint.save``; None without a memory."""
    if not isinstance(actor, RecurrentActor) or not isinstance(critic, RecurrentCritic):
        return None
    return {"actor": actor.state, "critic": critic.state}


def restore(actor: nn.Module, critic: nn.Module, tree: Mapping[str, Tensor | None] | None) -> None:
    """Continue from memories that ``pack`` returned."""
    if tree is None or not isinstance(actor, RecurrentActor) or not isinstance(critic, RecurrentCritic):
        return
    place = actor.log_std.device
    actor.state, critic.state = (None if x is None else x.to(place) for x in (tree["actor"], tree["critic"]))


def _memory_of(count: int, state: Tensor | None, memory: Memory) -> Tensor:
    if state is not None and len(state) == count:
        return state
    weight = memory.rnn.weight_hh_l0
    assert isinstance(weight, Tensor)
    return torch.zeros(count, memory.width, device=weight.device, dtype=weight.dtype)
