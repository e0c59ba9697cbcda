"""A learnt policy gets a fallen robot up where it lies, in place of a hand that puts it back.

Smith et al. 2024 (arXiv 2310.17634): a reset policy, trained in simulation beforehand, drives for at most five seconds
between two episodes; its steps are nobody's experience. It has its own contract (rates, gains, senses) and drives the
same simulated robot through a world of its own task.

Knows: two worlds on one physics. Does not know: learners.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from robot_rl.runtime.policy import Policy
from robot_rl.sim.evaluation import load_pair, undisturbed
from robot_rl.sim.physics import Physics
from robot_rl.sim.task import Task
from robot_rl.sim.world import World

_FOREVER_S = 1e9


class GetUp:
    """Drives one robot until its task calls it solved."""

    def __init__(self, policy: Policy, task: Task, physics: Physics) -> None:
        """Prepare to drive.

        Args:
            policy: Gets up.
            task: What it was trained for; its ``success`` ends a try, its ``episode_s`` gives it up.
            physics: One robot, as the policy's contract has it.

        Raises:
            ValueError: The task does not say what success is, the policy sees pictures, or there are several robots.
        """
        if task.success is None:
            raise ValueError(f"task {task.name!r} does not say when the robot is up: it has no success")
        if physics.num_envs != 1:
            raise ValueError(f"get up: one robot at a time; this world has {physics.num_envs}")
        if policy.contract.images:
            raise ValueError(f"{policy.path} sees pictures; between episodes nobody draws any")
        calm = dataclasses.replace(undisturbed(task), episode_s=_FOREVER_S, dones={}, constraints=None)
        self._success, self._policy = task.success, policy
        self._world = World(calm, physics, seed=0, contract=policy.contract)
        self._limit = round(task.episode_s * task.rate_hz)

    def __call__(self) -> bool:
        """Drive until the robot stands or the time is up; return whether it stands."""
        self._policy.forget()
        seen = self._world.reset(in_place=True)["policy"]
        for _ in range(self._limit):
            step = self._world.step(self._policy.infer(seen[0])[None])
            if self._success(step.outcome)[0] > 0.5:
                return True
            seen = step.next_obs["policy"]
        return False


def attach(world: World, policy: Path | str) -> GetUp:
    """Let ``policy``, a file or a released one's name, get the robot of ``world`` up after each of its episodes.

    The world must be reset before its next step, for its delays come back with that.

    Raises:
        ValueError: The policy is refused or for another robot, its task has no success or other rates of the physics,
            the world's robot cannot fall or stands on rough ground, or there are several robots.
    """
    if not world.robot.floating_base or world.course is not None:
        raise ValueError(f"task {world.task.name!r}: who gets up is a robot that can fall, on flat ground")
    loaded, task = load_pair(policy, robot=world.robot.name)
    world.get_up = get_up = GetUp(loaded, task, world.physics)
    return get_up
