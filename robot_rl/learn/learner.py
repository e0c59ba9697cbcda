"""The online learner: follow the robot's own store, learn beside it, offer better policies while it moves.

The store is the queue: nothing passes between robot and learner but episodes on a disk and policy files in an inbox.
A learner killed at any moment goes on from its newest checkpoint, which holds weights, optimisers, replay, random
states and its place in the store; it differs from an uninterrupted one only by when rows happened to arrive.

Knows: a pupil, its replay, export, when to do what. Does not know: losses (``pupil``), tasks (a reward comes as a
callable), transports (``announce`` is a callable), worlds.

Shapes: n rows · D observation · k features · A action.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_rl.contract.golden import Bundle, read_bundle
from robot_rl.data.feeder import Feeder, Reward
from robot_rl.data.transition import as_state
from robot_rl.learn import checkpoint
from robot_rl.learn.export import Provenance, current_commit, export_policy
from robot_rl.learn.metrics import RunLog
from robot_rl.learn.pupil import Kept, Pupil, make_pupil
from robot_rl.learn.tuning import Config, FineTuning, Job, Offer, Progress, Watch

__all__ = ["Config", "FineTuning", "Job", "Learner", "Offer", "Progress", "Watch", "learn"]

_log = logging.getLogger(__name__)
_IDLE_S = 0.02
_FOLLOW_S = 0.25  # the store is read this often while there is something to learn
_SAVE_SHARE = 0.03  # of the time may go into checkpoints
_GOLDEN_ROWS = 16


class Learner:
    """One job; ``learn`` runs it."""

    def __init__(self, job: Job, cfg: Config) -> None:
        """Open the released policy and the stores, and go on from the newest checkpoint where there is one.

        Raises:
            ValueError: The policy is no plain MLP, a file is damaged, or a checkpoint is of another job.
            FileNotFoundError: There is no such policy.
        """
        self.job, self.cfg = job, cfg
        self.bundle: Bundle = read_bundle(job.released)
        self.pupil: Pupil = make_pupil(job, cfg, self.bundle)
        self.agent = self.pupil.agent
        """Actor and critics that learn."""
        self.steady = copy.deepcopy(self.pupil.actor).requires_grad_(False)
        """The average of the policy's weights; what is offered."""
        self.rng = np.random.default_rng(cfg.rlpd.seed)
        self.replay: Kept = self.pupil.new_replay()
        self.awake = not cfg.start_event
        """The start event was seen."""
        self.started = False
        """The normaliser is fixed; learning may go on."""
        self.blocks = self.offers = 0
        self.learning_s = 0.0
        self.metrics: dict[str, float] = {}
        self._newest = np.empty(0)  # rows for golden vectors
        state = self._restore()
        self._feeder = self._feed(job.episodes, self.replay, self._reward, state)
        self.prior = self._read_prior()

    def follow(self) -> int:
        """Take in what the robot recorded since; return the number of new transitions."""
        added = self._feeder.poll()
        if not self.awake:
            self.awake = any(event["event"] == self.cfg.start_event for event in self._feeder.events)
            self.replay = self._feeder.replay = self.pupil.new_replay()
            return 0
        if not self.started and len(self.replay) >= self.cfg.first_transitions:
            self.pupil.begin(self.replay)
            self.started = True
        return added

    @property
    def due(self) -> bool:
        """Whether the transitions so far pay for another block."""
        paid = self.cfg.updates_per_transition * self.replay.total
        return self.started and self.agent.critic_updates + self.cfg.rlpd.utd <= paid

    @property
    def finished(self) -> bool:
        """Whether the job's time or updates are used up."""
        cfg = self.cfg
        late = 0.0 < cfg.max_minutes * 60.0 <= self.learning_s
        return late or 0 < cfg.max_updates <= self.agent.critic_updates

    def step(self) -> dict[str, float]:
        """Learn one block and return its metrics."""
        self.metrics |= self.pupil.step(self.replay, self.prior, self.rng)
        with torch.no_grad():
            for slow, new in zip(self.steady.parameters(), self.pupil.actor.parameters(), strict=True):
                slow.lerp_(new, 1.0 - self.cfg.average)
        self.blocks += 1
        return self.metrics

    def offer(self, *, final: bool = False) -> Offer:
        """Export the policy into the inbox, atomically, and announce it.

        Raises:
            FloatingPointError: The policy is not finite.
        """
        job, updates = self.job, self.agent.critic_updates
        if not all(bool(torch.isfinite(p).all()) for p in self.steady.parameters()):
            raise FloatingPointError(f"the policy is not finite after {updates} updates; resume from {job.out}")
        about = Provenance(
            recipe=job.recipe, seed=self.cfg.rlpd.seed, steps=updates, algorithm=self.pupil.algorithm,
            commit=current_commit(), parent=self.bundle.file_sha256,
        )  # fmt: skip
        name = f"policy_final_{updates:08d}.onnx" if final else f"policy_{updates:08d}.onnx"
        states = as_state(self._newest) if len(self._newest) else None
        bundle = export_policy(
            self.steady, self.bundle.contract, job.inbox / name, provenance=about, joints=job.robot.joints,
            states=states, sde_every=self.cfg.rlpd.sde_every,
        )  # fmt: skip
        self.offers += 1
        made = Offer(job.inbox / name, bundle.file_sha256, about.parent, job.recipe, updates, final)
        job.announce(made)
        for old in sorted(job.inbox.glob("policy_[0-9]*.onnx"))[: -self.cfg.keep_offers]:
            old.unlink()
        return made

    def save(self) -> None:
        """Write a checkpoint, whole."""
        tree = {
            "algorithm": self.pupil.algorithm, "origin": self.pupil.origin, **self.pupil.snapshot(),
            "steady": dict(self.steady.state_dict()), "rng": self.rng.bit_generator.state, "awake": self.awake,
            "replay": self.replay.state_dict(), "feeder": self._feeder.state_dict(), "started": self.started,
            "blocks": self.blocks, "offers": self.offers, "learning_s": self.learning_s,
        }  # fmt: skip
        checkpoint.save(checkpoint.numbered(self.job.out / "checkpoints", self.blocks), tree)
        checkpoint.prune(self.job.out / "checkpoints", keep=2, every=0)

    def progress(self) -> Progress:
        """Return where the learner stands."""
        return Progress(self.replay.total, self.agent.critic_updates, self.offers, self.learning_s, self.metrics)

    def close(self) -> None:
        """Close the store."""
        self._feeder.close()

    def _reward(self, now: np.ndarray, then: np.ndarray) -> np.ndarray:
        """The job's reward; keeps the newest rows for the golden vectors on the way."""
        if len(then):
            self._newest = then[-_GOLDEN_ROWS:].copy()
        return self.job.reward(now, then)

    def _feed(self, store: Path, replay: Kept, reward: Reward, state: dict[str, Any] | None = None) -> Feeder:
        job = self.job
        return Feeder(
            store, self.bundle.contract, replay, reward, features=job.features, see=self.pupil.see, state=state
        )  # fmt: skip

    def _read_prior(self) -> Kept | None:
        if self.job.prior is None:
            return None
        prior = self.pupil.new_replay()
        feeder = self._feed(self.job.prior, prior, self.job.reward)
        feeder.poll()
        feeder.close()
        if not len(prior):
            sha256 = self.bundle.contract.fingerprint
            raise ValueError(f"prior store {self.job.prior} holds no transitions of contract {sha256[:12]}…")
        return prior

    def _restore(self) -> dict[str, Any] | None:
        path = checkpoint.latest(self.job.out / "checkpoints")
        if path is None:
            return None
        tree = checkpoint.load(path)
        if tree.get("origin") != self.pupil.origin:
            raise ValueError(
                f"{path} is of another job: {tree.get('origin')}, not {self.pupil.origin}; choose another --out"
            )
        self.pupil.restore(tree)
        self.steady.load_state_dict(tree["steady"])
        self.rng.bit_generator.state = tree["rng"]
        self.replay.load_state_dict(tree["replay"])
        for name in ("awake", "started", "blocks", "offers", "learning_s"):
            setattr(self, name, tree[name])
        _log.info("resumed %s after %d updates", path, self.agent.critic_updates)
        return tree["feeder"]


def learn(
    job: Job, cfg: Config, *, stop: Callable[[], bool] = lambda: False, watch: Watch = lambda progress: None
) -> Progress:
    """Follow, learn, offer and save until the job is finished or ``stop()``; return where it ended.

    ``stop`` is asked and ``watch`` is told between blocks.

    Raises:
        FloatingPointError: The policy is not finite; the newest checkpoint is older and good.
    """
    learner = Learner(job, cfg)
    offered = saved = time.monotonic()
    followed = -_FOLLOW_S
    cost_s = 0.0
    with RunLog(job.out, cfg.max_updates, first_iteration=learner.blocks, progress=False) as log:
        while not (stop() or learner.finished):
            began = time.monotonic()
            if began - followed >= _FOLLOW_S or not learner.due:
                learner.follow()
                followed = began
            if learner.due:
                metrics = learner.step()
                if learner.blocks % cfg.log_every == 0:
                    row = {f"loss/{k}": v for k, v in metrics.items()}
                    row["time/transitions"] = float(learner.replay.total)
                    log.write(learner.blocks, learner.agent.critic_updates, row)
            else:
                time.sleep(_IDLE_S)
            if cfg.updates_per_s > 0.0 and learner.started:
                time.sleep(max(0.0, began + cfg.rlpd.utd / cfg.updates_per_s - time.monotonic()))
            now = time.monotonic()
            if now - offered >= cfg.offer_every_s and learner.agent.actor_updates:
                learner.offer()
                offered = now
            if now - saved >= max(cfg.save_every_s, cost_s / _SAVE_SHARE) and learner.started:
                learner.save()
                saved = time.monotonic()
                cost_s = saved - now
            if learner.started:
                learner.learning_s += time.monotonic() - began
            watch(learner.progress())
        if learner.started:
            learner.save()
            learner.offer(final=True)
    learner.close()
    return learner.progress()
