"""Who is imitated, or takes over and judges: a policy that was trained before and learns no more.

Knows: checkpoints of PPO and RLPD. Does not know: what is learnt from a teacher.

Shapes: N environments · D observation · A actions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robot_rl.learn import checkpoint, ppo, rlpd_file
from robot_rl.learn.overseer import Judge, by_critics


@dataclass(frozen=True, slots=True)
class Teacher:
    """A policy and, where its training had any, its critics."""

    actor: nn.Module
    """From raw observations to actions in [-1, 1]."""
    group: str
    """Observation group that it sees."""
    judge: Judge | None = None
    """Values of actions; RLPD's teachers alone have them."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, 64 hex digits."""
        digest = hashlib.sha256()
        for name, x in sorted(self.actor.state_dict().items()):
            digest.update(name.encode() + x.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def label(self, obs: dict[str, Tensor]) -> Tensor:
        """Return the actions in [-1, 1] that it would have taken, (..., A), from raw observations (..., D)."""
        return self.actor(obs[self.group])


def load_teacher(path: Path, sizes: dict[str, int], device: torch.device | str = "cpu") -> Teacher:
    """Read a checkpoint of PPO or RLPD as a teacher.

    Args:
        path: The checkpoint.
        sizes: Widths of the world's observation groups and ``action``.
        device: Where it shall live; a judge lives on the CPU.

    Raises:
        ValueError: It is of another algorithm, has a memory, or sees or does something else than the world offers.
    """
    tree = checkpoint.load(path)
    if tree.get("algorithm") == "rlpd":
        try:
            trained, _ = rlpd_file.unpack(tree)
        except ValueError as error:
            raise ValueError(f"the teacher {path} is {error}") from error
        wide = sum(width for name, width in sizes.items() if name != "action")
        actor, own = trained.actor, tree["sizes"]
        _check_sizes(path, {"policy": own["policy"], "action": own["action"]}, sizes)
        judge = by_critics(trained.agent) if own["critic"] == wide else None
        return Teacher(actor.to(device).requires_grad_(False), "policy", judge)
    if tree.get("algorithm") != "ppo":
        raise ValueError(f"the teacher {path} is a checkpoint of {tree.get('algorithm')!r}, not of 'ppo' or 'rlpd'")
    agent, cfg = ppo.unpack(tree)
    if cfg.memory != "none":
        raise ValueError(
            f"the teacher {path} has memory {cfg.memory!r}; it would be asked about each step alone: "
            "train a teacher with memory 'none'"
        )
    _check_sizes(path, {name: agent.sizes[name] for name in (cfg.actor_obs, "action")}, sizes)
    return Teacher(agent.actor.to(device).requires_grad_(False), cfg.actor_obs)


def _check_sizes(path: Path, own: dict[str, int], sizes: dict[str, int]) -> None:
    for name, width in own.items():
        if width != sizes.get(name):
            raise ValueError(f"the teacher {path} was trained with {name} of {width}; the world has {sizes}")
