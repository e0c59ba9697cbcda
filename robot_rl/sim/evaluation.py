"""How good a policy is: many episodes of the exported network itself in simulation, over a grid of commands.

Every episode is one copy's first, so that short episodes count as often as long ones. The network runs in onnxruntime,
one observation at a time, exactly as on the robot. No torch.

Knows: policies as the runtime loads them, worlds, what velocity error means.
Does not know: how the policy was trained, terminals.

Shapes: E episodes · N copies that run at once · A action · K command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl import zoo
from robot_rl.contract.sight import pictures_of
from robot_rl.contract.spec import Command
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.policy import Policy
from robot_rl.sim.backends import check_physics, make_physics
from robot_rl.sim.cat import violations
from robot_rl.sim.curriculum import Curriculum
from robot_rl.sim.physics import parameter_row
from robot_rl.sim.task import Constraints, Outcome, Task
from robot_rl.sim.world import World

SETTLE_S = 1.0
"""The start of an episode that velocity errors leave out [s]."""
COPIES = 256
"""Most episodes that run at once."""
VELOCITY = ("lin_vel_x", "lin_vel_y", "ang_vel_z")
"""Commands that make a task one of following velocities."""

Progress = Callable[[int, int], None]
"""Called with the control steps done and the steps in all; an early end jumps to all."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """What happened, episode by episode."""

    command: np.ndarray
    """(E, K)."""
    fell: np.ndarray
    """Whether the task ended it unsolved, (E,) bool."""
    returns: np.ndarray
    """Sum of rewards, (E,)."""
    length_s: np.ndarray
    """(E,)."""
    steps: np.ndarray
    """Control steps that the errors count, (E,)."""
    lin_vel: np.ndarray
    """Sum over these of |v_xy - v_xy*| [m/s], (E,); NaN where the task commands no velocity."""
    yaw_rate: np.ndarray
    """Sum over these of |w_z - w_z*| [rad/s], (E,)."""
    all_steps: np.ndarray
    """Control steps of the whole episode, (E,)."""
    action_change: np.ndarray
    """Sum over all steps but the first of ((a_t - a_{t-1}) / 2)^2, mean over actions, whose range is 2, (E,)."""
    violated: dict[str, np.ndarray] = field(default_factory=dict)
    """Control steps of the whole episode that broke each constraint of the task, (E,) per name."""
    terms: dict[str, np.ndarray] = field(default_factory=dict)
    """Sum over the whole episode of each reward term, weighted, (E,) per name; together they are ``returns``."""
    ground: dict[str, np.ndarray] = field(default_factory=dict)
    """On rough ground the ``kind`` of each one's tile and its ``level``, (E,) per name."""
    solved: dict[str, np.ndarray] = field(default_factory=dict)
    """Whether it ended in ``success``, (E,) bool, where the task says what that is."""

    def summary(self) -> dict[str, Any]:
        """Return the numbers that policies are compared by.

        ``return_ci95`` is half the width of the interval; ``rewards`` are the weighted terms per second of life and
        ``tracking_reward`` the sum of those called ``track_...``; ``continuity_cost`` is 0 for a constant command and
        100 from limit to limit every step (Raffin et al. 2021, section 4.1). On rough ground ``ground`` has the
        share of falls on each kind and level.
        """
        n = len(self.returns)
        counted = int(self.steps.sum())
        moves = counted > 0 and bool(np.isfinite(self.lin_vel).all())
        total, changes = float(self.all_steps.sum()), float((self.all_steps - 1.0).sum())
        rates = {name: float(count.sum()) / total for name, count in self.violated.items()}
        gains = {name: float(value.sum() / self.length_s.sum()) for name, value in self.terms.items()}
        tracking = [value for name, value in gains.items() if name.startswith("track_")]
        return (
            {
                "episodes": n,
                "fall_rate": float(self.fell.mean()),
                "lin_vel_error": float(self.lin_vel.sum() / counted) if moves else None,
                "yaw_rate_error": float(self.yaw_rate.sum() / counted) if moves else None,
                "return_mean": float(self.returns.mean()),
                "return_ci95": float(1.96 * self.returns.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
                "continuity_cost": 100.0 * float(self.action_change.sum()) / changes if changes > 0 else None,
                "tracking_reward": sum(tracking) if tracking else None,
                "rewards": gains,
            }
            | ({"violations": rates} if rates else {})
            | {f"{name}_rate": float(value.mean()) for name, value in self.solved.items()}
            | ({"ground": self.falls_by_ground()} if self.ground else {})
        )

    def falls_by_ground(self) -> dict[str, float]:
        """Return the share of falls on each kind of ground, then on each level, e.g. ``gaps`` and ``level 3``."""
        tiles = [(str(kind), self.ground["kind"] == kind) for kind in np.unique(self.ground["kind"])]
        tiles += [(f"level {level}", self.ground["level"] == level) for level in np.unique(self.ground["level"])]
        return {name: float(self.fell[mask].mean()) for name, mask in tiles}

    def where(self, mask: np.ndarray) -> Episodes:
        """Return the episodes of ``mask``, (E,) bool."""
        chosen: dict[str, Any] = {name: getattr(self, name)[mask] for name in ARRAYS}
        chosen |= {name: {key: x[mask] for key, x in getattr(self, name).items()} for name in GROUPS}
        return Episodes(**chosen)


GROUPS = ("violated", "terms", "ground", "solved")
"""Fields of ``Episodes`` with an array per name."""
ARRAYS = tuple(f.name for f in dataclasses.fields(Episodes) if f.name not in GROUPS)
"""The other ones."""


def evaluate(policy: Path | str, **options: Any) -> dict[str, Any]:
    """Return ``run_episodes(policy, ...).summary()``: episodes, fall_rate, lin_vel_error and so on."""
    return run_episodes(policy, **options).summary()


def run_episodes(
    policy: Path | str,
    *,
    episodes: int = 200,
    task: str = "",
    robot: str = "",
    seed: int = 0,
    disturbed: bool = False,
    changes: Mapping[str, Any] | None = None,
    physics: str = "mujoco_cpu",
    threads: int = 0,
    progress: Progress | None = None,
) -> Episodes:
    """Run ``episodes`` episodes of the policy in file ``policy``.

    Args:
        policy: An exported ``.onnx``, or the name of a released one; it passes the same customs as on a robot.
        episodes: How many; commands of the grid are spread over them evenly.
        task: A file of ``sim/tasks``; the contract's own by default.
        robot: A folder of ``hardware``; the contract's own by default.
        seed: Of initial states and disturbances.
        disturbed: Whether sensor noise, delays, pushes and randomised physics of the task are on.
        changes: Physical parameters of every copy, as ``Twin.change`` takes them.
        physics: A backend of ``backends.PHYSICS``.
        threads: Physics threads, 0 is one per CPU.
        progress: Told how far it is.

    Raises:
        ValueError: The policy is refused, or a name or number is wrong; the reason is given.
        FileNotFoundError: There is no such policy file.
        ImportError: The backend's engine is not installed; the cure is named.
    """
    check_physics(physics)
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; at least 1")
    loaded, world_task = load_pair(policy, task=task, robot=robot)
    world_task = world_task if disturbed else undisturbed(world_task)
    grid = command_grid(loaded.contract.command)
    commands = grid[np.arange(episodes) * len(grid) // episodes]  # (E, K)
    limit = round(world_task.episode_s * world_task.rate_hz)
    parts: list[Episodes] = []
    for k, begin in enumerate(range(0, episodes, COPIES)):
        part = commands[begin : begin + COPIES]
        world = make_world(
            loaded, world_task, len(part), seed=(seed, k), changes=changes, physics=physics, threads=threads
        )
        tell = slice_of(progress, k, -(-episodes // COPIES), limit)
        try:
            parts.append(run_world(world, loaded, part, limit, tell, constraints=world_task.constraints))
        finally:
            world.close()
    return join(parts)


def load_pair(policy: Path | str, *, task: str = "", robot: str = "") -> tuple[Policy, Task]:
    """Load a policy and the task to run it in, by default those that its contract names.

    Raises:
        ValueError: The policy is refused, or the task is not there or not for this robot.
    """
    from robot_rl.contract.golden import read_bundle

    path = zoo.find_policy(policy)
    contract = read_bundle(path).contract
    made = zoo.load("sim", f"tasks/{task or contract.task}").task()
    body = load_robot(robot or contract.robot)
    if made.robot != body.name:
        raise ValueError(f"task {made.name!r} is for robot {made.robot!r}, not {body.name!r}")
    return Policy.load(path, body), made


def make_world(
    policy: Policy,
    task: Task,
    num_envs: int,
    *,
    seed: int | Sequence[int],
    changes: Mapping[str, Any] | None = None,
    physics: str = "mujoco_cpu",
    threads: int = 0,
) -> World:
    """Build N copies of the task that observe and act by the policy's own contract; constraints are not enforced.

    On rough ground copies stand on all levels alike, wherever training began.

    Args:
        policy: Whose contract holds.
        task: What is rewarded, ended and disturbed.
        num_envs: Copies.
        seed: Of everything that is drawn.
        changes: Physical parameters of every copy, as ``Twin.change`` takes them.
        physics: A backend of ``backends.PHYSICS``.
        threads: Physics threads, 0 is one per CPU.

    Raises:
        ValueError: A parameter does not exist, or the task's rates are not the contract's.
    """
    backend = make_physics(task, num_envs=num_envs, physics=physics, threads=threads)
    rows = {name: parameter_row(backend.robot, name, value) for name, value in (changes or {}).items()}
    held = dataclasses.replace(task, constraints=None, curriculum=_held(task))
    world = World(held, backend, seed=seed, contract=policy.contract)
    for name, row in rows.items():
        backend.randomize(np.arange(num_envs), name, np.repeat(row, num_envs, axis=0))
    return world


def _held(task: Task) -> Curriculum | None:
    """Return a curriculum that moves nobody; one that does begins where training does, at the easiest levels."""
    if task.terrain is None or task.curriculum is None or task.curriculum.rule is None:
        return task.curriculum
    return dataclasses.replace(task.curriculum, start=(0, task.terrain.levels - 1), rule=None)


def undisturbed(task: Task) -> Task:
    """Return the task without sensor noise, delays, pushes and randomised physics; initial states stay spread."""
    return dataclasses.replace(task, noise=False, push=None, randomize={}, delay_substeps=(0, 0))


def command_grid(command: Command) -> np.ndarray:
    """Return every combination of 5 levels of the first command and 3 of each other, (G, K); low to high."""
    if not command.names:
        return np.zeros((1, 0))
    levels = [
        np.linspace(low, high, 5 if i == 0 else 3)
        for i, (low, high) in enumerate(zip(command.low, command.high, strict=True))
    ]
    return np.stack(np.meshgrid(*levels, indexing="ij"), axis=-1).reshape(-1, len(levels))


def run_world(
    world: World,
    policy: Policy,
    commands: np.ndarray,
    limit: int,
    progress: Progress,
    *,
    constraints: Constraints | None = None,
) -> Episodes:
    """Run the first episode of every copy; copies that have ended rest at zero action.

    Args:
        world: N copies.
        policy: Acts in each.
        commands: Held for the whole episode, (N, K).
        limit: Most control steps.
        progress: Told how far it is.
        constraints: Violations are counted of these.
    """
    n, settle = world.num_envs, round(SETTLE_S / world.dt_s)
    returns, length_s, steps, lin_vel, yaw_rate, all_steps, changes = np.zeros((7, n))
    violated = {name: np.zeros(n) for name in constraints.terms} if constraints else {}
    ground = {"kind": world.course.kinds, "level": world.course.level.copy()} if world.course else {}
    solved = {"success": np.zeros(n, bool)} if world.task.success else {}
    found = Episodes(
        commands, np.zeros(n, bool), returns, length_s, steps, lin_vel, yaw_rate, all_steps, changes, violated,
        {name: np.zeros(n) for name in world.task.rewards}, ground, solved,
    )  # fmt: skip
    world.commands.fixed, images = commands, world.contract.images
    memories = np.zeros((n, policy.recalled.size), np.float32)  # each copy's own
    obs, alive, action = world.reset(), np.ones(n, bool), np.zeros((n, world.num_actions))
    for step in range(limit):
        previous, action = action, np.zeros((n, world.num_actions))
        for i in np.flatnonzero(alive):
            action[i] = policy.infer(obs["policy"][i], memory=memories[i], pictures=pictures_of(images, obs, int(i)))
        result = world.step(action)
        found.returns[alive] += result.reward[alive]
        for name, reward in world.task.rewards.items():
            found.terms[name][alive] += (reward.weight * world.dt_s * reward.term(result.outcome))[alive]
        found.length_s[alive] += world.dt_s
        found.all_steps[alive] += 1
        if step:
            found.action_change[alive] += np.square((action - previous)[alive] / 2.0).mean(-1)
        if step >= settle:
            for total, error in zip((found.lin_vel, found.yaw_rate), velocity_error(result.outcome), strict=True):
                total[alive] += error[alive]
            found.steps[alive] += 1
        if constraints:
            for name, broken in violations(constraints, result.outcome).items():
                found.violated[name][alive] += broken[alive]
        success = world.task.success(result.outcome) > 0.5 if world.task.success else np.zeros(n, bool)
        found.fell[alive] = (result.terminated[alive] >= 1.0) & ~success[alive]
        solved.get("success", success)[alive] = success[alive]
        alive &= (result.terminated < 1.0) & ~result.truncated
        obs = result.obs
        progress(step + 1, limit)
        if not alive.any():
            break
    progress(limit, limit)
    return found


def velocity_error(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Return |v_xy - v_xy*| [m/s] and |w_z - w_z*| [rad/s] after a step, each (N,); NaN without such commands."""
    names, after = outcome.contract.command.names, outcome.after
    if not set(VELOCITY) <= set(names) or after.lin_vel_b is None:
        unknown = np.full(len(outcome.action), np.nan)
        return unknown, unknown
    vx, vy, wz = (after.command[:, names.index(name)] for name in VELOCITY)
    lin_vel = np.hypot(after.lin_vel_b[:, 0] - vx, after.lin_vel_b[:, 1] - vy)
    return lin_vel, np.abs(after.ang_vel_b[:, 2] - wz)


def join(parts: Sequence[Episodes]) -> Episodes:
    """Return the episodes of all parts, in order."""
    whole: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS}
    for name in GROUPS:
        keys = getattr(parts[0], name)
        whole[name] = {key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in keys}
    return Episodes(**whole)


def slice_of(progress: Progress | None, k: int, parts: int, limit: int) -> Progress:
    """Return a progress for part ``k`` of ``parts``."""
    if progress is None:
        return lambda _done, _total: None
    return lambda done, _total: progress(k * limit + done, parts * limit)
