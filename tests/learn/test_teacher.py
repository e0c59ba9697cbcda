"""Teachers come from checkpoints of PPO and RLPD, must fit the world, and judge where they have critics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robot_rl.cli.train import Args, run
from robot_rl.learn import checkpoint, distill, ppo, ppo_loop, rlpd, rlpd_file
from robot_rl.learn.agent import Agent
from robot_rl.learn.ensemble import evaluate, split
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.overseer import Overseer, Strategy, by_critics, panel
from robot_rl.learn.teacher import load_teacher
from tests.learn.toy_env import PointMass

SIZES = {"policy": 2, "critic": 3, "action": 1}
VALUED = rlpd.Config(critics=3, hidden=(16, 16), actor_hidden=(16, 16))


def saved(folder: Path, *, policy: int, critic: int, action: int, seed: int = 0) -> tuple[Path, Agent]:
    """A checkpoint of RLPD that has learnt nothing."""
    agent = rlpd.make_agent(
        replace(VALUED, seed=seed), obs_size=policy, num_actions=action, critic_obs_size=critic
    )  # fmt: skip
    path = checkpoint.numbered(folder, 1)
    checkpoint.save(path, rlpd_file.pack(agent, VALUED, 1))
    return path, agent


def test_a_teacher_is_read_from_its_checkpoint_and_must_fit_the_world(tmp_path: Path) -> None:
    cfg = ppo.Config(total_steps=960, num_steps=10, actor_obs="critic", actor_hidden=(8, 8), critic_hidden=(8, 8))
    agent = ppo_loop.train(cfg, PointMass(32), tmp_path, progress=False)
    path = checkpoint.latest(tmp_path / "checkpoints")
    assert path is not None
    master = load_teacher(path, SIZES)
    obs = {"policy": torch.full((5, 2), 9.0), "critic": torch.randn(5, 3)}
    assert torch.equal(master.label(obs), agent.actor(obs["critic"]))
    assert not any(p.requires_grad for p in master.actor.parameters())
    with pytest.raises(ValueError, match=r"was trained with critic of 3; the world has \{'policy': 2, 'action': 1\}"):
        load_teacher(path, {"policy": 2, "action": 1})
    with pytest.raises(ValueError, match="is a checkpoint of 'ppo', not of 'distill'"):
        distill.load_student(path)


def test_a_teacher_with_a_memory_is_refused(tmp_path: Path) -> None:
    cfg = ppo.Config(actor_obs="critic", memory="gru", memory_features=4, actor_hidden=(8,), critic_hidden=(8,))
    path = checkpoint.numbered(tmp_path, 1)
    checkpoint.save(path, ppo.pack(ppo.make_agent(cfg, SIZES), cfg))
    with pytest.raises(ValueError, match=r"has memory 'gru'.*train a teacher with memory 'none'"):
        load_teacher(path, SIZES)


def test_a_teacher_trained_by_rlpd_judges_by_its_critics(tmp_path: Path) -> None:
    path, agent = saved(tmp_path, policy=2, critic=5, action=1)
    master = load_teacher(path, SIZES)
    obs, action = {"policy": torch.randn(7, 2), "critic": torch.randn(7, 3)}, torch.rand(7, 1) * 2.0 - 1.0
    assert torch.equal(master.label(obs), agent.actor(obs["policy"]))
    assert master.judge is not None
    values = master.judge(obs, action)
    assert torch.equal(values, by_critics(agent)(obs, action)) and values.std() > 0.0
    with pytest.raises(ValueError, match=r"was trained with policy of 2; the world has \{'policy': 3, 'action': 1\}"):
        load_teacher(path, {"policy": 3, "action": 1})


def test_a_panel_gives_each_judges_own_opinion(tmp_path: Path) -> None:
    """Judges with statistics of their own; the values are those of their critics, asked one by one."""
    torch.manual_seed(0)
    agents = [saved(tmp_path, policy=2, critic=5, action=1, seed=seed)[1] for seed in range(3)]
    obs, action = {"policy": 3.0 * torch.randn(7, 2), "critic": torch.randn(7, 3)}, torch.rand(7, 1) * 2.0 - 1.0
    wanted = []
    for agent in agents:
        agent.obs_mean, agent.obs_scale, agent.action_scale = torch.randn(5), torch.rand(5) + 0.5, torch.tensor(2.0)
        seen = torch.cat((obs["policy"], obs["critic"]), -1)
        x = torch.cat(((seen - agent.obs_mean) * agent.obs_scale, 2.0 * action), -1)
        wanted.append(evaluate(split(agent.critics.detach(), agent.shape), x).mean(0))
    judge = panel([by_critics(agent) for agent in agents])
    values = judge(obs, action)
    assert values.shape == (3, 7)
    assert torch.allclose(values, torch.stack(wanted), atol=1e-6)
    assert torch.allclose(panel([by_critics(agents[1])])(obs, action), wanted[1], atol=1e-6)
    other = rlpd.make_agent(replace(VALUED, hidden=(8, 8)), obs_size=2, num_actions=1, critic_obs_size=5)
    with pytest.raises(ValueError, match="judges of one shape"):
        panel([by_critics(agents[0]), by_critics(other)])


def test_a_file_that_is_no_teacher_is_named(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, policy=2, critic=3, action=1)
    tree = checkpoint.load(path)
    bare, other = tmp_path / "bare.npz", tmp_path / "other.npz"
    checkpoint.save(bare, {name: x for name, x in tree.items() if name != "layers"})
    checkpoint.save(other, tree | {"algorithm": "aprl"})
    with pytest.raises(ValueError, match=r"the teacher .*bare.npz is a checkpoint of rlpd without its settings"):
        load_teacher(bare, SIZES)
    with pytest.raises(ValueError, match=r"the teacher .*other.npz is a checkpoint of 'aprl', not of 'ppo' or 'rlpd'"):
        load_teacher(other, SIZES)


def test_only_who_can_judge_oversees_by_value(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, policy=2, critic=2, action=1)  # its critics saw less than this world shows
    master = load_teacher(path, SIZES)
    assert master.judge is None
    with pytest.raises(ValueError, match="needs a judge of action values, which a teacher trained by rlpd has"):
        Overseer(Strategy("value"), 4, expert=master.label, judge=master.judge)


def test_a_recipe_is_overseen_by_the_values_of_its_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = tmp_path / "policies" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "valued.py").write_text(
        "from dataclasses import replace\nfrom robot_rl import zoo\nfrom robot_rl.learn.overseer import Strategy\n\n\n"
        "def recipe():\n"
        "    rlif = zoo.load('policies', 'recipes/cartpole_swingup_rlif').recipe()\n"
        "    tiny = {'critics': 2, 'hidden': (8, 8), 'actor_hidden': (8, 8), 'utd': 1, 'batch': 8, 'log_every': 100}\n"
        "    config = replace(rlif.config, rlpd=replace(rlif.config.rlpd, **tiny), demos=0, total_steps=400,\n"
        "        strategy=Strategy('value', margin=0.0, certainty=1.0))\n"
        "    return replace(rlif, config=config)\n"
    )
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    path, _ = saved(tmp_path / "teacher", policy=6, critic=6, action=1, seed=3)
    assert run(Args(recipe="valued", teacher=path, out=tmp_path / "run", progress=False)) == 0
    duty = [row["overseer/duty"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert 0.1 < sum(duty) / len(duty) < 1.0  # the policy does as the critics like now and then
