"""The go2's declared symmetry is that of its physics: a mirrored robot, driven by mirrored actions, moves mirrored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.hardware.symmetry import make_reflections
from robot_rl.sim.backends import make_physics
from robot_rl.sim.world import World

STEPS = 40


@pytest.mark.parametrize("name", ["go2_velocity", "go2_velocity_cat", "go2_velocity_rough", "go2_velocity_rough_cat"])
def test_every_task_of_the_go2_has_a_mirror_image(name: str) -> None:
    task = zoo.load("sim", f"tasks/{name}").task()
    world = World(task, make_physics(task, num_envs=1, threads=1), seed=0)
    mirror = make_reflections(world.robot, world.contract, tuple(task.privileged), task.reflections)
    assert {group: len(r.index) for group, r in mirror.obs.items()} == world.obs_sizes
    world.close()


def test_a_mirrored_go2_moves_as_the_mirror_shows() -> None:
    task = zoo.load("sim", "tasks/go2_velocity").task()
    task = dataclasses.replace(task, noise=False, push=None, randomize={}, resets={}, delay_substeps=(0, 0))
    world = World(task, make_physics(task, num_envs=2, threads=1), seed=0)
    mirror = make_reflections(world.robot, world.contract, tuple(task.privileged))
    assert {name: len(r.index) for name, r in mirror.obs.items()} == world.obs_sizes
    command = np.array((0.5, 0.3, -0.4))
    world.commands.fixed = np.stack((command, command * (1.0, -1.0, -1.0)))
    seen = world.reset()
    rng = np.random.default_rng(3)
    action = np.zeros(12)
    for _ in range(STEPS):
        assert np.array_equal(mirror.obs["policy"](seen["policy"][0])[6:9], seen["policy"][1][6:9])  # the command
        action = 0.7 * action + 0.3 * rng.uniform(-1.0, 1.0, 12)
        step = world.step(np.stack((action, mirror.action(action))))
        assert not step.terminated.any()
        seen = step.obs
    world.close()
    for group, reflection in mirror.obs.items():
        left, right = reflection(seen[group][0]), seen[group][1]
        assert np.abs(right).max() > 0.3
        assert np.abs(left - right).max() < 1e-4, group
    assert abs(step.reward[0] - step.reward[1]) < 1e-5
