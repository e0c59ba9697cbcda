"""Policies with a memory in simulation: each copy has its own, and an episode's end clears it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli.play import drive
from robot_rl.runtime.policy import Policy
from robot_rl.sim import evaluation

GRU = Path(__file__).parents[1] / "golden" / "policies" / "go2_gru.onnx"
EPISODE_S = 0.4  # 20 steps
Noted = list[tuple[np.ndarray, np.ndarray]]


def in_one_go(policy: Policy, noted: Noted) -> np.ndarray:
    """What a fresh policy answers to the observations noted."""
    policy.forget()
    return np.stack([policy.infer(obs) for obs, _ in noted])


def test_every_copy_remembers_its_own_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, task = evaluation.load_pair(GRU)
    copies: dict[int, Noted] = defaultdict(list)
    infer = policy.infer

    def noting(obs: np.ndarray, *, memory: np.ndarray, pictures: object) -> np.ndarray:
        action = infer(obs, memory=memory)
        copies[memory.ctypes.data].append((obs.copy(), action))
        return action

    monkeypatch.setattr(policy, "infer", noting)
    world = evaluation.make_world(policy, evaluation.undisturbed(task), 3, seed=0, threads=1)
    for _ in range(2):  # the second time as the first: nothing is left of it
        copies.clear()
        evaluation.run_world(world, policy, np.zeros((3, 3)), 20, lambda _done, _all: None)
        assert len(copies) == 3
        monkeypatch.setattr(policy, "infer", infer)
        for noted in copies.values():
            assert len(noted) > 10
            assert np.array_equal(in_one_go(policy, noted), [action for _, action in noted])
        monkeypatch.setattr(policy, "infer", noting)


def test_a_policy_that_is_watched_forgets_where_an_episode_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, task = evaluation.load_pair(GRU)
    task = dataclasses.replace(evaluation.undisturbed(task), episode_s=EPISODE_S)
    world = evaluation.make_world(policy, task, 1, seed=0, threads=1)
    noted, infer = list[tuple[np.ndarray, np.ndarray]](), policy.infer

    def noting(obs: np.ndarray, *, pictures: object) -> np.ndarray:
        noted.append((obs.copy(), infer(obs)))
        return noted[-1][1]

    for _ in range(2):
        noted.clear()
        monkeypatch.setattr(policy, "infer", noting)
        assert len(list(drive(world, policy, np.zeros((1, 3)), 50))) == 50
        monkeypatch.setattr(policy, "infer", infer)
        for first in (0, 20, 40):
            episode = noted[first : first + 20]
            assert np.array_equal(in_one_go(policy, episode), [action for _, action in episode])
        assert not np.array_equal(in_one_go(policy, noted)[20:], [action for _, action in noted[20:]])
