"""What a learner in simulation is paid by: the task as it is, its success alone, or a judge's word.

Knows: the names of rewards, files of judges. Does not know: how judges are made, learners.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from robot_rl.data.replay import Replay
    from robot_rl.learn.env import VecEnv
    from robot_rl.sim.env import Env
    from robot_rl.sim.task import Task


def rewarded(task: Task, reward: str) -> Task:
    """Return the task with the reward that a recipe names; a judge's comes with ``judged``.

    Args:
        task: What is learnt.
        reward: ``task`` leaves it as it is, ``sparse`` pays 1 in every step that its success term calls solved, else a
            judge's ``.onnx`` file.

    Raises:
        ValueError: The task has no success term.
    """
    from robot_rl.sim.task import Reward

    if reward != "sparse":
        return task
    if task.success is None:
        raise ValueError(f"task {task.name!r} has no success term; reward 'sparse' pays for it")
    return dataclasses.replace(task, rewards={"success": Reward(task.success, task.rate_hz)})


def judged(env: Env, reward: str, prior: Replay | None) -> VecEnv:
    """Return the world that the recipe's reward pays, and let a judge price the prior data as well.

    Raises:
        ValueError: The judge looks at what the world does not show, was taught under another contract, or looks at
            pictures, which prior data does not hold.
    """
    world = cast("VecEnv", env)
    if not reward.endswith(".onnx"):
        return world
    from robot_rl.contract.judge import STATE, Judge
    from robot_rl.learn.judged import Judged

    judge = Judge(Path(reward))
    if judge.spec.source == STATE and judge.spec.contract not in ("", env.contract.fingerprint):
        raise ValueError(
            f"{reward} was taught under contract {judge.spec.contract[:12]}…; the recipe's world has "
            f"{env.contract.fingerprint[:12]}…"
        )
    if prior is not None:
        if judge.spec.source != STATE:
            raise ValueError(f"{reward} looks at {judge.spec.source!r}, which prior data does not hold")
        columns = prior.split(prior.rows[: len(prior)])
        seen = np.ascontiguousarray(columns["next_obs"][:, : judge.spec.shape[0]])
        columns["reward"][:] = judge.success(seen)
    return Judged(world, judge.success, judge.spec.source)
