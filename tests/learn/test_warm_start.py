"""Critics of an earlier run go on learning: taken over exactly, refused where they value something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.data.replay import Replay, transition_columns
from robot_rl.learn import checkpoint, iql, iql_loop, rlpd
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.graph import dense_forward, read_mlp
from robot_rl.learn.learner import Learner
from robot_rl.learn.warm_start import adopt, read_critics
from tests.learn.test_learner import CONFIG, SMALL, make_job
from tests.learn.tiny_robot import CONTRACT, Slider, released_net, reward, write_released

OFFLINE = iql.Config(
    critics=2, hidden=(32, 32), layer_norm=True, actor_hidden=(16,), batch=32, updates=100, block=50, log_every=50,
    save_every=50, discount=SMALL.discount,
)  # fmt: skip


@pytest.fixture
def learnt(tmp_path: Path) -> tuple[iql.Student, Path]:
    """IQL on what the tiny robot recorded, exported as the released policy of a job; its newest checkpoint."""
    from robot_rl.data.feeder import Feeder

    Slider(tmp_path / "store", wind=0.4).run(dense_forward(released_net()), 12)
    data = Replay(2_000, transition_columns(CONTRACT.obs_size, CONTRACT.num_actions))
    feeder = Feeder(tmp_path / "store", CONTRACT, data, reward)
    feeder.poll()
    feeder.close()
    student = iql_loop.train(OFFLINE, data, tmp_path / "offline", progress=False)
    path = checkpoint.latest(tmp_path / "offline/checkpoints")
    assert path is not None
    about = Provenance(recipe="slider_iql", seed=0, steps=student.steps)
    export_policy(student.policy, CONTRACT, tmp_path / "released.onnx", provenance=about)
    return student, path


def test_what_iql_learnt_offline_goes_on_learning_live(learnt: tuple[iql.Student, Path], tmp_path: Path) -> None:
    student, path = learnt
    learner = Learner(replace(make_job(tmp_path), critics=path), replace(CONFIG, rlpd=replace(SMALL, warmup=0)))
    learner.follow()
    assert learner.started
    for name in ("critics", "targets", "obs_mean", "obs_scale"):
        assert torch.equal(getattr(learner.agent, name).detach(), getattr(student, name).detach()), name
    for (w, b), (v, c) in zip(learner.agent.actor.as_mlp().layers, student.policy.as_mlp().layers, strict=True):
        assert np.array_equal(w, v)
        assert np.array_equal(b, c)
    assert learner.agent.critics.data_ptr() != student.critics.data_ptr()
    warm = learner.step()["critic_loss"]
    cold = Learner(replace(make_job(tmp_path), out=tmp_path / "cold"), CONFIG)
    cold.follow()
    assert warm < cold.step()["critic_loss"]


def test_critics_of_something_else_are_refused(learnt: tuple[iql.Student, Path], tmp_path: Path) -> None:
    _, path = learnt
    known, released = read_critics(path), read_mlp(tmp_path / "released.onnx")
    agent = rlpd.make_agent(SMALL, obs_size=CONTRACT.obs_size, num_actions=1, start=released)
    with pytest.raises(ValueError, match=r"values with discount 0\.9; the recipe has 0\.99"):
        adopt(agent, known, released, discount=0.99)
    with pytest.raises(ValueError, match="values another policy than the released one"):
        adopt(agent, known, read_mlp(write_released(tmp_path / "another.onnx")), discount=0.9)
    wide = rlpd.make_agent(replace(SMALL, critics=3), obs_size=CONTRACT.obs_size, num_actions=1, start=released)
    with pytest.raises(ValueError, match=r"has critics Shape\(.*members=2.*want Shape\(.*members=3"):
        adopt(wide, known, released, discount=0.9)
    checkpoint.save(tmp_path / "ppo.npz", {"algorithm": "ppo"})
    with pytest.raises(ValueError, match=r"is of 'ppo'; critics of actions have \('rlpd', 'iql', 'rlif', 'aprl'\)"):
        read_critics(tmp_path / "ppo.npz")
