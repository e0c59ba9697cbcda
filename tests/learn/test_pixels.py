"""RLPD from pictures: gradients against autograd, who teaches whom, exact resumption, a toy that is learnt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robot_rl.data.pictures import PictureReplay, side_by_side
from robot_rl.learn import checkpoint, encoder, rlpd
from robot_rl.learn.ensemble import evaluate, pick, split
from robot_rl.learn.pixels import Config, Seer, draw, fix_statistics, make_seer, unpack, update
from robot_rl.learn.pixels_loop import train
from tests.learn.spot_world import SpotWorld

EYES = encoder.Config(channels=(8, 8), strides=(2, 2), features=8, head="keypoints", shift=1)
LEARN = rlpd.Config(
    critics=3, subset=2, hidden=(32, 32), actor_hidden=(32, 32), utd=2, batch=16, discount=0.9, n_step=2,
    backup_entropy=False, temperature=0.01, start_steps=20, capacity=2_000, log_every=20, save_every=40,
)  # fmt: skip
SMALL = Config(rlpd=LEARN, encoder=EYES, total_steps=80)


def shown(episodes: int, seed: int = 5) -> PictureReplay:
    """Return demonstrations, one environment after the other."""
    world, noise = SpotWorld(1, seed), np.random.default_rng(seed)
    replay, obs = PictureReplay(episodes * 15, 2, 2, (12, 12, 3)), world.reset()
    replay.begin(side_by_side(obs))
    while episodes:
        action = world.expert(noise)
        step = world.step(torch.from_numpy(action))
        columns = {
            "obs": obs["policy"], "action": action, "reward": step.reward, "next_obs": step.next_obs["policy"],
            "terminated": step.terminated,
        }  # fmt: skip
        replay.extend(columns, side_by_side(step.next_obs))
        if step.terminated[0] or step.truncated[0]:
            replay.begin(side_by_side(step.obs), np.zeros(1, int))
            episodes -= 1
        obs = step.obs
    return replay


def make(cfg: Config = SMALL) -> tuple[Seer, PictureReplay]:
    prior = shown(6)
    seer = make_seer(cfg, obs_size=2, num_actions=2, shape=(12, 12, 3))
    fix_statistics(seer, torch.from_numpy(prior.rows.split(prior.rows.rows[: len(prior)])["obs"][:, :-1]))
    return seer, prior


def test_critics_and_encoder_get_the_gradients_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """One minibatch; the slow way is a graph from pictures to ``sum_i mean (Q_i - y)^2``."""
    cfg = replace(SMALL, rlpd=replace(LEARN, utd=1, backup_entropy=True, warmup=10))
    seer, prior = make(cfg)
    batch = draw(None, prior, cfg, np.random.default_rng(0))
    heads, slow = seer.heads, torch.Generator()
    slow.set_state(heads.generator.get_state())
    with torch.no_grad():
        next_seen = torch.cat((seer.encoder(batch.next_pictures[0]), batch.next_obs[0]), -1)
        xi = heads.actor.noise(16, matrices=1, generator=slow)
        action, log_prob, _ = heads.actor.sample(next_seen, xi)
        chosen = pick(split(heads.targets, heads.shape), torch.randperm(3, generator=slow)[:2])
        x = torch.cat(((next_seen - heads.obs_mean) * heads.obs_scale, action), -1)
        soft = evaluate(chosen, x).amin(0) - log_prob * 0.01
        y = batch.reward[0] + 0.9 * (1.0 - batch.terminated[0]) * soft
    flat = heads.critics.detach().clone().requires_grad_()
    features = seer.encoder(batch.pictures[0])
    seen = (torch.cat((features, batch.obs[0]), -1) - heads.obs_mean) * heads.obs_scale
    q = evaluate(split(flat, heads.shape), torch.cat((seen, batch.action[0]), -1))
    (q - y).square().mean(1).sum().backward()
    expected = {name: p.grad.clone() for name, p in seer.encoder.named_parameters() if p.grad is not None}
    assert flat.grad is not None and len(expected) == 8
    monkeypatch.setattr(seer.encoder_adam, "step", lambda: None)
    metrics = update(seer, batch, cfg)
    assert heads.critics.grad is not None and torch.allclose(heads.critics.grad, flat.grad, rtol=1e-4, atol=1e-6)
    for name, p in seer.encoder.named_parameters():
        assert p.grad is not None and torch.allclose(p.grad, expected[name], rtol=1e-4, atol=1e-6), name
    assert metrics["critic_loss"] == pytest.approx(float((q - y).detach().square().mean()), rel=1e-4)


def test_the_actor_teaches_the_encoder_nothing_and_critics_teach_it_something() -> None:
    """With a learning rate of 0 for critics and encoder, only the actor moves, however hard it is pulled."""
    still = replace(SMALL, rlpd=replace(LEARN, critic_lr=0.0), encoder_lr=0.0, imitation=5.0)
    for cfg, moves in ((still, False), (SMALL, True)):
        seer, prior = make(cfg)
        before = [p.detach().clone() for p in seer.encoder.parameters()]
        first = seer.heads.actor.mlp.linears()[0].weight.detach().clone()
        update(seer, draw(prior, prior, cfg, np.random.default_rng(0)), cfg)
        moved = [not torch.equal(a, b) for a, b in zip(before, seer.encoder.parameters(), strict=True)]
        assert all(moved) if moves else not any(moved)
        assert not torch.equal(first, seer.heads.actor.mlp.linears()[0].weight)


def test_imitation_brings_the_actor_to_the_demonstrations_and_fades() -> None:
    cfg = replace(SMALL, imitation=10.0, imitation_half_life=100.0)
    cfg = replace(cfg, rlpd=replace(LEARN, actor_lr=3e-3))
    seer, prior = make(cfg)
    rng, away = np.random.default_rng(0), []
    for _ in range(60):
        metrics = update(seer, draw(prior, PictureReplay(4, 2, 2, (12, 12, 3)), cfg, rng), cfg)
        away.append(metrics["away"])
    assert np.mean(away[-10:]) < 0.8 * np.mean(away[:10])
    assert metrics["imitation"] == pytest.approx(10.0 * 0.5**0.59)
    batch = draw(prior, prior, cfg, rng)
    assert batch.prior == 8 and draw(None, prior, cfg, rng).prior == 0


def test_a_resumed_run_is_the_run(tmp_path: Path) -> None:
    """Killed after 40 of 80 steps: the same weights, replay and metrics as without."""
    prior = shown(6)
    whole = train(SMALL, SpotWorld(2), tmp_path / "whole", prior=prior, progress=False)
    train(replace(SMALL, total_steps=40), SpotWorld(2), tmp_path / "cut", prior=prior, progress=False)
    again = train(SMALL, SpotWorld(2, seed=9), tmp_path / "cut", prior=prior, resume=True, progress=False)
    a, b = (checkpoint.load(checkpoint.numbered(tmp_path / name / "checkpoints", 80)) for name in ("whole", "cut"))
    for part in ("pictures", "free", "now", "newest", "ended"):
        assert torch.equal(a["replay"][part], b["replay"][part]), part
    assert torch.equal(whole.heads.critics, again.heads.critics)
    for one, two in zip(whole.encoder.parameters(), again.encoder.parameters(), strict=True):
        assert torch.equal(one, two)
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    assert [json.loads(x) for x in rows[0]] == [json.loads(x) for x in rows[1]] and len(rows[0]) == 4
    seer, cfg = unpack(b)
    assert cfg == SMALL and torch.equal(seer.heads.critics, whole.heads.critics) and seer.steps == 80
    with pytest.raises(ValueError, match=r"was trained with encoder_lr = 0.0003; the recipe says 0\.1"):
        train(replace(SMALL, encoder_lr=0.1), SpotWorld(2), tmp_path / "cut", prior=prior, resume=True, progress=False)
    with pytest.raises(ValueError, match="already holds checkpoints"):
        train(SMALL, SpotWorld(2), tmp_path / "cut", prior=prior, progress=False)


def test_what_a_frozen_trunk_saw_is_kept_in_place_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trunk(nn.Module):
        """Two filters that nobody taught."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.get_buffer("kernel"), stride=4)

    monkeypatch.setattr(encoder, "load_resnet", lambda path, colours: Trunk())
    cfg = replace(SMALL, encoder=replace(EYES, frozen="weights.npz", head="flatten"), offline_blocks=3)
    seer = train(cfg, SpotWorld(2), tmp_path, prior=shown(4), progress=False)
    tree = checkpoint.load(checkpoint.numbered(tmp_path / "checkpoints", 80))
    kept = tree["replay"]["pictures"]
    assert kept.shape[1:] == (2, 3, 3) and kept.dtype == torch.float16 and seer.offline == 3
    picture = torch.from_numpy(side_by_side(SpotWorld(1, seed=3).reset()))
    inside = seer.encoder(torch.from_numpy(seer.kept(picture.numpy())))
    assert torch.allclose(inside, seer.encoder(picture), atol=2e-3)


def test_what_cannot_learn_is_refused(tmp_path: Path) -> None:
    class Blind(SpotWorld):
        def _see(self) -> dict[str, torch.Tensor]:
            return {"policy": torch.zeros(self.num_envs, 2)}

    with pytest.raises(ValueError, match="shows no pictures, only"):
        train(SMALL, Blind(1), tmp_path, progress=False)
    with pytest.raises(ValueError, match="no prior data to learn from"):
        train(replace(SMALL, offline_blocks=2), SpotWorld(1), tmp_path, progress=False)
    with pytest.raises(ValueError, match="has 'gaussian', 0 and 0 alone"):
        Config(rlpd=replace(LEARN, exploration="gsde"))


@pytest.mark.slow
def test_the_spot_is_brought_to_the_middle_from_pictures_alone(tmp_path: Path) -> None:
    """Sparse reward, 10 demonstrations: at least nine in ten of 100 episodes."""
    learn = replace(LEARN, batch=64, n_step=3, actor_lr=1e-3, critic_lr=1e-3, start_std=0.5, target_range=(0.0, 1.0))
    cfg = Config(rlpd=learn, encoder=EYES, encoder_lr=1e-3, offline_blocks=100, imitation=1.0, total_steps=2_000)
    seer = train(cfg, SpotWorld(2), tmp_path, prior=shown(10), progress=False)
    world, won, ended = SpotWorld(10, seed=99), 0, 0
    obs = world.reset()
    while ended < 100:
        step = world.step(seer.act(obs["policy"], side_by_side(obs), explore=False))
        won, ended = won + int(step.terminated.sum()), ended + int((step.terminated + step.truncated.float()).sum())
        obs = step.obs
    assert won / ended >= 0.9
