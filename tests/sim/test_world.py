"""The environment: what a step returns at the end of an episode, delays, determinism, rewards, observations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.contract.apply import ActionMap, Observer
from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.learn import checkpoint
from robot_rl.learn.env import Step, VecEnv
from robot_rl.sim.backends import make_physics
from robot_rl.sim.env import Env, EnvStep, make_env
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.task import Push, Range, Task, recorded_reward
from robot_rl.sim.world import World, WorldStep, state_rows
from tests.sim.hopper import hopper_task


def make(robot: Robot, task: Task, n: int = 1, *, seed: int = 0) -> World:
    return World(task, MujocoCpu(robot, n, threads=1), seed=seed)


def go2_world(n: int, *, seed: int = 0, threads: int = 1, **changes: object) -> World:
    task = dataclasses.replace(zoo.load("sim", "tasks/go2_velocity").task(), **changes)
    return World(task, make_physics(task, num_envs=n, threads=threads), seed=seed)


def flail(world: World, steps: int, seed: int = 1) -> list[WorldStep]:
    rng = np.random.default_rng(seed)
    world.reset()
    return [world.step(rng.uniform(-1, 1, (world.num_envs, world.num_actions))) for _ in range(steps)]


def test_the_environment_is_what_the_learner_asks_for(hopper: Robot) -> None:
    env: VecEnv = Env(hopper_task(), MujocoCpu(hopper, 2, threads=1), seed=0)
    assert EnvStep._fields == Step._fields
    assert env.obs_sizes == {"policy": 5, "critic": 6} and env.num_actions == 1
    env.reset()
    step = env.step(torch.zeros(2, 1))
    assert step.reward.dtype == step.terminated.dtype == step.obs["critic"].dtype == torch.float32
    assert step.truncated.dtype == torch.bool and step.obs["policy"].shape == (2, 5)
    env.close()


def test_the_clock_truncates_and_the_successor_is_the_true_one(hopper: Robot) -> None:
    """An episode of 0.5 s at 50 Hz ends with the 25th step; the observations of that step differ."""
    world = make(hopper, hopper_task())
    first = world.reset()["policy"]
    steps = [world.step(np.full((1, 1), -0.5)) for _ in range(26)]
    assert [bool(s.truncated[0]) for s in steps] == [False] * 24 + [True, False]
    assert not any(s.terminated[0] for s in steps)
    end = steps[24]
    assert all(s.obs is s.next_obs for s in steps[:24])
    np.testing.assert_array_equal(end.obs["policy"], first)
    assert end.next_obs["policy"][0, 2] == pytest.approx(end.outcome.after.joint_pos[0, 0] - 0.3)
    assert end.next_obs["policy"][0, 4] == -0.5 and end.obs["policy"][0, 4] == 0.0  # last action
    assert end.next_obs["critic"][0, 5] == pytest.approx(end.outcome.after.base_pos_w[0, 2], rel=1e-6)
    assert end.log["episode/length_s"] == pytest.approx(0.5) and end.log["episode/count"] == 1.0
    assert end.log["episode/return"] == pytest.approx(float(sum(s.reward[0] for s in steps[:25])), rel=1e-5)


def test_a_fall_terminates_and_only_the_fallen_begin_anew(hopper: Robot) -> None:
    world = make(hopper, hopper_task(), 3)
    world.reset()
    world.step(np.zeros((3, 1)))
    side = np.array([[np.sin(0.35), 0.0, 0.0, np.cos(0.35)]])  # 0.7 rad, beyond 0.5
    world.physics.reset(np.array([1]), {"quat_xyzw": side})
    s = world.step(np.zeros((3, 1)))
    np.testing.assert_array_equal(s.terminated, [0.0, 1.0, 0.0])
    assert not s.truncated.any()
    np.testing.assert_array_equal(s.obs["policy"][[0, 2]], s.next_obs["policy"][[0, 2]])
    assert world.state.quat_xyzw[1, 3] == pytest.approx(1.0)  # upright again
    assert s.outcome.after.quat_xyzw[1, 3] < 0.97  # the outcome is the fall


def test_reaching_the_time_limit_while_falling_counts_as_a_fall(hopper: Robot) -> None:
    world = make(hopper, dataclasses.replace(hopper_task(), episode_s=0.02))
    world.reset()
    world.physics.reset(np.zeros(1, int), {"base_pos_w": np.array([[0.0, 0.0, 0.1]])})
    s = world.step(np.zeros((1, 1)))
    assert s.terminated[0] == 1.0 and not s.truncated[0]


def test_history_is_oldest_first_and_restarts_with_the_episode(hopper: Robot) -> None:
    world = make(hopper, hopper_task())
    obs = [world.reset()["policy"][0]]
    obs += [world.step(np.full((1, 1), -0.5)).obs["policy"][0] for _ in range(25)]
    newest = [o[2] for o in obs]
    np.testing.assert_array_equal(obs[0][:3], [newest[0]] * 3)
    np.testing.assert_array_equal(obs[10][:3], [newest[8], newest[9], newest[10]])
    np.testing.assert_array_equal(obs[25][:3], [newest[25]] * 3)


def test_the_observation_of_many_equals_that_of_one_state_after_the_other() -> None:
    world = go2_world(4, noise=False)
    alone = [Observer(world.contract, world.robot.joints) for _ in range(4)]
    rng = np.random.default_rng(0)
    world.reset()
    for _ in range(10):
        s = world.step(rng.uniform(-1, 1, (4, 12)))
        for i, observer in enumerate(alone):
            one = state_rows(world.state, slice(i, i + 1))
            single = RobotState(
                **{f.name: None if (x := getattr(one, f.name)) is None else x[0] for f in dataclasses.fields(one)}
            )
            np.testing.assert_allclose(observer(single), s.obs["policy"][i], atol=1e-6)


def test_noise_stays_within_its_half_width_and_spares_the_critic() -> None:
    quiet, noisy = go2_world(8, noise=False, push=None), go2_world(8, push=None)
    noisy.reset()
    s = noisy.step(np.zeros((8, 12)))
    clean, seen = s.obs["critic"][:, :45], s.obs["policy"]
    gap = np.abs(seen - clean).max(axis=0)
    assert 0.0 < gap[:3].max() <= 0.25 * 0.2 + 1e-6  # angular velocity: scale times half width
    assert 0.0 < gap[9:21].max() <= 0.01 + 1e-6
    assert gap[6:9].max() == 0.0 and gap[33:].max() == 0.0  # command and last action are known exactly
    quiet.reset()
    same = quiet.step(np.zeros((8, 12)))
    np.testing.assert_array_equal(same.obs["critic"][:, :45], same.obs["policy"])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_fixes_everything_at_any_number_of_threads(threads: int) -> None:
    """Episodes of 0.4 s, so that resets, commands, pushes, delays, noise and randomisation all take part."""
    changes = {"episode_s": 0.4, "push": Push(every_s=(0.1, 0.2))}
    one = flail(go2_world(5, seed=7, **changes), 40)
    two = flail(go2_world(5, seed=7, threads=threads, **changes), 40)
    other = flail(go2_world(5, seed=8, **changes), 40)
    for a, b in zip(one, two, strict=True):
        for field in ("policy", "critic"):
            np.testing.assert_array_equal(a.obs[field], b.obs[field])
        np.testing.assert_array_equal(a.reward, b.reward)
        np.testing.assert_array_equal(a.truncated, b.truncated)
    assert any(s.truncated.any() for s in one)
    assert not np.array_equal(one[-1].obs["policy"], other[-1].obs["policy"])


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 4])
def test_a_late_link_keeps_the_old_target_for_exactly_its_substeps(hopper: Robot, delay: int) -> None:
    """Before the first target there is the default pose; a period is 4 substeps."""
    world = make(hopper, dataclasses.replace(hopper_task(), delay_substeps=(delay, delay)))
    physics, law = MujocoCpu(hopper, 1, threads=1), ActionMap(world.contract, hopper.joints)
    world.reset()
    targets = [law.target(np.full((1, 1), a), world.state) for a in (0.5, -1.0)]
    rest = dataclasses.replace(targets[0], pos=np.full((1, 1), hopper.default_pos[0]))
    for sent in ([rest] * delay + [targets[0]] * 4 + [targets[1]] * 4)[:8]:
        physics.apply(sent)
        physics.step(1)
    world.step(np.full((1, 1), 0.5))
    s = world.step(np.full((1, 1), -1.0))
    np.testing.assert_allclose(s.outcome.after.joint_pos, physics.state().joint_pos, rtol=0, atol=1e-12)


def test_recorded_rewards_are_the_environments_own_terms() -> None:
    world = go2_world(6)
    for s in flail(world, 15):
        unrecorded = [r for r in world.task.rewards.values() if not r.recorded]
        rest = sum(r.weight * r.term(s.outcome) for r in unrecorded) * world.dt_s
        np.testing.assert_allclose(recorded_reward(world.task, s.outcome) + rest, s.reward, rtol=1e-5, atol=1e-6)
    assert unrecorded


def test_the_reward_is_the_weighted_sum_times_the_period(hopper: Robot) -> None:
    world = make(hopper, hopper_task())
    world.reset()
    s = world.step(np.zeros((1, 1)))
    torque = s.outcome.after.joint_effort[0, 0]
    assert s.reward[0] == pytest.approx(0.02 * (1.0 - 1e-3 * torque**2), rel=1e-6)


def test_the_reward_sees_the_command_that_was_in_force() -> None:
    """Commands change every control step here; the outcome's is the one the policy had seen."""
    world = go2_world(3, noise=False, commands=dataclasses.replace(
        zoo.load("sim", "tasks/go2_velocity").task().commands, resample_s=(0.01, 0.01)))  # fmt: skip
    seen = world.reset()["policy"][:, 6:9]
    for _ in range(5):
        s = world.step(np.zeros((3, 12)))
        np.testing.assert_allclose(s.outcome.after.command, seen, atol=1e-6)
        assert not np.allclose(s.obs["policy"][:, 6:9], seen)
        seen = s.obs["policy"][:, 6:9]


def test_staggered_episodes_do_not_end_together(hopper: Robot) -> None:
    world = make(hopper, hopper_task(), 16)
    world.reset()
    world.stagger()
    ends = [int(world.step(np.zeros((16, 1))).truncated.sum()) for _ in range(25)]
    assert sum(ends) == 16 and max(ends) < 8


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"randomize": {"colour": Range(0, 1)}}, r"no physical parameter 'colour'; the choices are .*payload_kg"),
        ({"resets": {"joints": Range(0, 1)}}, r"task 'hop' resets \['joints'\]; the choices are .*joint_pos"),
        ({"sim_rate_hz": 400.0}, r"wants physics at 400.0 Hz; the model steps 0.005 s"),
        ({"obs": {"smell": hopper_task().obs["last_action"]}}, r"no observation term 'smell'; the choices are"),
    ],
)
def test_a_task_that_cannot_be_is_refused_with_the_choices(hopper: Robot, changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make(hopper, dataclasses.replace(hopper_task(), **changes))


def test_a_contract_of_another_rate_is_refused(hopper: Robot) -> None:
    contract = dataclasses.replace(hopper_task().contract(hopper), rate_hz=100.0)
    with pytest.raises(ValueError, match=r"at 100.0 Hz; the world has 'hopper' at 50.0 Hz"):
        World(hopper_task(), MujocoCpu(hopper, 1, threads=1), seed=0, contract=contract)


def test_an_unknown_backend_is_answered_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"no physics backend 'bullet'.*mujoco_cpu"):
        make_env(zoo.load("sim", "tasks/go2_velocity").task(), num_envs=1, seed=0, physics="bullet")


def test_the_world_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, robot_rl.sim.world, robot_rl.sim.twin, robot_rl.cli.eval, robot_rl.cli.play\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("name", ["go2_velocity", "go2_velocity_cat", "cartpole_swingup"])
def test_a_restored_world_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Through a checkpoint file; episodes end, robots are pushed and commands change on both sides of the cut."""
    task = dataclasses.replace(zoo.load("sim", f"tasks/{name}").task(), episode_s=0.5)
    task = dataclasses.replace(task, push=task.push and Push(every_s=(0.1, 0.4), lin_vel=1.0))

    def build() -> Env:
        env = make_env(task, num_envs=6, seed=3, threads=1)
        env.reset()
        env.stagger()
        return env

    first = build()
    rng = torch.Generator().manual_seed(0)
    actions = 2.0 * torch.rand(90, 6, first.num_actions, generator=rng) - 1.0
    for action in actions[:40]:
        first.step(action)
    checkpoint.save(tmp_path / "env.npz", first.snapshot())
    second = build()
    second.restore(checkpoint.load(tmp_path / "env.npz"))
    ended = 0
    for action in actions[40:]:
        a, b = first.step(action), second.step(action)
        ended += int(a.truncated.sum())
        for x, y in zip((*a.obs.values(), *a[1:4]), (*b.obs.values(), *b[1:4]), strict=True):
            assert torch.equal(x, y)
        assert a.log == b.log
    assert ended >= 6


def test_a_snapshot_of_another_number_of_copies_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, .*here they are \(3"):
        go2_world(3).restore(go2_world(2).snapshot())
