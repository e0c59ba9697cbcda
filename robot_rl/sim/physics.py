"""What every physics backend offers: seven methods over N copies of one robot in one scene.

Knows: states, targets, copies by index.
Does not know: tasks, rewards, observations, policies.

Shapes: N environments · J joints (robot order) · n the copies named by ``ids``.
Arrays are NumPy on CPU backends and torch on GPU backends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from robot_rl.contract.arrays import Array
from robot_rl.contract.spec import ImageTerm
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot


class Physics(Protocol):
    """N copies of a robot. The control period is ``decimation`` substeps of ``dt_s``.

    A backend of a robot with feet also has the privileged properties ``foot_pos_w``, (N, F, 3) [m], and ``foot_force``,
    the normal force on each foot after the last substep, (N, F) [N]; both give fresh arrays.
    """

    robot: Robot
    num_envs: int
    dt_s: float
    """Length of one physics substep [s]."""

    def state(self) -> RobotState:
        """Return what the robots measure now, exact and without noise; every field (N, ...).

        ``command`` and ``last_action`` are zero-width here: they belong to the caller. The base pose, twist
        and foot contacts are always filled in simulation. The arrays are the caller's to keep (copies).
        """
        ...

    def apply(self, target: JointTarget) -> None:
        """Set the joint targets of all copies, each field (N, J), in force until the next call."""
        ...

    def step(self, substeps: int) -> None:
        """Advance all copies by ``substeps`` of ``dt_s``."""
        ...

    def reset(self, ids: Array, state: dict[str, Array] | None = None) -> None:
        """Put copies ``ids``, shape (n,) int, into the default pose or into the poses given.

        ``state`` may hold any of ``joint_pos, joint_vel`` (n, J), ``base_pos_w, lin_vel_w, ang_vel_b`` (n, 3),
        ``quat_xyzw`` (n, 4), and with objects ``object_pos`` (n, O, 3) and ``object_quat_xyzw`` (n, O, 4) in the base
        frame. Targets of these copies return to the default pose.
        """
        ...

    def randomize(self, ids: Array, name: str, value: Array) -> None:
        """Set a physical parameter of copies ``ids``: one of ``RANDOMIZABLE``, value (n, k) as listed there."""
        ...

    def frame(self, index: int = 0, width: int = 640, height: int = 480) -> np.ndarray:
        """Render copy ``index`` as uint8 RGB, shape (height, width, 3)."""
        ...

    def close(self) -> None:
        """Free threads and render contexts."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """A backend whose whole state can be stored; without it a resumed training begins new episodes."""

    def snapshot(self) -> dict[str, Any]:
        """Return all that the next step depends on, as a tree of arrays."""
        ...

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned, bit for bit."""
        ...


@runtime_checkable
class Delaying(Protocol):
    """A backend whose engine keeps late targets by itself; for others the world does, in parts of a period."""

    max_delay: int
    """Longest delay [substeps]."""

    def delay(self, ids: Array, substeps: Array) -> None:
        """Let position targets of copies ``ids`` act whole ``substeps`` late, (n,) int; all else acts at once."""
        ...


class Views(Protocol):
    """Eyes on N copies."""

    def look(self, ids: Sequence[int] | np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the pictures of copies ``ids``, all by default, by ``ImageTerm.group``: fresh uint8 (n, H, W, 3)."""
        ...

    def close(self) -> None:
        """Free what draws."""
        ...


@runtime_checkable
class Seeing(Protocol):
    """A backend that renders the robot's cameras; a task with cameras needs one."""

    def views(self, terms: Sequence[ImageTerm]) -> Views:
        """Return the eyes that ``terms`` name."""
        ...


def open_views(physics: Physics, terms: Sequence[ImageTerm]) -> Views | None:
    """Return the eyes that ``terms`` name, None where there are no terms; raise ValueError where none can be had."""
    if not terms:
        return None
    if not isinstance(physics, Seeing):
        raise ValueError(
            f"cameras {[term.name for term in terms]} are asked for, which physics {type(physics).__name__} cannot "
            "render; use physics 'mujoco_cpu'"
        )
    return physics.views(terms)


RANDOMIZABLE: dict[str, str] = {
    "mass_scale": "(n, 1) factor on the base mass and inertia",
    "payload_kg": "(n, 1) mass added to the scaled base, its inertia in proportion [kg]",
    "com_offset_m": "(n, 3) shift of the base's centre of mass [m]",
    "friction": "(n, 1) sliding friction of ground and feet",
    "motor_strength": "(n, J) factor on the torque that a joint really gives, its limit and torque-speed line too",
    "joint_damping": "(n, J) factor on passive joint damping",
    "push_lin_vel_w": "(n, 3) velocity added to the base at once [m/s]",
    "push_ang_vel_b": "(n, 3) angular velocity added to the base at once [rad/s]",
}
"""What ``randomize`` accepts; an unknown name is a ValueError that lists these."""


def parameter_width(robot: Robot, name: str) -> int:
    """Return k, the numbers per copy that ``name`` takes; ValueError lists the choices."""
    if name not in RANDOMIZABLE:
        raise unknown_parameter(name)
    shape = RANDOMIZABLE[name].partition(")")[0].rpartition(" ")[2]
    return len(robot.joints) if shape == "J" else int(shape)


def parameter_row(robot: Robot, name: str, value: Any, *, now: np.ndarray | None = None) -> np.ndarray:
    """Return a value for one copy as ``randomize`` takes it, shape (1, k).

    Args:
        robot: Whose joints are meant.
        name: One of ``RANDOMIZABLE``.
        value: One number, k numbers, or for a parameter per joint a mapping from joint to factor.
        now: The value in force, (1, k), which a mapping that names some joints keeps for the others; default 1.

    Raises:
        ValueError: The name, a joint or the count of numbers is wrong, or a number is not finite.
    """
    width = parameter_width(robot, name)
    if isinstance(value, Mapping):
        if "J" not in RANDOMIZABLE[name].partition(")")[0]:
            raise ValueError(f"{name} takes {RANDOMIZABLE[name]}, not a mapping from joints")
        row = np.ones((1, width)) if now is None else now.copy()
        for joint, factor in value.items():
            row[0, robot.index(joint)] = factor
    else:
        numbers = np.atleast_1d(np.asarray(value, dtype=float))
        if numbers.shape not in ((1,), (width,)):
            raise ValueError(f"{name} takes {RANDOMIZABLE[name]}; got {numbers.size} numbers for k = {width}")
        row = np.broadcast_to(numbers, (1, width)).copy()
    if not np.isfinite(row).all():
        raise ValueError(f"{name} is {row[0].tolist()}; every number must be finite")
    return row


def unknown_parameter(name: str) -> ValueError:
    """Return the error for a name that is not in ``RANDOMIZABLE``."""
    return ValueError(f"no physical parameter {name!r}; the choices are {sorted(RANDOMIZABLE)}")


def check_ids(ids: Any, num_envs: int) -> np.ndarray:
    """Return ``ids`` as an int32 array, shape (n,); raise ValueError where one is outside [0, N)."""
    ids = np.atleast_1d(np.asarray(ids, dtype=np.int32))
    if ids.size and (ids.min() < 0 or ids.max() >= num_envs):
        raise ValueError(f"environment ids {ids.tolist()} are not all in [0, {num_envs})")
    return ids
