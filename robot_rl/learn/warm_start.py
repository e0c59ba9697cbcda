"""Critics that a run has learnt before, from data or in a world, for a learner that goes on from the same policy.

A released file has the policy alone. With fresh critics its fine-tuning has to wait until they know something; with
those of the run that it came from, it need not (IQL: Kostrikov et al. 2022, arXiv 2110.06169, section 5.3).

Knows: checkpoints of rlpd, iql, rlif and aprl. Does not know: how critics learn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robot_rl.learn import aprl, checkpoint, iql, rlif, rlpd_file
from robot_rl.learn.agent import Agent
from robot_rl.learn.ensemble import Shape
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.offline_online import OFFLINE
from robot_rl.learn.report import RUN_FILE

_TENSORS = ("critics", "targets", "obs_mean", "obs_scale", "action_scale")


@dataclass(frozen=True, slots=True)
class Critics:
    """What a run knows of values."""

    path: Path
    reward: str
    """What is valued, as ``recipe.Recipe.reward`` or ``tuning.FineTuning.reward`` names it."""
    policy: DenseNet
    """Whose values they are."""
    shape: Shape
    discount: float
    tensors: dict[str, Tensor]
    """``critics``, ``targets`` and how these see observations and actions, as ``Agent`` has them."""


def read_critics(path: Path) -> Critics:
    """Read the critics of a checkpoint.

    Raises:
        ValueError: The file is no whole checkpoint, or of an algorithm that keeps no critics of actions.
    """
    tree = checkpoint.load(path)
    algorithm, reward = str(tree.get("algorithm")), _reward_of(path)
    if algorithm == "iql":
        source, cfg = iql.unpack(tree)
        policy, discount = source.policy.as_mlp(), cfg.discount
    elif algorithm == "rlpd":
        trained, settings = rlpd_file.unpack(tree)
        source, policy, discount = trained.agent, trained.actor.as_mlp(), settings.discount
    elif algorithm == "rlif":
        pupil, rules = rlif.unpack(tree)
        source, policy, discount = pupil.agent, pupil.actor.as_mlp(), rules.rlpd.discount
        reward = "intervention" if rules.method == "rlif" else reward
    elif algorithm == "aprl":
        grown, _ = aprl.unpack(tree)
        source, policy, discount = grown.agent, grown.actor.as_mlp(), grown.learning.discount
    else:
        raise ValueError(f"{path} is of {algorithm!r}; critics of actions have ('rlpd', 'iql', 'rlif', 'aprl')")
    tensors = {name: getattr(source, name).detach() for name in _TENSORS}
    return Critics(path, reward, policy, source.shape, discount, tensors)


def _reward_of(path: Path) -> str:
    """Return what paid in the run that wrote the checkpoint ``path``: the task, where no run's folder is around it."""
    folder = path.resolve().parent.parent
    about = (folder.parent if folder.name == OFFLINE else folder) / RUN_FILE
    return json.loads(about.read_text(encoding="utf-8")).get("reward", "task") if about.is_file() else "task"


@torch.no_grad()
def adopt(agent: Agent, known: Critics, released: DenseNet, *, discount: float) -> None:
    """Give ``agent``, which begins at the policy ``released``, the critics of the run that the policy came from.

    Raises:
        ValueError: They are of another policy, of other widths or count, or value with another discount.
    """
    same = len(released.layers) == len(known.policy.layers) and all(
        np.array_equal(w, v) and np.array_equal(b, c)
        for (w, b), (v, c) in zip(released.layers, known.policy.layers, strict=True)
    )
    if not same:
        raise ValueError(f"{known.path} values another policy than the released one; export that checkpoint first")
    if agent.shape != known.shape:
        raise ValueError(f"{known.path} has critics {known.shape}; the recipe and the recording want {agent.shape}")
    if discount != known.discount:
        raise ValueError(f"{known.path} values with discount {known.discount}; the recipe has {discount}")
    for name, tensor in known.tensors.items():
        getattr(agent, name).copy_(tensor)
