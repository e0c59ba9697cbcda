"""Distillation: a student on its own rollouts comes to act as a teacher that sees more, resumes exactly, exports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robot_rl.learn import checkpoint, distill, distill_loop, ppo, ppo_loop
from robot_rl.learn.env import Step
from robot_rl.learn.rollout import start_rollout
from robot_rl.learn.teacher import Teacher, load_teacher
from tests.learn.toy_env import PointMass

PER_ITERATION = 32 * 10
TINY = distill.Config(
    teacher="t", total_steps=8 * PER_ITERATION, num_steps=10, gradient_length=5, actor_hidden=(16, 16), save_every=3
)
SIZES = {"policy": 2, "critic": 3, "action": 1}


class Noisy(PointMass):
    """The student sees position and velocity with noise; the critic's group is exact."""

    def _observe(self) -> dict[str, Tensor]:
        obs = super()._observe()
        return obs | {"policy": obs["policy"] + 0.3 * torch.randn(self.num_envs, 2, generator=self._generator)}


def teacher(seed: int = 0) -> Teacher:
    cfg = ppo.Config(actor_obs="critic", actor_hidden=(8, 8), critic_hidden=(8, 8), seed=seed)
    actor = ppo.make_agent(cfg, SIZES).actor.requires_grad_(False)
    actor.mlp.linears()[-1].weight.mul_(100.0)  # strong opinions
    return Teacher(actor, "critic")


def rows(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def evaluate(act: Any, env: PointMass) -> float:
    """Return the mean reward per step of ``act``, from a group's observations, over one episode."""
    obs, total = env.reset(), torch.zeros(env.num_envs)
    with torch.no_grad():
        for _ in range(env.episode):
            step: Step = env.step(act(obs))
            obs, total = step.obs, total + step.reward
    return float(total.mean()) / env.episode


def test_one_gradient_is_that_of_the_mean_error_of_its_piece() -> None:
    cfg = replace(TINY, num_steps=2, gradient_length=2, learning_rate=1e-2, max_grad_norm=1e9)
    student, other = distill.make_student(cfg, SIZES), distill.make_student(cfg, SIZES)
    generator = torch.Generator().manual_seed(0)
    rollout = start_rollout({"policy": torch.zeros(4, 2)}, 2, 1)
    rollout.obs["policy"].normal_(generator=generator)
    taught = torch.rand(2, 4, 1, generator=generator) - 0.5
    seen = distill.update(student, rollout, taught, cfg)
    loss = (other.actor(rollout.obs["policy"]) - taught).square().mean()
    loss.backward()
    other.optimiser.step()
    assert seen["loss/behaviour"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for a, b in zip(student.actor.mlp.parameters(), other.actor.mlp.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_gradients_are_taken_piece_by_piece() -> None:
    student = distill.make_student(TINY, SIZES)
    rollout = start_rollout({"policy": torch.zeros(4, 2)}, 10, 1)
    distill.update(student, rollout, torch.ones(10, 4, 1), replace(TINY, epochs=3))
    steps = {int(state["step"]) for state in student.optimiser.state.values()}
    assert steps == {3 * 10 // 5}


def test_the_noise_of_the_student_never_changes(tmp_path: Path) -> None:
    student = distill_loop.train(TINY, PointMass(32), tmp_path, teacher(), progress=False)
    assert float(student.actor.log_std.exp()) == pytest.approx(TINY.noise_std)


def test_the_student_comes_to_agree_with_its_teacher(tmp_path: Path) -> None:
    distill_loop.train(
        replace(TINY, total_steps=60 * PER_ITERATION), PointMass(32), tmp_path, teacher(), progress=False
    )
    errors = [row["loss/behaviour"] for row in rows(tmp_path)]
    assert errors[-1] < 0.1 * errors[0]


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    def run(out: str, rollouts: int, *, seed: int = 1, resume: bool = False) -> distill.Student:
        cfg = replace(TINY, total_steps=rollouts * PER_ITERATION)
        env = PointMass(32, seed=seed, episode=5)
        return distill_loop.train(cfg, env, tmp_path / out, teacher(), resume=resume, progress=False)

    whole = run("whole", 8)
    run("cut", 4)
    resumed = run("cut", 8, seed=99, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    for a, b in zip(whole.actor.state_dict().values(), resumed.actor.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_resuming_under_another_teacher_or_with_another_network_is_refused(tmp_path: Path) -> None:
    distill_loop.train(TINY, PointMass(32), tmp_path, teacher(), progress=False)
    with pytest.raises(ValueError, match=r"was trained with teacher [0-9a-f]{64}; this run has [0-9a-f]{64}"):
        distill_loop.train(TINY, PointMass(32), tmp_path, teacher(1), resume=True, progress=False)
    for other, says in (
        ({"activation": "tanh"}, "activation elu; this run has tanh"),
        ({"actor_hidden": (8,)}, r"actor_hidden \[16, 16\]; this run has \[8\]"),
    ):
        with pytest.raises(ValueError, match=says):
            distill_loop.train(replace(TINY, **other), PointMass(32), tmp_path, teacher(), resume=True, progress=False)
    with pytest.raises(ValueError, match="already holds checkpoints"):
        distill_loop.train(TINY, PointMass(32), tmp_path, teacher(), progress=False)


@pytest.mark.slow
def test_the_student_of_a_trained_teacher_does_nearly_as_well_with_worse_senses(tmp_path: Path) -> None:
    cfg = ppo.Config(total_steps=60_000, actor_obs="critic", actor_hidden=(32, 32), critic_hidden=(32, 32))
    master = ppo_loop.train(cfg, Noisy(64), tmp_path / "teacher", progress=False)
    path = checkpoint.latest(tmp_path / "teacher" / "checkpoints")
    assert path is not None
    lessons = replace(TINY, total_steps=60_000, num_steps=30, gradient_length=15, actor_hidden=(32, 32))
    student = distill_loop.train(lessons, Noisy(64), tmp_path / "student", load_teacher(path, SIZES), progress=False)
    best = evaluate(lambda obs: master.actor(obs["critic"]), Noisy(256, seed=7))
    learnt = evaluate(lambda obs: student.actor(obs["policy"]), Noisy(256, seed=7))
    assert best > 0.9
    assert learnt > best - 0.05


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps is 10; it must divide by gradient_length, 4"):
        replace(TINY, gradient_length=4)
    with pytest.raises(ValueError, match=r"no loss 'kl'; the choices are \['huber', 'mse'\]"):
        replace(TINY, loss="kl")
    with pytest.raises(ValueError, match=r"noise_std is 0\.0; it must be positive"):
        replace(TINY, noise_std=0.0)
    with pytest.raises(ValueError, match=r"actor_obs is 'camera'; the world's observation groups are \['critic', 'pol"):
        ppo.make_agent(ppo.Config(actor_obs="camera"), SIZES)
