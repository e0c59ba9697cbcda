"""The twin: a simulated robot behind ``Driver``, so that the whole runtime runs against physics.

Simulated time follows the loop's clock: ``read`` and ``write`` advance the physics to now, so a target acts as late as
it is sent and a slow tick is felt. Without a clock of the loop's (``clock="sim"``) every ``write`` is one period.

What others ask of it (change a parameter, fail, lift the fallen robot) may come from any thread; changes and lifts
are heard in the control thread, at the next ``read`` or ``write``. Like a motor board, the twin damps by itself when
writes stop coming.

Knows: one copy of a physics backend, a clock, sensor noise. Does not know: policies, tasks, torch.

Shapes: J joints.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robot_rl.contract.spec import ImageTerm
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.driver import damp_target
from robot_rl.hardware.mirror import Failure
from robot_rl.hardware.robot import Robot
from robot_rl.runtime.clock import Clock, WallClock
from robot_rl.sim.objects import Object, draw_poses
from robot_rl.sim.physics import Physics, Views, open_views, parameter_row

CATCH_UP_S = 0.25
"""A clock that jumps further ahead (a suspended process) is not followed: the robot stood still meanwhile [s]."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Half widths of the uniform noise on what the twin measures; 0 measures exactly."""

    joint_pos: float = 0.0
    """[rad or m]"""
    joint_vel: float = 0.0
    """[rad/s or m/s]"""
    ang_vel: float = 0.0
    """[rad/s]"""
    lin_acc: float = 0.0
    """[m/s^2]"""
    lin_vel: float = 0.0
    """Of the state estimator [m/s]."""


class Twin:
    """One simulated robot on the loop's clock; satisfies ``robot_rl.hardware.driver.Driver``."""

    def __init__(
        self,
        robot: Robot,
        *,
        scene: str = "flat",
        clock: Clock | Literal["wall", "sim"] = "wall",
        speed: float = 1.0,
        rate_hz: float = 50.0,
        seed: int = 0,
        noise: Noise | None = None,
        estimator: bool = True,
        slow_s: float = 0.05,
        physics: Physics | None = None,
        objects: Mapping[str, Object] | None = None,
    ) -> None:
        """Prepare the robot in its default pose; ``connect`` starts its time.

        Args:
            robot: Which body.
            scene: A file of ``sim/scenes``.
            clock: The loop's own clock; ``"wall"`` is ``time.monotonic``; ``"sim"`` makes every ``write`` one period
                of ``rate_hz`` and stamps with the time simulated so far.
            speed: Simulated seconds per second of ``clock``; a ``SimClock`` paces itself and wants 1.
            rate_hz: Control rate, for ``clock="sim"`` only [Hz].
            seed: Of the noise.
            noise: What the sensors add; nothing by default.
            estimator: Whether base position and linear velocity are measured, as by a state estimator.
            slow_s: What a read takes under ``Failure.SLOW``.
            physics: A backend with one copy of ``robot``; MuJoCo on one thread by default.
            objects: What stands before the robot in ``physics``; put anew at ``connect`` and when it is lifted.

        Raises:
            ValueError: ``clock``, ``speed`` or ``physics`` is not usable.
        """
        if isinstance(clock, str) and clock not in ("wall", "sim"):
            raise ValueError(f"no clock {clock!r}; the choices are 'wall', 'sim', or the loop's own Clock")
        if not 0.0 < speed < np.inf:
            raise ValueError(f"speed is {speed}; it must be positive and finite")
        self.robot = robot
        self._physics = physics or _mujoco(robot, scene)
        if self._physics.num_envs != 1:
            raise ValueError(f"the twin is one robot; the physics has {self._physics.num_envs}")
        self._now: Callable[[], float] | None = None
        if not isinstance(clock, str):
            self._now = clock.now_s
        elif clock == "wall":
            self._now = WallClock(rate_hz).now_s
        self._speed, self._noise, self._estimator = speed, noise or Noise(), estimator
        self._slow_s, self._objects = slow_s, dict(objects or {})
        self._rng = np.random.default_rng(seed)
        self._asked: deque[Callable[[], None]] = deque()
        self._failures: frozenset[Failure] = frozenset()
        self._parameters: dict[str, np.ndarray] = {}
        self._period_steps = max(1, round(1.0 / (rate_hz * self._physics.dt_s)))
        self._origin_s, self._steps, self._written_s = 0.0, 0, 0.0
        self._connected, self._guarded = False, False
        self._pos_limits = (np.asarray(robot.pos_low), np.asarray(robot.pos_high))
        self._effort = np.asarray(robot.effort)
        self._last: RobotState | None = None

    # -- the driver --

    def connect(self) -> None:
        """Start the robot's time, in the default pose with its motors damped."""
        self._origin_s = 0.0 if self._now is None else self._now()
        self._steps = 0
        self._written_s = self._origin_s
        if self._objects:
            self._physics.reset(np.zeros(1, int), self._placed())
        self._apply(damp_target(self.robot))
        self._connected = True

    def read(self) -> RobotState:
        """Return the newest measurement; raise ConnectionError where the link is down."""
        self._hear()
        self._advance()
        self._check_link()
        if Failure.SLOW in self._failures:
            time.sleep(self._slow_s)
        if self._last is None or Failure.STALE not in self._failures:
            self._last = self._measure()
        return dataclasses.replace(self._last)

    def write(self, target: JointTarget) -> JointTarget:
        """Send a target and return what was sent: clipped to the limits, or DAMP where a number is not finite."""
        self._hear()
        self._advance()
        self._check_link()
        sent = self._clip(target)
        self._apply(sent)
        self._written_s = self.time_s
        self._guarded = False
        if self._now is None:
            self._physics.step(self._period_steps)
            self._steps += self._period_steps
        return sent

    def close(self) -> None:
        """Damp the joints and free the physics."""
        if self._connected:
            self._apply(damp_target(self.robot))
            self._connected = False
            self._physics.close()

    # -- what a person or a test does to it --

    def change(self, **parameters: Any) -> None:
        """Change physical parameters from the next tick on, by the names of ``RANDOMIZABLE``.

        Args:
            parameters: One number, k numbers, or for a parameter per joint a mapping such as
                ``motor_strength={"FR_thigh_joint": 0.5}``, which leaves the other joints as they are.

        Raises:
            ValueError: A name, joint or count is wrong; nothing is changed then.
        """
        rows = {
            name: parameter_row(self.robot, name, value, now=self._parameters.get(name))
            for name, value in parameters.items()
        }
        self._parameters.update(rows)
        self._asked.append(lambda: self._set(rows))

    def lift(self) -> None:
        """Put the robot back on its feet where it is, as a person would after a fall, and its objects before it."""
        self._asked.append(self._lift)

    def fail(self, failure: Failure) -> None:
        """Fail from now on; several failures may hold at once."""
        self._failures |= {failure}

    def heal(self) -> None:
        """End all failures."""
        self._failures = frozenset()

    @property
    def blind(self) -> bool:
        """Whether its cameras have failed."""
        return Failure.BLIND in self._failures

    def views(self, term: ImageTerm) -> Views:
        """Return what draws one camera, for the thread that asks; raise ValueError where the physics draws none."""
        views = open_views(self._physics, [term])
        assert views is not None, "there is a term"
        return views

    @property
    def time_s(self) -> float:
        """The time up to which the robot is simulated, on the loop's clock [s]."""
        return self._origin_s + self._steps * self._physics.dt_s / self._speed

    @property
    def parameters(self) -> dict[str, tuple[float, ...]]:
        """What was changed so far, k numbers per name."""
        return {name: tuple(row[0].tolist()) for name, row in self._parameters.items()}

    # -- details --

    def _hear(self) -> None:
        while self._asked:
            self._asked.popleft()()

    def _check_link(self) -> None:
        if not self._connected:
            raise ConnectionError(f"the twin of {self.robot.name!r} is not connected")
        if Failure.DISCONNECT in self._failures:
            raise ConnectionError(f"the link to the twin of {self.robot.name!r} is down")

    def _advance(self) -> None:
        """Step the physics up to the loop's present, in whole substeps."""
        if self._now is None or not self._connected:
            return
        now_s, dt_s = self._now(), self._physics.dt_s
        if now_s - self.time_s > CATCH_UP_S:
            self._origin_s = now_s - self._steps * dt_s / self._speed
            self._written_s = max(self._written_s, now_s - self.robot.safety.command_timeout_s)
            return
        due = int((now_s - self._origin_s) * self._speed / dt_s + 1e-6) - self._steps
        if due <= 0:
            return
        if not self._guarded and now_s - self._written_s > self.robot.safety.command_timeout_s:
            self._apply(damp_target(self.robot))
            self._guarded = True
        self._physics.step(due)
        self._steps += due

    def _measure(self) -> RobotState:
        state, noise = self._physics.state(), self._noise
        rows = {f.name: None if (x := getattr(state, f.name)) is None else x[0] for f in dataclasses.fields(state)}
        one = RobotState(**rows)
        one.stamp_s = self.time_s
        for name, half in (
            ("joint_pos", noise.joint_pos),
            ("joint_vel", noise.joint_vel),
            ("ang_vel_b", noise.ang_vel),
            ("lin_acc_b", noise.lin_acc),
            ("lin_vel_b", noise.lin_vel),
        ):
            exact = getattr(one, name)
            if half and exact is not None:
                setattr(one, name, exact + self._rng.uniform(-half, half, exact.shape))
        if not self._estimator:
            one.base_pos_w = one.lin_vel_b = None
        self._spoil(one)
        return one

    def _spoil(self, state: RobotState) -> None:
        """Falsify what the failures in force falsify."""
        if Failure.NAN in self._failures:
            state.joint_pos = np.array(state.joint_pos)
            state.joint_pos[0] = np.nan
        if Failure.OVERSPEED in self._failures:
            state.joint_vel = np.array(state.joint_vel)
            state.joint_vel[0] = 2.0 * self.robot.safety.vel_fraction * self.robot.vel[0]
        if Failure.TILT in self._failures:
            state.quat_xyzw = np.array((np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)))  # a quarter turn about x

    def _clip(self, target: JointTarget) -> JointTarget:
        if not all(np.isfinite(getattr(target, f.name)).all() for f in dataclasses.fields(target)):
            return damp_target(self.robot)
        return JointTarget(
            pos=np.clip(target.pos, *self._pos_limits),
            vel=np.array(target.vel),
            effort_ff=np.clip(target.effort_ff, -self._effort, self._effort),
            stiffness=np.maximum(target.stiffness, 0.0),
            damping=np.maximum(target.damping, 0.0),
        )

    def _apply(self, target: JointTarget) -> None:
        self._physics.apply(JointTarget(*(getattr(target, f.name)[None] for f in dataclasses.fields(target))))

    def _set(self, rows: dict[str, np.ndarray]) -> None:
        for name, row in rows.items():
            self._physics.randomize(np.zeros(1, int), name, row)
            if name.startswith("push_"):
                self._parameters.pop(name, None)

    def _placed(self) -> dict[str, np.ndarray]:
        """Return new poses of the objects, as ``Physics.reset`` takes them; nothing where there are none."""
        if not self._objects:
            return {}
        pos, quat_xyzw = draw_poses(self._objects, self._rng, 1)
        return {"object_pos": pos, "object_quat_xyzw": quat_xyzw}

    def _lift(self) -> None:
        state = self._placed()
        if self.robot.floating_base:
            now = self._physics.state()
            assert now.base_pos_w is not None, "a simulated floating base has a position"
            x, y, z, w = now.quat_xyzw[0]
            half = 0.5 * np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
            state["base_pos_w"] = np.array([[*now.base_pos_w[0, :2], self.robot.default_height_m]])
            state["quat_xyzw"] = np.array([[0.0, 0.0, np.sin(half), np.cos(half)]])
        self._physics.reset(np.zeros(1, int), state)


def _mujoco(robot: Robot, scene: str) -> Physics:
    from robot_rl.sim.mujoco_cpu import MujocoCpu

    return MujocoCpu(robot, 1, scene=scene, threads=1)
