"""What happens to a world besides its control: resets, randomisation, pushes, commands.

Knows: a task's ranges, a random generator, a physics backend.
Does not know: observations, rewards.

Shapes: N environments · n the environments named by ``ids`` · J joints · K command.
"""

from __future__ import annotations

import numpy as np

from robot_rl.hardware.robot import Robot
from robot_rl.sim.objects import draw_poses
from robot_rl.sim.physics import RANDOMIZABLE, Physics, parameter_width, unknown_parameter
from robot_rl.sim.task import Commands, Push, Range, Task

_TURNS = ("roll", "pitch", "yaw")


def draw(rng: np.random.Generator, span: Range, shape: tuple[int, int]) -> np.ndarray:
    """Draw uniformly from ``span``, shape (n, k)."""
    return rng.uniform(np.asarray(span.low), np.asarray(span.high), size=shape)


def check_events(task: Task) -> None:
    """Raise ValueError where the task names a parameter or reset that does not exist, with the choices."""
    for name in task.randomize:
        if name not in RANDOMIZABLE:
            raise unknown_parameter(name)
    choices = ("joint_pos", "joint_vel", *_TURNS, "height", "lin_vel_w", "ang_vel_b")
    unknown = sorted(set(task.resets) - set(choices))
    if unknown:
        raise ValueError(f"task {task.name!r} resets {unknown}; the choices are {choices}")
    if task.curriculum and task.terrain is None:
        raise ValueError(f"task {task.name!r} has a curriculum but no terrain to move over")


def randomize(physics: Physics, task: Task, rng: np.random.Generator, ids: np.ndarray) -> None:
    """Draw the physical parameters of ``ids``."""
    for name, span in task.randomize.items():
        physics.randomize(ids, name, draw(rng, span, (len(ids), parameter_width(physics.robot, name))))


def initial_state(robot: Robot, task: Task, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Draw the initial states of ``n`` copies, in the form that ``Physics.reset`` takes."""
    spread, j = task.resets, len(robot.joints)
    state: dict[str, np.ndarray] = {}
    if "joint_pos" in spread:
        q = np.asarray(robot.default_pos) + draw(rng, spread["joint_pos"], (n, j))
        state["joint_pos"] = np.clip(q, robot.pos_low, robot.pos_high)
    if "joint_vel" in spread:
        state["joint_vel"] = draw(rng, spread["joint_vel"], (n, j))
    if "height" in spread:
        height = robot.default_height_m + draw(rng, spread["height"], (n, 1))
        state["base_pos_w"] = np.concatenate((np.zeros((n, 2)), height), axis=1)
    if any(name in spread for name in _TURNS):
        turns = [draw(rng, spread[name], (n, 1))[:, 0] if name in spread else np.zeros(n) for name in _TURNS]
        state["quat_xyzw"] = quaternion(*turns)
    for name in ("lin_vel_w", "ang_vel_b"):
        if name in spread:
            state[name] = draw(rng, spread[name], (n, 3))
    if task.objects:
        state["object_pos"], state["object_quat_xyzw"] = draw_poses(task.objects, rng, n)
    return state


def quaternion(roll: np.ndarray, pitch: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Return ``quat_xyzw``, shape (n, 4), of a body turned by yaw, then pitch, then roll, about its own axes [rad]."""
    cr, cp, cy = (np.cos(0.5 * angle) for angle in (roll, pitch, yaw))
    sr, sp, sy = (np.sin(0.5 * angle) for angle in (roll, pitch, yaw))
    x, y = sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy
    z, w = cr * cp * sy - sr * sp * cy, cr * cp * cy + sr * sp * sy
    return np.stack((x, y, z, w), axis=1)


class CommandSource:
    """Commands that change after random times; the caller advances it once per control step."""

    def __init__(self, commands: Commands, num_envs: int, dt_s: float, rng: np.random.Generator) -> None:
        """Start with nothing asked; call ``draw`` for the first commands."""
        self._commands, self._dt_s, self._rng = commands, dt_s, rng
        self.value = np.zeros((num_envs, len(commands.spec.names)))
        """The commands in force, (N, K)."""
        self.fixed: np.ndarray | None = None
        """Where set, shape (N, K), these commands hold and nothing is drawn: evaluation over a grid."""
        self.left_s = np.zeros(num_envs)
        """Time until the next draw [s], (N,)."""

    def draw(self, ids: np.ndarray) -> None:
        """Draw new commands for ``ids``."""
        if self.fixed is not None:
            self.value[ids] = self.fixed[ids]
            return
        n, spec = len(ids), self._commands.spec
        value = self._rng.uniform(spec.low, spec.high, size=(n, len(spec.names)))
        value[self._rng.random(n) < self._commands.zero_fraction] = 0.0
        self.value[ids] = value
        self.left_s[ids] = self._rng.uniform(*self._commands.resample_s, size=n)

    def advance(self) -> None:
        """Let one control step pass."""
        if self.fixed is not None or not self.value.shape[1]:
            return
        self.left_s -= self._dt_s
        due = np.flatnonzero(self.left_s <= 0.0)
        if due.size:
            self.draw(due)


class Pusher:
    """Pushes the base of each copy after random times."""

    def __init__(self, push: Push, num_envs: int, dt_s: float, rng: np.random.Generator) -> None:
        """Draw the times of the first pushes."""
        self._push, self._dt_s, self._rng = push, dt_s, rng
        self.left_s = rng.uniform(*push.every_s, size=num_envs)
        """Time until the next push [s], (N,)."""

    def advance(self, physics: Physics) -> None:
        """Let one control step pass and push the copies whose time has come."""
        self.left_s -= self._dt_s
        due = np.flatnonzero(self.left_s <= 0.0)
        if not due.size:
            return
        self.left_s[due] = self._rng.uniform(*self._push.every_s, size=due.size)
        kick = self._rng.uniform(-1.0, 1.0, size=(due.size, 3)) * self._push.lin_vel
        kick[:, 2] = 0.0
        physics.randomize(due, "push_lin_vel_w", kick)
        spin = self._rng.uniform(-1.0, 1.0, size=(due.size, 3)) * self._push.ang_vel
        physics.randomize(due, "push_ang_vel_b", spin)
