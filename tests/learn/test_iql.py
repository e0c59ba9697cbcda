"""IQL: the update against autograd, what each loss is for, toys where imitation fails."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import rlpd
from robot_rl.learn.ensemble import evaluate, split
from robot_rl.learn.iql import Config, Student, advantage_weight, begin_online, make_student, update
from robot_rl.learn.iql_loop import train
from robot_rl.learn.rlpd import Batch
from tests.learn.plain_rlpd import sequential

D, A = 5, 2
SMALL = Config(hidden=(24, 16), actor_hidden=(20, 12), batch=10, updates=100, block=5, log_every=20, save_every=50)


def make_batch(rows: int, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    obs, next_obs = (2.0 + 3.0 * torch.randn((rows, D), generator=g) for _ in range(2))
    action = torch.rand((rows, A), generator=g) * 2.0 - 1.0
    return Batch(obs, action, torch.randn(rows, generator=g), next_obs, (torch.rand(rows, generator=g) < 0.2).float())


class Plain:
    """The update with modules, autograd and one critic at a time."""

    def __init__(self, s: Student, cfg: Config) -> None:
        self.cfg, self.mean, self.scale = cfg, s.obs_mean, s.obs_scale
        self.critics, self.policy = sequential(s, s.critics.detach(), 0.0), copy.deepcopy(s.policy)
        self.targets = copy.deepcopy(self.critics)
        self.value = sequential(replace_shape(s), s.value.detach(), 0.0)[0]
        self.adams = {
            "critic": torch.optim.Adam([p for q in self.critics for p in q.parameters()], lr=cfg.critic_lr),
            "value": torch.optim.Adam(self.value.parameters(), lr=cfg.value_lr),
            "policy": torch.optim.Adam(self.policy.parameters(), lr=cfg.actor_lr),
        }
        self.updates = 0

    def step(self, name: str, loss: Tensor) -> None:
        self.adams[name].zero_grad()
        loss.backward()
        self.adams[name].step()

    def update(self, part: Batch) -> None:
        cfg = self.cfg
        obs, then = ((x - self.mean) * self.scale for x in (part.obs, part.next_obs))
        x = torch.cat((obs, part.action), -1)
        low = torch.stack([q(x).squeeze(-1) for q in self.targets]).min(0).values.detach()
        u = low - self.value(obs).squeeze(-1)
        self.step("value", ((cfg.expectile - (u < 0).float()).abs() * u.square()).mean())
        weight = (cfg.inverse_temperature * (low - self.value(obs).squeeze(-1))).exp().clamp(max=100.0).detach()
        law = torch.distributions.Normal(self.policy(part.obs), self.policy.log_std.clamp(-5.0, 2.0).exp())
        self.adams["policy"].param_groups[0]["lr"] = cfg.actor_lr * 0.5 * (1.0 + np.cos(np.pi * self.updates / 100))
        self.step("policy", -(weight * law.log_prob(part.action).sum(-1)).mean())
        y = part.reward + cfg.discount * (1.0 - part.terminated) * self.value(then).squeeze(-1).detach()
        self.step("critic", torch.stack([(q(x).squeeze(-1) - y).square().mean() for q in self.critics]).sum())
        with torch.no_grad():
            for q, t in zip(self.critics, self.targets, strict=True):
                for a, b in zip(q.parameters(), t.parameters(), strict=True):
                    b.lerp_(a, cfg.tau)
        self.updates += 1


def replace_shape(s: Student) -> Student:
    """The same learner whose ensemble is V, for ``sequential``."""
    found = copy.copy(s)
    found.shape = s.value_shape
    return found


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_update_is_that_of_autograd(layer_norm: bool) -> None:
    cfg = replace(SMALL, layer_norm=layer_norm, expectile=0.8, critic_lr=3e-3, value_lr=3e-3, actor_lr=3e-3)
    student = make_student(cfg, make_batch(200, seed=9).obs, num_actions=A)
    plain = Plain(student, cfg)
    for seed in range(4):
        batch = make_batch(30, seed)
        update(student, batch, cfg)
        for k in range(3):
            plain.update(Batch(*(t[k * 10 : (k + 1) * 10] for t in batch)))
    batch = make_batch(50, seed=20)
    obs = (batch.obs - student.obs_mean) * student.obs_scale
    x = torch.cat((obs, batch.action), -1)
    for flat, slow in ((student.critics.detach(), plain.critics), (student.targets, plain.targets)):
        wanted = torch.stack([q(x).squeeze(-1) for q in slow]).detach()
        torch.testing.assert_close(evaluate(split(flat, student.shape), x), wanted, atol=1e-5, rtol=1e-5)
    value = evaluate(split(student.value.detach(), student.value_shape), obs)[0]
    torch.testing.assert_close(value, plain.value(obs).squeeze(-1).detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(student.policy(batch.obs), plain.policy(batch.obs), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(student.policy.log_std, plain.policy.log_std, atol=1e-6, rtol=1e-6)


def test_the_critics_never_hear_of_the_policy() -> None:
    """Another policy changes neither Q nor V: no action of its own enters a target."""
    students = [make_student(SMALL, make_batch(100).obs, num_actions=A) for _ in range(2)]
    nn.init.normal_(students[1].policy.mlp.linears()[-1].weight)
    for s in students:
        update(s, make_batch(100), SMALL)
    assert torch.equal(students[0].critics, students[1].critics) and torch.equal(students[0].value, students[1].value)
    assert not torch.equal(students[0].policy(make_batch(5).obs), students[1].policy(make_batch(5).obs))


def test_weights_are_clipped_at_a_hundred() -> None:
    weight = advantage_weight(torch.tensor([-1.0, 0.0, 0.5, 1.6, 50.0]), Config(inverse_temperature=3.0))
    assert weight.tolist() == pytest.approx([np.exp(-3.0), 1.0, np.exp(1.5), 100.0, 100.0], rel=1e-5)


QUICK = Config(
    hidden=(32, 32), actor_hidden=(32, 32), batch=64, updates=600, block=50, log_every=600, save_every=600,
    critic_lr=3e-3, value_lr=3e-3, actor_lr=3e-3, tau=0.1,
)  # fmt: skip


def bandit(better: float, worse: float, share: float) -> Replay:
    """One state; the action 0.8 pays ``better`` in a share of the data, -0.8 pays ``worse`` in the rest."""
    n, g = 1000, np.random.default_rng(0)
    good = np.arange(n) < share * n
    data = Replay(n, transition_columns(1, 1))
    action = np.where(good, 0.8, -0.8) + 0.01 * g.normal(size=n)
    obs = np.zeros((n, 1))
    data.extend({
        "obs": obs, "action": action[:, None], "reward": np.where(good, better, worse), "next_obs": obs,
        "terminated": np.ones(n),
    })  # fmt: skip
    return data


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 0.25), (0.99, 0.97)])
def test_the_value_is_the_mean_at_one_half_and_nears_the_maximum_at_one(
    tmp_path: Path, expectile: float, expected: float
) -> None:
    """A quarter of the data pays 1, the rest 0: the expectile is t / (t + 3 (1 - t)), 1/4 at 1/2, 0.97 at 0.99."""
    student = train(replace(QUICK, expectile=expectile), bandit(1.0, 0.0, 0.25), tmp_path, progress=False)
    value = evaluate(split(student.value.detach(), student.value_shape), torch.zeros(1, 1))
    assert float(value) == pytest.approx(expected, abs=0.03)


def test_the_policy_takes_the_better_arm_that_the_data_seldom_has(tmp_path: Path) -> None:
    """One in ten pays 1, the rest nothing; more than 95 % of the policy's weight is on the better arm."""
    data = bandit(1.0, 0.0, 0.1)
    student = train(replace(QUICK, inverse_temperature=10.0), data, tmp_path / "iql", progress=False)
    share = (float(student.policy(torch.zeros(1, 1)).detach()) / 0.8 + 1.0) / 2.0
    assert share > 0.95
    cloned = train(replace(QUICK, inverse_temperature=0.0), data, tmp_path / "bc", progress=False)
    assert (float(cloned.policy(torch.zeros(1, 1)).detach()) / 0.8 + 1.0) / 2.0 == pytest.approx(0.1, abs=0.05)


def crossing() -> Replay:
    """Steps of 0.1 in the plane: from the west to the crossing and on north (nine in ten), which pays nothing, or from
    the south to the crossing and on east, which pays 1 at its end. Nobody in the data went from the west to the east.
    """
    data, rng = Replay(20_000, transition_columns(2, 2)), np.random.default_rng(0)
    for k in range(300):
        win = k % 10 == 0
        x = np.array([0.0, -1.0] if win else [-1.0, 0.0]) + 0.03 * rng.normal(size=2)
        for t in range(20):
            heading = np.array([1.0, 0.0] if win == (t >= 10) else [0.0, 1.0])
            then, over = x + 0.1 * heading, np.array([float(t == 19)])
            columns = {"obs": x[None], "action": heading[None], "reward": over * win, "next_obs": then[None]}
            data.extend(columns | {"terminated": over})
            x = then
    return data


def arrives(student: Student) -> bool:
    """Whether the policy, from the west, reaches the east end."""
    x = torch.tensor([[-1.0, 0.0]])
    for _ in range(40):
        with torch.no_grad():
            x = x + 0.1 * student.policy(x)
        if float((x - torch.tensor([[1.0, 0.0]])).norm()) < 0.3:
            return True
    return False


def test_pieces_of_episodes_are_stitched_where_imitation_fails(tmp_path: Path) -> None:
    cfg = replace(QUICK, updates=1800, save_every=1800, expectile=0.9, inverse_temperature=20.0, discount=0.95)
    assert arrives(train(cfg, crossing(), tmp_path / "iql", progress=False))
    assert not arrives(train(replace(cfg, inverse_temperature=0.0), crossing(), tmp_path / "bc", progress=False))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    data = bandit(1.0, 0.0, 0.5)
    whole = train(SMALL, data, tmp_path / "whole", progress=False)
    train(SMALL, data, tmp_path / "halves", progress=False)
    (tmp_path / "halves/checkpoints/00000100.npz").unlink()  # killed after the checkpoint at 50
    halves = train(SMALL, data, tmp_path / "halves", resume=True, progress=False)
    assert torch.equal(whole.critics, halves.critics) and torch.equal(whole.value, halves.value)
    assert all(torch.equal(a, b) for a, b in zip(whole.policy.parameters(), halves.policy.parameters(), strict=True))
    names = [(folder / "metrics.jsonl").read_text() for folder in (tmp_path / "whole", tmp_path / "halves")]
    assert names[0] == names[1]
    with pytest.raises(ValueError, match="already holds"):
        train(SMALL, data, tmp_path / "whole", progress=False)


def test_the_actors_rate_falls_along_a_cosine(tmp_path: Path) -> None:
    student = train(SMALL, bandit(1.0, 0.0, 0.5), tmp_path, progress=False)
    assert student.policy_adam.param_groups[0]["lr"] == pytest.approx(3e-4 * 0.5 * (1 + np.cos(np.pi * 0.99)))


def test_rlpd_begins_where_iql_ended() -> None:
    cfg = replace(SMALL, layer_norm=True)
    student = make_student(cfg, make_batch(100).obs, num_actions=A, policy_obs_size=3)
    update(student, make_batch(100), cfg)
    online = rlpd.Config(critics=2, subset=2, hidden=(24, 16), start_std=0.1)
    agent, batch = begin_online(student, online), make_batch(20, seed=4)
    torch.testing.assert_close(agent.actor(batch.obs[:, :3]), student.policy(batch.obs[:, :3]), atol=0.0, rtol=0.0)
    assert torch.equal(agent.critics, student.critics) and torch.equal(agent.targets, student.targets)
    assert torch.equal(agent.obs_mean, student.obs_mean) and torch.equal(agent.obs_scale, student.obs_scale)
    with pytest.raises(ValueError, match="RLPD wants critics"):
        begin_online(student, replace(online, critics=3))


@pytest.mark.parametrize(
    ("change", "word"), [({"expectile": 1.0}, "expectile"), ({"updates": 0}, "updates"), ({"log_every": 7}, "block")]
)
def test_impossible_settings_are_named(change: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(SMALL, **change)  # pyright: ignore[reportArgumentType]


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        train(SMALL, Replay(5, transition_columns(2, 1)), tmp_path, progress=False)
