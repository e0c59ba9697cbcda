"""A task's rewards and privileged terms, computed from rows that a robot recorded.

Knows: a task, a contract, the order of joints. Does not know: stores, replay, learners.

Shapes: n rows · k privileged numbers · J joints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from robot_rl.contract.apply import joint_indices
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.data.transition import as_state
from robot_rl.hardware.robot import Robot
from robot_rl.sim.task import Outcome, Task, recorded_reward


def make_reward(task: Task, contract: Contract, robot: Robot) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return ``(rows_t, rows_t1) -> reward`` (n,): the task's terms that a recording has all the inputs for."""
    order = joint_indices(contract, robot.joints)

    def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
        before, after = _state(now, order), _state(then, order)
        after.command = before.command  # the one in force while the step was made
        outcome = Outcome(before, after, now["action"].astype(np.float64), 1.0 / contract.rate_hz, contract)
        return np.asarray(recorded_reward(task, outcome), dtype=np.float32)

    return reward


def recorded_success(task: Task, contract: Contract, robot: Robot, rows: np.ndarray) -> np.ndarray:
    """Return whether the task calls each of ``rows`` (n,) solved, bool (n,).

    Raises:
        ValueError: The task has no term of success.
    """
    if task.success is None:
        raise ValueError(f"task {task.name!r} has no success term")
    state = _state(rows, joint_indices(contract, robot.joints))
    outcome = Outcome(state, state, rows["action"].astype(np.float64), 1.0 / contract.rate_hz, contract)
    return np.asarray(task.success(outcome)) > 0.5


def measured_terms(task: Task, contract: Contract, robot: Robot, rows: np.ndarray) -> tuple[str, ...]:
    """Return the names of the task's privileged terms that ``rows`` (n,) hold numbers for, every one finite."""
    order = joint_indices(contract, robot.joints)
    state = _state(rows, order)
    return tuple(name for name, term in task.privileged.items() if np.isfinite(term(state, contract)).all())


def make_features(
    task: Task, contract: Contract, robot: Robot, names: Sequence[str]
) -> Callable[[np.ndarray], np.ndarray]:
    """Return ``rows -> numbers`` (n, k): the privileged terms called ``names``, side by side.

    Raises:
        ValueError: The task has no such term; the error lists those it has.
    """
    unknown = sorted(set(names) - set(task.privileged))
    if unknown:
        raise ValueError(f"task {task.name!r} has no privileged terms {unknown}; it has {sorted(task.privileged)}")
    order = joint_indices(contract, robot.joints)

    def features(rows: np.ndarray) -> np.ndarray:
        state = _state(rows, order)
        parts = [np.asarray(task.privileged[name](state, contract), np.float32) for name in names]
        return np.concatenate([np.empty((len(rows), 0), np.float32), *parts], -1)

    return features


def _state(rows: np.ndarray, order: list[int]) -> RobotState:
    """Return rows as states in float64, joints in the contract's order."""
    state = as_state(rows)
    wide = {
        f.name: None if (value := getattr(state, f.name)) is None else np.asarray(value, np.float64)
        for f in dataclasses.fields(RobotState)
    }
    for name in ("joint_pos", "joint_vel", "joint_effort"):
        wide[name] = wide[name][..., order]  # type: ignore[index]  # always recorded
    return RobotState(**wide)
