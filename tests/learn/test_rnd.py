"""Curiosity: the bonus by hand, its schedule, what has been seen bores, and a far reward that only it finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robot_rl.learn import ppo, rnd
from robot_rl.learn.metrics import EpisodeTracker
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.rollout import collect, start_rollout
from tests.learn.corridor import EPISODE, Corridor
from tests.learn.toy_env import PointMass

SIZES = {"policy": 2, "critic": 3, "action": 1}
PER_ITERATION = 32 * 30
CORRIDOR = ppo.Config(num_steps=30, actor_hidden=(32, 32), critic_hidden=(32, 32), save_every=3)


def rows(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def test_the_bonus_is_the_distance_over_the_deviation_of_its_discounted_sum() -> None:
    cfg = rnd.Config(normalise=False)
    curiosity = rnd.make_curiosity(cfg, SIZES, seed=0)
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = (curiosity.target(x) - curiosity.predictor(x)).square().sum(-1).sqrt()
    sums = torch.stack((raw[0], raw[1] + 0.9 * raw[0], raw[2] + 0.9 * raw[1] + 0.81 * raw[0]))
    got = rnd.bonus(curiosity, cfg, x, discount=0.9)
    assert torch.allclose(got, raw / sums.std(unbiased=False), rtol=1e-5)
    assert torch.allclose(curiosity.sums, sums[-1])  # they run on


def test_the_weighted_bonus_is_added_to_the_rewards_that_are_learnt_from() -> None:
    cfg = rnd.Config(weight=2.0, final_weight=0.5, steps=(0, 100))
    rollout = start_rollout({"policy": torch.zeros(2, 2)}, 3, 1)
    rnd.watch(rollout, cfg)
    rollout.successor["policy"].normal_(generator=torch.Generator().manual_seed(1))
    rollout.reward.fill_(7.0)
    one, same = (rnd.make_curiosity(cfg, SIZES, seed=0) for _ in range(2))
    said = rnd.add_bonus(one, cfg, rollout, steps=50, discount=0.9)
    extra = rnd.bonus(same, cfg, rollout.successor["policy"], discount=0.9)
    assert float(extra.min()) > 0.0
    assert torch.allclose(rollout.reward, 7.0 + 1.25 * extra)
    assert said == {"rnd/bonus": pytest.approx(float(extra.mean())), "rnd/weight": 1.25}


def test_the_weight_follows_its_schedule() -> None:
    assert rnd.weight_at(rnd.Config(weight=2.0), 10**9) == 2.0
    line = rnd.Config(weight=2.0, final_weight=1.0, steps=(100, 200))
    assert [rnd.weight_at(line, n) for n in (0, 100, 150, 200, 300)] == [2.0, 2.0, 1.5, 1.0, 1.0]
    step = rnd.Config(weight=2.0, final_weight=0.0, steps=(100, 100))
    assert [rnd.weight_at(step, n) for n in (99, 100)] == [2.0, 0.0]


def test_what_has_been_seen_often_bores_and_the_target_never_moves() -> None:
    cfg, generator = rnd.Config(), torch.Generator().manual_seed(0)
    curiosity = rnd.make_curiosity(cfg, SIZES, seed=0)
    known = torch.randn(64, 8, 2, generator=generator)
    rnd.bonus(curiosity, cfg, known, discount=0.99)
    before = [p.clone() for p in curiosity.target.parameters()]
    rollout = start_rollout({"policy": known[0]}, 64, 1)
    rollout.successor["policy"] = known
    losses = [rnd.learn(curiosity, cfg, rollout, generator)["rnd/loss"] for _ in range(20)]
    assert losses[-1] < 0.05 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, curiosity.target.parameters(), strict=True))
    strange = known + 3.0
    both = rnd.bonus(curiosity, replace(cfg, normalise=False), torch.cat((known, strange)), discount=0.99)
    assert float(both[64:].mean()) > 5.0 * float(both[:64].mean())


def test_the_bonus_is_that_of_the_true_successor() -> None:
    """The last step of an episode counts where it led to, not where the next one begins."""
    env = PointMass(8, episode=3)
    obs = env.reset()
    agent = ppo.make_agent(ppo.Config(), {**env.obs_sizes, "action": 1})
    rollout = start_rollout(obs, 6, 1)
    rnd.watch(rollout, rnd.Config(group="critic"))
    collect(agent.actor, env, obs, rollout, EpisodeTracker(8), agent.generator)
    seen = rollout.successor["critic"]
    assert rollout.truncated[2].any()
    assert torch.equal(seen[2][rollout.truncated[2]][:, 2], torch.ones(int(rollout.truncated[2].sum())))  # full age
    goes_on = ~rollout.truncated[0] & (rollout.terminated[0] < 1.0)
    assert torch.equal(seen[0][goes_on], rollout.obs["critic"][1][goes_on])


@pytest.mark.slow
def test_curiosity_finds_the_far_reward_and_ppo_alone_finds_nothing(tmp_path: Path) -> None:
    def best(name: str, curiosity: rnd.Config | None) -> float:
        cfg = replace(CORRIDOR, rnd=curiosity, total_steps=40 * 64 * EPISODE, num_steps=EPISODE, discount=0.98)
        train(cfg, Corridor(64), tmp_path / name, progress=False)
        return max(row.get("episode/return", 0.0) for row in rows(tmp_path / name))

    assert best("alone", None) == 0.0
    assert best("curious", rnd.Config(weight=1.0)) > 10.0  # steps beyond the door, of at most 30 or so


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    curious = rnd.Config(weight=0.5, final_weight=0.1, steps=(0, 6 * PER_ITERATION))

    def run(out: str, rollouts: int, *, resume: bool = False) -> ppo.Agent:
        cfg = replace(CORRIDOR, rnd=curious, total_steps=rollouts * PER_ITERATION)
        return train(cfg, Corridor(32), tmp_path / out, resume=resume, progress=False)

    whole = run("whole", 7)
    run("cut", 4)
    resumed = run("cut", 7, resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert [row["rnd/weight"] for row in rows(tmp_path / "whole")][-1] == pytest.approx(0.1)
    assert whole.curiosity is not None and resumed.curiosity is not None
    for a, b in zip(whole.curiosity.predictor.parameters(), resumed.curiosity.predictor.parameters(), strict=True):
        assert torch.equal(a, b)
    loaded, cfg = ppo.load_agent(tmp_path / "whole" / "checkpoints" / "00000006.npz")
    assert cfg.rnd == curious and loaded.curiosity is not None


def test_resuming_with_another_curiosity_is_refused(tmp_path: Path) -> None:
    cfg = replace(CORRIDOR, total_steps=2 * PER_ITERATION)
    train(cfg, Corridor(32), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"trained with rnd = None; the recipe says Config\(group='policy'"):
        train(replace(cfg, rnd=rnd.Config()), Corridor(32), tmp_path, resume=True, progress=False)
    state = rnd.pack(rnd.make_curiosity(rnd.Config(), SIZES, seed=0))
    with pytest.raises(ValueError, match=r"the checkpoint's target has the shapes .*\(32,\)\]; .*\(8,\)\]"):
        rnd.unpack(rnd.make_curiosity(rnd.Config(embedding=8), SIZES, seed=0), state)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps are \(5, 2\); the first must not exceed the second"):
        rnd.Config(steps=(5, 2))
    for name in ("embedding", "epochs", "minibatches"):
        with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
            rnd.Config(**{name: 0})
    with pytest.raises(ValueError, match="they must not be negative"):
        rnd.Config(weight=-1.0)
    with pytest.raises(ValueError, match=r"no observation group 'camera'; the choices are \['critic', 'policy'\]"):
        rnd.make_curiosity(rnd.Config(group="camera"), SIZES, seed=0)
