"""Every task in sim/tasks: it builds, its contract travels, and it runs on its robot."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robot_rl import zoo  # noqa: E402 - the robot's environment has no torch and skips this file
from robot_rl.contract.spec import Contract  # noqa: E402
from robot_rl.hardware.robot import load_robot  # noqa: E402
from robot_rl.sim.env import make_env  # noqa: E402
from robot_rl.sim.task import Task  # noqa: E402

STEPS = 20


@pytest.fixture(params=zoo.names("sim", "tasks"))
def task(request: pytest.FixtureRequest) -> Task:
    made = zoo.load("sim", f"tasks/{request.param}").task()
    assert made.name == request.param
    return made


def test_the_contract_survives_json_with_its_fingerprint(task: Task) -> None:
    contract = task.contract(load_robot(task.robot))
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.fingerprint == contract.fingerprint


def test_two_builds_of_a_task_are_the_same_contract(task: Task) -> None:
    robot = load_robot(task.robot)
    other = zoo.load("sim", f"tasks/{task.name}").task()
    assert other.contract(robot).fingerprint == task.contract(robot).fingerprint


def test_the_physics_rate_is_a_whole_multiple_of_the_control_rate(task: Task) -> None:
    assert task.sim_rate_hz == task.decimation * task.rate_hz


def test_a_task_runs_with_finite_numbers_of_the_promised_shapes(task: Task) -> None:
    env = make_env(_blind(task), num_envs=3, seed=1, threads=1)
    try:
        obs = env.reset()
        generator = torch.Generator().manual_seed(1)
        for _ in range(STEPS):
            assert {name: x.shape for name, x in obs.items()} == {n: (3, d) for n, d in env.obs_sizes.items()}
            step = env.step(torch.rand(3, env.num_actions, generator=generator) * 2.0 - 1.0)
            obs = step.obs
            for x in (*obs.values(), *step.next_obs.values(), step.reward, step.terminated):
                assert bool(torch.isfinite(x).all())
    finally:
        env.close()


def test_the_same_seed_gives_the_same_episode(task: Task) -> None:
    first, second, other = (_course(task, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_quiet_variant_keeps_the_contract(task: Task) -> None:
    robot = load_robot(task.robot)
    quiet = dataclasses.replace(task, noise=False, push=None, randomize={}, delay_substeps=(0, 0))
    assert quiet.contract(robot).fingerprint == task.contract(robot).fingerprint


def _blind(task: Task) -> Task:
    """Return the task without cameras, which need a GL; ``tests/sim/test_world_pictures.py`` has one of those."""
    return dataclasses.replace(task, cameras=())


def _course(task: Task, seed: int) -> np.ndarray:
    """Observations and rewards of a few steps; a sparse reward alone would be the same for every seed."""
    env = make_env(_blind(task), num_envs=2, seed=seed, threads=1)
    try:
        env.reset()
        action = torch.full((2, env.num_actions), 0.3)
        steps = [env.step(action) for _ in range(STEPS)]
        return np.stack([torch.cat((s.reward[:, None], s.obs["policy"]), 1).numpy() for s in steps])
    finally:
        env.close()
