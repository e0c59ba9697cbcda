"""A robot as data: ``hardware/<name>/robot.toml`` read into one frozen, validated value.

Knows: joint names in the robot's own (SDK) order, limits, gains, default pose, safety bounds.
Does not know: drivers, simulators, policies.

Shapes: J joints.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10, ROS 2 Humble
    import tomli as tomllib

Floats = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Safety:
    """What the shield holds this robot to, whoever commands it."""

    max_tilt_rad: float
    """Largest angle between the body's up axis and the world's; beyond it the robot damps."""
    pos_margin: float
    """Distance that targets keep from the position limits [rad or m]."""
    target_rate: Floats
    """Largest change of a position target, per joint [rad/s or m/s]."""
    vel_fraction: float
    """Measured velocity allowed, as a fraction of the limit; beyond it the robot damps."""
    effort_fraction: float
    """PD effort allowed, as a fraction of the limit; targets are pulled in to respect it."""
    state_timeout_s: float
    """Age of the newest state beyond which the robot damps [s]."""
    command_timeout_s: float
    """Age of the newest command beyond which the commander counts as lost [s]."""
    damp: float
    """kd in DAMP mode [N m s/rad]."""
    stand_s: float
    """Time to move from any pose to the default pose [s]."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """What each joint and foot becomes when the robot is seen in a mirror (left and right exchanged)."""

    joints: tuple[str, ...]
    """For each joint of the robot, in its order, the joint that it becomes; "-" in front turns the sign."""
    feet: tuple[str, ...] = ()
    """For each foot, the foot that it becomes."""

    @property
    def index(self) -> tuple[str, ...]:
        """The joints' names without signs."""
        return tuple(joint.removeprefix("-") for joint in self.joints)

    @property
    def sign(self) -> Floats:
        """-1 where the sign turns, else 1."""
        return tuple(-1.0 if joint.startswith("-") else 1.0 for joint in self.joints)


@dataclass(frozen=True, slots=True)
class Robot:
    """One robot model. Every per-joint tuple has J entries in the order of ``joints``."""

    name: str
    title: str
    joints: tuple[str, ...]
    pos_low: Floats
    """Lower position limits [rad or m]."""
    pos_high: Floats
    vel: Floats
    """Velocity limits [rad/s or m/s]."""
    effort: Floats
    """Torque or force limits [N m or N]."""
    default_pos: Floats
    """Standing pose [rad or m]; what STAND moves to and policies centre on."""
    stiffness: Floats
    """Default kp [N m/rad]."""
    damping: Floats
    """Default kd [N m s/rad]."""
    safety: Safety
    mjcf: Path
    """Absolute path of the robot's MJCF."""
    knee_speed: Floats = ()
    """Speed up to which a motor drives with ``effort`` [rad/s or m/s]; empty where no torque-speed line is known."""
    no_load_speed: Floats = ()
    """Speed at which a motor's driving torque has fallen to 0, linearly from the knee [rad/s or m/s]."""
    passive: tuple[str, ...] = ()
    """Members of ``joints`` that have no motor; their targets are ignored."""
    feet: tuple[str, ...] = ()
    """Names of foot geoms in the MJCF and of the contact sensors, in the order of ``foot_contact``."""
    imu_frame: str = "imu"
    floating_base: bool = True
    default_height_m: float = 0.0
    """Height of the base in the default pose [m]."""
    symmetry: Symmetry | None = None
    """How left and right are exchanged; None where the robot has no such symmetry, or nobody wrote it down."""

    def __post_init__(self) -> None:
        n = len(self.joints)
        for name in ("pos_low", "pos_high", "vel", "effort", "default_pos", "stiffness", "damping"):
            values = getattr(self, name)
            if len(values) != n:
                raise ValueError(f"robot {self.name!r}: {name} has {len(values)} numbers for {n} joints")
        if len(self.safety.target_rate) != n:
            raise ValueError(
                f"robot {self.name!r}: safety.target_rate has {len(self.safety.target_rate)} numbers, not {n}"
            )
        if bool(self.knee_speed) != bool(self.no_load_speed):
            raise ValueError(f"robot {self.name!r}: a torque-speed line needs both knee_speed and no_load_speed")
        for name in ("knee_speed", "no_load_speed"):
            if len(getattr(self, name)) not in (0, n):
                raise ValueError(f"robot {self.name!r}: {name} has {len(getattr(self, name))} numbers for {n} joints")
        for joint, knee, no_load in zip(self.joints, self.knee_speed, self.no_load_speed, strict=False):
            if not 0.0 <= knee < no_load:
                raise ValueError(
                    f"robot {self.name!r}: joint {joint!r} has knee_speed {knee} and no_load_speed {no_load}; "
                    "0 <= knee < no load must hold"
                )
        if len(set(self.joints)) != n:
            raise ValueError(f"robot {self.name!r} names a joint twice: {self.joints}")
        for joint, low, q, high in zip(self.joints, self.pos_low, self.default_pos, self.pos_high, strict=True):
            if not low <= q <= high:
                raise ValueError(f"robot {self.name!r}: default of joint {joint!r} is {q}, outside [{low}, {high}]")
        unknown = sorted(set(self.passive) - set(self.joints))
        if unknown:
            raise ValueError(f"robot {self.name!r}: passive joints {unknown} are not among {list(self.joints)}")
        if self.symmetry is not None:
            _check_symmetry(self, self.symmetry)

    @property
    def actuated(self) -> tuple[str, ...]:
        """Joints with a motor, in the robot's order."""
        return tuple(joint for joint in self.joints if joint not in self.passive)

    def index(self, joint: str) -> int:
        """Return the position of ``joint``; raise ValueError with the names that exist."""
        if joint not in self.joints:
            raise ValueError(f"joint {joint!r} not on robot {self.name!r}; it has {list(self.joints)}")
        return self.joints.index(joint)


def _check_symmetry(robot: Robot, symmetry: Symmetry) -> None:
    """Raise ValueError unless it is its own inverse and maps the robot's pose, limits and feet to themselves."""
    where = f"robot {robot.name!r}: symmetry"
    for kind, given, names in (("joints", symmetry.index, robot.joints), ("feet", symmetry.feet, robot.feet)):
        if sorted(given) != sorted(names):
            raise ValueError(f"{where}.{kind} names {list(given)}; it must name each of {list(names)} once")
        for name, other in zip(names, given, strict=True):
            if given[names.index(other)] != name:
                raise ValueError(
                    f"{where}: {name!r} becomes {other!r}, but {other!r} becomes {given[names.index(other)]!r}"
                )
    for i, sign in enumerate(symmetry.sign):
        j = robot.joints.index(symmetry.index[i])
        bounds = (robot.pos_low[j], robot.pos_high[j])[:: 1 if sign > 0 else -1]
        mirrored = {
            "default_pos": (robot.default_pos[i], sign * robot.default_pos[j]),
            "pos_low": (robot.pos_low[i], sign * bounds[0]),
            "pos_high": (robot.pos_high[i], sign * bounds[1]),
            "sign": (sign, symmetry.sign[j]),
        }
        for what, (own, seen) in mirrored.items():
            if abs(own - seen) > 1e-9:
                raise ValueError(
                    f"{where}: joint {robot.joints[i]!r} has {what} {own}; in the mirror "
                    f"{symmetry.joints[i]!r} has {seen}"
                )


def read_robot(folder: Path) -> Robot:
    """Read ``folder/robot.toml``.

    Raises:
        ValueError: A key is missing, unknown, or a value breaks a rule; the file and key are named.
        FileNotFoundError: There is no such file.
    """
    path = folder / "robot.toml"
    with path.open("rb") as file:
        try:
            raw = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path} is not TOML: {error}") from error
    safety = raw.pop("safety", None)
    joints = raw.pop("joints", None)
    symmetry = raw.pop("symmetry", None)
    if not isinstance(safety, dict) or not isinstance(joints, dict):
        raise ValueError(f"{path} needs the tables [joints] and [safety]")
    names = joints.pop("names", None)
    if not isinstance(names, list):
        raise ValueError(f"{path}: [joints] needs 'names', a list of strings")
    values: dict[str, Any] = {**raw, **joints, "joints": names}
    values["mjcf"] = folder / str(values.get("mjcf", ""))
    values["safety"] = _build(Safety, safety, f"{path} [safety]")
    if symmetry is not None:
        values["symmetry"] = _build(Symmetry, symmetry, f"{path} [symmetry]")
    return _build(Robot, values, str(path))


def _build(kind: type, raw: dict[str, Any], where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(raw) - set(fields))
    if unknown:
        raise ValueError(f"{where} has unknown keys {unknown}; the keys are {sorted(fields)}")
    missing = sorted(n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in raw)
    if missing:
        raise ValueError(f"{where} lacks the keys {missing}")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if isinstance(value, list):
            values[name] = tuple(float(v) if isinstance(v, int | float) else v for v in value)
        elif fields[name].type == "float":
            values[name] = float(value)
        else:
            values[name] = value
    return kind(**values)


def load_robot(name: str) -> Robot:
    """Load the robot called ``name`` from the ``hardware`` folders; an unknown name lists those that exist."""
    from robot_rl import zoo

    return read_robot(zoo.find("hardware", name))
