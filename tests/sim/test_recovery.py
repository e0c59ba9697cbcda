"""A fallen robot is got up by a policy of another contract, on the same physics; a hand comes where that fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.cli.learning import read_about
from robot_rl.cli.train import Args, run
from robot_rl.contract.terms import gravity_parts
from robot_rl.hardware.robot import load_robot
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.metrics import read_metrics
from robot_rl.learn.nets import DenseNet
from robot_rl.sim.backends import make_physics
from robot_rl.sim.evaluation import undisturbed
from robot_rl.sim.events import quaternion
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.recovery import attach
from robot_rl.sim.world import World

TASK = dataclasses.replace(undisturbed(zoo.load("sim", "tasks/go2_aprl").task()), resets={})
REST = np.zeros((1, 12), dtype=np.float32)


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of go2_recover that asks for the default pose, whatever it sees: no way up from the back."""
    contract = zoo.load("sim", "tasks/go2_recover").task().contract(load_robot("go2"))
    net = DenseNet(((np.zeros((12, contract.obs_size), np.float32), np.zeros(12, np.float32)),), "relu")
    path = tmp_path_factory.mktemp("get_up") / "holding.onnx"
    export_policy(net, contract, path, provenance=Provenance("go2_recover", "test", 0, 0))
    return path


@pytest.fixture
def world() -> Generator[World, None, None]:
    with closing(World(TASK, make_physics(TASK, num_envs=1, threads=1), seed=0)) as made:
        made.reset()
        yield made


def lay(world: World, roll: float, height: float) -> None:
    """Put the robot down, rolled over [rad]."""
    turned = quaternion(np.array([roll]), np.zeros(1), np.array([0.5]))
    world.physics.reset(np.arange(1), {"quat_xyzw": turned, "base_pos_w": np.array([[3.0, 0.0, height]])})
    world.reset(in_place=True)


def up(world: World) -> float:
    return float(-gravity_parts(world.state.quat_xyzw)[2][0])


def test_a_robot_that_can_stand_goes_on_where_it_fell(world: World, holding: Path) -> None:
    attach(world, holding)
    lay(world, 0.6, 0.3)  # beyond the 30 degrees that end an episode, the feet below
    step = world.step(REST)
    assert step.terminated[0] == 1.0
    assert world.put_back == 0
    assert up(world) > 0.96 and world.state.base_pos_w is not None
    assert abs(world.state.base_pos_w[0, 0] - 3.0) < 0.5  # a reset would lead to the origin
    assert np.abs(step.next_obs["policy"] - step.obs["policy"]).max() > 0.1  # before and after
    np.testing.assert_array_equal(world.state.last_action, 0.0)
    assert world.step(REST).terminated[0] == 0.0


def test_who_cannot_get_up_is_put_back(world: World, holding: Path) -> None:
    attach(world, holding)
    lay(world, np.pi, 0.1)
    world.step(REST)
    assert world.put_back == 1
    assert up(world) > 0.99 and world.state.base_pos_w is not None
    np.testing.assert_allclose(world.state.base_pos_w[0, :2], 0.0, atol=1e-9)


def test_a_try_takes_five_seconds_at_most(world: World, holding: Path) -> None:
    get_up = attach(world, holding)
    lay(world, np.pi, 0.1)
    before = float(world.physics.state().stamp_s[0])
    assert not get_up()
    assert float(world.physics.state().stamp_s[0]) - before == pytest.approx(5.0)


def test_the_world_keeps_its_own_delay(holding: Path) -> None:
    late = dataclasses.replace(TASK, delay_substeps=(1, 1))
    with closing(World(late, make_physics(late, num_envs=1, threads=1), seed=0)) as world:
        physics = world.physics
        assert isinstance(physics, MujocoCpu)
        told: list[int] = []
        monkey = physics.delay
        physics.delay = lambda ids, substeps: (told.append(int(substeps[0])), monkey(ids, substeps))[1]  # type: ignore[method-assign]
        attach(world, holding)
        world.reset()
        assert told == [0, 1]
        lay(world, 0.6, 0.3)
        assert world.step(REST).terminated[0] == 1.0
        assert told[-2:] == [0, 1]  # while it gets up, and again in the next episode
        stored = world.snapshot()
        lay(world, np.pi, 0.1)
        world.step(REST)
        assert told[-2:] == [0, 1] and world.put_back == 1  # put back, too
        world.restore(stored)
        assert told[-1] == 1 and world.put_back == 0


def test_what_does_not_fit_is_refused(holding: Path) -> None:
    two = World(TASK, make_physics(TASK, num_envs=2, threads=1), seed=0)
    with closing(two), pytest.raises(ValueError, match="one robot at a time; this world has 2"):
        attach(two, holding)
    reach = zoo.load("sim", "tasks/panda_reach").task()
    fixed = World(reach, make_physics(reach, num_envs=1, threads=1), seed=0)
    with closing(fixed), pytest.raises(ValueError, match="'panda_reach': who gets up is a robot that can fall"):
        attach(fixed, holding)
    with pytest.raises(ValueError, match="who practises is brought back by its own policies"):
        dataclasses.replace(zoo.load("policies", "recipes/cartpole_swingup_practice").recipe(), recover="go2_recover")
    with pytest.raises(ValueError, match="gets up one robot on mujoco_cpu, not 4 on mujoco_cpu"):
        dataclasses.replace(zoo.load("policies", "recipes/go2_aprl").recipe(), num_envs=4, recover="go2_recover")


def test_a_policy_whose_task_has_no_success_gets_nobody_up(world: World) -> None:
    with pytest.raises(ValueError, match="'go2_velocity' does not say when the robot is up"):
        attach(world, "go2_walk_ppo")


def test_a_recipe_lets_its_robot_be_got_up(holding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = tmp_path / "policies" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "wild.py").write_text(
        "from dataclasses import replace\nfrom robot_rl import zoo\n\n\ndef recipe():\n"
        "    wild = zoo.load('policies', 'recipes/go2_aprl_unrestricted').recipe()\n"
        "    tiny = {'hidden': (8, 8), 'actor_hidden': (8, 8), 'start_steps': 280, 'utd': 1, 'batch': 8}\n"
        "    rlpd = replace(wild.config.rlpd, log_every=100, save_every=300, **tiny)\n"
        "    config = replace(wild.config, rlpd=rlpd, dynamics_hidden=(8, 8), total_steps=300)\n"
        f"    return replace(wild, config=config, recover={str(holding)!r})\n"
    )
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    assert run(Args(recipe="wild", out=tmp_path / "run", progress=False)) == 0
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert sum(row["episode/falls"] for row in rows) > 3
    put_back = sum(100 * row["watched/put_back"] for row in rows)
    assert put_back == pytest.approx(round(put_back)) and put_back >= 1  # who only holds still stays on its back
    assert read_about(tmp_path / "run")["recover"] == str(holding)
