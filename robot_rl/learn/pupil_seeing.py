"""A policy that sees, for the online learner: encoder, actor and critics of the run that it was exported from.

A policy's file has no critics, and an encoder is taught by critics alone: without those of its run it would first
unlearn what it sees. So the run is needed, ``robot-rl finetune --critics``.

Knows: pixels, its checkpoints. Does not know: stores, files of policies, time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_rl.contract.golden import Bundle, replay_golden
from robot_rl.contract.spec import ImageTerm
from robot_rl.data.pictures import PictureReplay, side_by_side
from robot_rl.data.transition import picture_field
from robot_rl.learn import checkpoint, pixels
from robot_rl.learn.pixels import Policy, Seer
from robot_rl.learn.pixels_graph import torch_seeing
from robot_rl.learn.tuning import Config, Job

_SAME = 1e-4
"""Largest difference between an action of the run's policy and the released one's, of [-1, 1]."""
_TENSORS = ("critics", "targets", "obs_mean", "obs_scale")


class SeeingPupil:
    """A policy of numbers and pictures."""

    algorithm = "pixels"

    def __init__(self, job: Job, cfg: Config, bundle: Bundle) -> None:
        """Begin at the released policy, with all that its run has learnt.

        Raises:
            ValueError: No run is named, or it is of another policy, of other critics or of another discount.
        """
        if job.critics is None:
            raise ValueError(f"{job.released} sees; name the run that it was exported from with --critics")
        if job.num_features:
            raise ValueError(f"{job.released} sees; its critics have no privileged terms, got {job.num_features}")
        contract, known, learnt = bundle.contract, *_read(job.critics)
        learning = replace(cfg.rlpd, actor_hidden=learnt.rlpd.actor_hidden)
        self.settings = replace(learnt, rlpd=learning, imitation=0.0, offline_blocks=0, seed=cfg.rlpd.seed)
        """How it learns: the recipe's numbers, the run's encoder and sizes of the actor."""
        self.seer = pixels.make_seer(
            self.settings, obs_size=contract.obs_size, num_actions=contract.num_actions, shape=known.encoder.shape
        )
        self.agent = self.seer.heads
        if self.agent.shape != known.heads.shape or cfg.rlpd.discount != learnt.rlpd.discount:
            raise ValueError(
                f"{job.critics} has critics {known.heads.shape} and discount {learnt.rlpd.discount}; the recipe has "
                f"{self.agent.shape} and {cfg.rlpd.discount}"
            )
        _take_over(self.seer, known)
        _check_same(self.seer.actor, bundle, job.critics)
        self.origin = {"parent": bundle.file_sha256, "critics": list(self.agent.critics.shape), "sees": True}
        self._images, self._cfg = contract.images, cfg
        self._sizes = contract.obs_size, contract.num_actions

    @property
    def actor(self) -> Policy:
        """Encoder and actor."""
        return self.seer.actor

    def see(self, rows: np.ndarray) -> np.ndarray:
        """Return what replay keeps of the pictures of recorded rows, (n, ...), cameras side by side."""
        return self.seer.kept(pictures_in(rows, self._images))

    def new_replay(self) -> PictureReplay:
        """Return an empty replay of pictures."""
        kept = self.seer.kept(np.zeros((1, *self.seer.encoder.shape), np.uint8))
        return PictureReplay(self._cfg.window, *self._sizes, kept.shape[1:], dtype=kept.dtype)

    def begin(self, replay: PictureReplay) -> None:
        """Nothing: the run's normaliser stays."""

    def step(self, replay: PictureReplay, prior: PictureReplay | None, rng: np.random.Generator) -> dict[str, float]:
        """Learn a block of RLPD from pictures."""
        return pixels.update(self.seer, pixels.draw(prior, replay, self.settings, rng), self.settings)

    def snapshot(self) -> dict[str, Any]:
        """Return what was learnt."""
        return {"seer": self.seer.snapshot()}

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Continue from it."""
        self.seer.restore(tree["seer"])


def pictures_in(rows: np.ndarray, images: tuple[ImageTerm, ...]) -> np.ndarray:
    """Return the pictures of recorded rows, cameras side by side, uint8 (n, H, W, 3 cameras)."""
    return side_by_side({term.group: rows[picture_field(term.group)] for term in images})


def _read(path: Path) -> tuple[Seer, pixels.Config]:
    tree = checkpoint.load(path)
    if tree.get("algorithm") != "pixels":
        raise ValueError(f"{path} is of {tree.get('algorithm')!r}; a policy that sees comes from a run of 'pixels'")
    return pixels.unpack(tree)


@torch.no_grad()
def _take_over(seer: Seer, known: Seer) -> None:
    """Give ``seer`` the weights of ``known``; optimisers and counts are its own."""
    seer.encoder.load_state_dict(known.encoder.state_dict())
    seer.heads.actor.load_state_dict(known.heads.actor.state_dict())
    for name in _TENSORS:
        getattr(seer.heads, name).copy_(getattr(known.heads, name))


def _check_same(policy: Policy, bundle: Bundle, path: Path) -> None:
    try:
        replay_golden(bundle, torch_seeing(policy, bundle.contract.images), forget=lambda: None, atol=_SAME)
    except ValueError as error:
        raise ValueError(
            f"{path} is of another policy than {bundle.path}; export that checkpoint first ({error})"
        ) from error
