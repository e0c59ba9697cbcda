"""``robot-rl train --guide``: a policy or an expert acts first, in its own world and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

import torch

from robot_rl import zoo
from robot_rl.cli import train
from robot_rl.cli.guide import make_guide
from robot_rl.learn.metrics import METRICS_FILE, read_metrics
from robot_rl.sim.env import make_env
from robot_rl.sim.expert import load_expert


def args(out: Path, steps: int, guide: str | None = None, *, resume: bool = False) -> train.Args:
    return train.Args(
        "cartpole_swingup_rlpd", seed=1, total_steps=steps, out=out, guide=guide, resume=resume, progress=False
    )


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy that knows nothing."""
    out = tmp_path_factory.mktemp("first")
    assert train.run(args(out, 1_000)) == 0
    return str(out / "policy.onnx")


def test_a_policy_leads_the_next_run_which_says_so_and_goes_on_with_it_alone(guide: str, tmp_path: Path) -> None:
    assert train.run(args(tmp_path / "led", 1_000, guide)) == 0
    assert json.loads((tmp_path / "led/run.json").read_text())["guide"] == guide
    assert "guide/stage" in read_metrics(tmp_path / "led" / METRICS_FILE)[-1]
    with pytest.raises(ValueError, match=f"not of ''; repeat --guide {guide}, or choose"):
        train.run(args(tmp_path / "led", 1_100, resume=True))
    assert train.run(args(tmp_path / "led", 1_100, guide, resume=True)) == 0


def test_a_guide_acts_as_it_would_by_itself_and_in_its_own_world_alone(guide: str) -> None:
    env = make_env(zoo.load("sim", "tasks/panda_lift").task(), num_envs=2, seed=0, threads=1)
    obs = env.reset()
    led, expert = make_guide("panda_lift", env), load_expert("panda_lift", env.contract, env.robot)
    torch.testing.assert_close(led(obs), torch.from_numpy(expert(env.world.state)))
    with pytest.raises(ValueError, match="cartpole"):
        make_guide(guide, env)
    with pytest.raises(ValueError, match=r"no guide 'nobody': .*; the experts are \[.*'panda_lift'"):
        make_guide("nobody", env)
    env.close()
    cartpole = make_env(zoo.load("sim", "tasks/cartpole_swingup").task(), num_envs=2, seed=0, threads=1)
    obs = cartpole.reset()
    action = make_guide(guide, cartpole)(obs)
    assert action.shape == (2, 1) and not torch.equal(action[0], action[1])
    cartpole.close()


def test_only_rlpd_is_led() -> None:
    with pytest.raises(ValueError, match="learns without a guide"):
        train.run(train.Args("go2_walk_ppo", guide="panda_lift"))
