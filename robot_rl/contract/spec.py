"""The contract: everything a policy assumes about its robot, in one frozen value.

Built once by ``task.contract(robot)``; everywhere else it only comes from JSON. Lossless (floats travel as
their shortest exact representation) and identified by a SHA-256 fingerprint.

Knows: names, sizes, scales, gains, rates, limits.
Does not know: how terms are computed (``terms``), how they are joined (``apply``), files (``golden``).

Shapes: J joints, A = J actions, K command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from robot_rl.contract.fields import read_fields

SCHEMA = 1
"""Version of the JSON layout; a reader refuses any other."""

Floats = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ObsTerm:
    """One term of the observation. Order of operations: raw term, clip, scale, history (oldest first)."""

    name: str
    """A key of ``robot_rl.contract.terms.TERMS``."""
    size: int
    """Width of one frame of the term."""
    scale: Floats
    """Factor per element, after the clip; ``size`` numbers."""
    clip: tuple[float, float] | None = None
    """Bounds on the raw term, before the scale."""
    history: int = 1
    """Number of frames, oldest first; 1 is the current frame alone."""

    def __post_init__(self) -> None:
        _settle(self)
        _positive(f"obs term {self.name!r} size", self.size)
        _positive(f"obs term {self.name!r} history", self.history)
        _length(f"scale of obs term {self.name!r}", self.scale, self.size)
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip of obs term {self.name!r} is {self.clip}; low must be below high")

    @property
    def width(self) -> int:
        """Columns of the observation that the term fills."""
        return self.size * self.history


@dataclass(frozen=True, slots=True)
class Command:
    """The command that the policy was trained on, and the ranges it saw."""

    names: tuple[str, ...] = ("lin_vel_x", "lin_vel_y", "ang_vel_z")
    low: Floats = (-1.0, -1.0, -1.0)
    high: Floats = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _settle(self)
        _length("command.low", self.low, len(self.names))
        _length("command.high", self.high, len(self.names))
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low <= high:
                raise ValueError(f"command {name!r} ranges from {low} to {high}; low must not exceed high")


@dataclass(frozen=True, slots=True)
class ActionLaw:
    """From the raw action to joint targets: ``clip, then offset + scale * action``, then perhaps a low-pass."""

    kind: str
    """One of ``ACTION_KINDS``: position targets around ``offset``, relative to the measured position, or efforts."""
    scale: Floats
    """Per joint [rad, m or N m per unit action], in contract order."""
    offset: Floats
    """Per joint, the default positions [rad or m]; also what ``joint_pos_rel`` subtracts."""
    clip: tuple[float, float] = (-1.0, 1.0)
    """Bounds on the raw action."""
    scale_below: Floats | None = None
    """Per joint, for negative actions where another than ``scale``: 0 is the offset, -1 and 1 need not be as far."""
    lowpass_hz: float = 0.0
    """Cut-off of the low-pass on position targets (``robot_rl.contract.path``) [Hz]; 0 is none."""

    def __post_init__(self) -> None:
        _settle(self)


_LATER = {"scale_below": None, "lowpass_hz": 0.0}
"""Fields of the action law that came later: left out of the JSON while they say nothing, so fingerprints stay."""
ACTION_KINDS = ("joint_position", "joint_position_relative", "joint_effort")


@dataclass(frozen=True, slots=True)
class JointLimits:
    """Limits the policy was trained under, per joint in contract order."""

    pos_low: Floats
    pos_high: Floats
    vel: Floats
    effort: Floats

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, slots=True)
class ImageTerm:
    """One camera the policy sees, uint8 RGB (height, width, 3)."""

    name: str
    """Of a camera in the robot's MJCF and on the robot."""
    height: int
    width: int

    def __post_init__(self) -> None:
        if not self.name or min(self.height, self.width) < 1:
            raise ValueError(f"picture {self.name!r} of {self.width} x {self.height}; it needs a name and a size")

    @property
    def group(self) -> str:
        """Name of the observation group, and of the network's input, that holds its pictures."""
        return f"pixels/{self.name}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and three colours."""
        return self.height, self.width, 3


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything a policy assumes. Equal contracts have equal fingerprints."""

    robot: str
    task: str
    joints: tuple[str, ...]
    """Names in the order of the action; observation terms over joints use this order, then ``passive``."""
    obs: tuple[ObsTerm, ...]
    """Observation terms in the order they are concatenated."""
    command: Command
    action: ActionLaw
    stiffness: Floats
    """kp per joint [N m/rad]."""
    damping: Floats
    """kd per joint [N m s/rad]."""
    rate_hz: float
    """Policy rate [Hz]."""
    sim_rate_hz: float
    """Physics rate in training [Hz]."""
    limits: JointLimits
    passive: tuple[str, ...] = ()
    """Measured joints without a motor, behind ``joints`` in terms over joints (a cart's pole)."""
    imu_frame: str = "imu"
    """Frame of orientation and angular velocity."""
    quat_order: str = "xyzw"
    chunk: int = 1
    """Actions per inference."""
    latent: int = 0
    """Width of a latent input beside the observation (DSRL); 0 is none."""
    images: tuple[ImageTerm, ...] = ()
    schema: int = SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)
    """What an algorithm needs to travel, e.g. the APRL action box. JSON values only."""

    def __post_init__(self) -> None:
        _settle(self)
        if self.schema != SCHEMA:
            raise ValueError(f"contract schema is {self.schema}; this version reads {SCHEMA}")
        n = len(self.joints)
        if n == 0:
            raise ValueError("contract names no joints")
        measured = self.joints + self.passive
        if len(set(measured)) != len(measured):
            twice = sorted({j for j in measured if measured.count(j) > 1})
            raise ValueError(f"contract names joints twice: {twice}")
        for label, values in (
            ("action.scale", self.action.scale),
            ("action.offset", self.action.offset),
            ("stiffness", self.stiffness),
            ("damping", self.damping),
            ("limits.pos_low", self.limits.pos_low),
            ("limits.pos_high", self.limits.pos_high),
            ("limits.vel", self.limits.vel),
            ("limits.effort", self.limits.effort),
        ):
            _length(label, values, n)
        for joint, scale, low, high in zip(
            self.joints, self.action.scale, self.limits.pos_low, self.limits.pos_high, strict=True
        ):
            if scale == 0.0:
                raise ValueError(
                    f"action.scale of joint {joint!r} is 0; its targets could not be mapped back to actions"
                )
            if not low <= high:
                raise ValueError(f"limits of joint {joint!r} range from {low} to {high}; low must not exceed high")
        if not self.action.clip[0] < self.action.clip[1]:
            raise ValueError(f"action.clip is {self.action.clip}; low must be below high")
        if self.action.kind not in ACTION_KINDS:
            raise ValueError(f"action kind is {self.action.kind!r}; the choices are {ACTION_KINDS}")
        if self.quat_order != "xyzw":
            raise ValueError(f"quat_order is {self.quat_order!r}; robot_rl contracts are 'xyzw' only")
        _positive("rate_hz", self.rate_hz)
        _positive("sim_rate_hz", self.sim_rate_hz)
        _positive("chunk", self.chunk)
        self._check_path()
        names = [term.name for term in self.obs]
        if len(set(names)) != len(names):
            raise ValueError(f"contract lists an observation term twice: {names}")
        cameras = [term.name for term in self.images]
        if len(set(cameras)) != len(cameras):
            raise ValueError(f"contract lists a camera twice: {cameras}")

    def _check_path(self) -> None:
        """Check what not every action law has."""
        law = self.action
        if law.scale_below is not None:
            _length("action.scale_below", law.scale_below, len(self.joints))
            if min(*law.scale, *law.scale_below) <= 0.0:
                raise ValueError(f"action.scale_below is {law.scale_below}, scale {law.scale}; both must be positive")
        if not 0.0 <= law.lowpass_hz < self.rate_hz / 2.0:
            half = self.rate_hz / 2.0
            raise ValueError(f"action.lowpass_hz is {law.lowpass_hz}; it must lie in [0, {half}), half the rate")
        if law.lowpass_hz and (law.kind != "joint_position" or self.chunk != 1):
            raise ValueError(
                f"action.lowpass_hz is {law.lowpass_hz} with kind {law.kind!r} and chunk {self.chunk}; it takes "
                "'joint_position' targets, one at a time"
            )

    @property
    def obs_size(self) -> int:
        """Width D of the observation vector."""
        return sum(term.width for term in self.obs)

    @property
    def num_actions(self) -> int:
        """Width A of the action vector."""
        return len(self.joints)

    @property
    def decimation(self) -> int:
        """Physics substeps per policy step in training."""
        return round(self.sim_rate_hz / self.rate_hz)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, exact floats."""
        raw = dataclasses.asdict(self)
        raw["action"] = {k: v for k, v in raw["action"].items() if k not in _LATER or v != _LATER[k]}
        return json.dumps(raw, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Read canonical or any equivalent JSON.

        Raises:
            ValueError: The text is no JSON, a field is missing, unknown, of the wrong type or length.
        """
        try:
            raw = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"contract is not JSON: {error}") from error
        return read_fields(cls, raw, "contract", one=_NESTED, many=_NESTED_LIST)


_NESTED: dict[tuple[str, str], type] = {
    ("Contract", "command"): Command,
    ("Contract", "action"): ActionLaw,
    ("Contract", "limits"): JointLimits,
}
_NESTED_LIST: dict[tuple[str, str], type] = {("Contract", "obs"): ObsTerm, ("Contract", "images"): ImageTerm}


def _settle(value: Any) -> None:
    """Turn integers and NumPy numbers into floats where floats are meant: equal contracts have equal JSON."""
    for f in dataclasses.fields(value):
        x = getattr(value, f.name)
        if f.type == "float":
            object.__setattr__(value, f.name, float(x))
        elif x is not None and str(f.type).startswith(("Floats", "tuple[float")):
            object.__setattr__(value, f.name, tuple(float(number) for number in x))


def _length(label: str, values: Floats, n: int) -> None:
    if len(values) != n:
        raise ValueError(f"{label} has {len(values)} numbers; expected {n}")


def _positive(label: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{label} is {value}; it must be positive")
