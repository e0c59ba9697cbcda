"""A task as data: dicts of terms that together say what is seen, rewarded, ended, commanded and disturbed.

Built by a factory function in ``sim/tasks/<name>.py`` and varied with ``dataclasses.replace``, never by inheritance.

Knows: names and numbers of terms. Does not know: physics backends, learners.

Shapes: N environments · J joints · A action · K command · F feet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from robot_rl.contract.arrays import Array
from robot_rl.contract.spec import ActionLaw, Command, Contract, Floats, ImageTerm, JointLimits, ObsTerm
from robot_rl.contract.state import RobotState
from robot_rl.contract.terms import find_term
from robot_rl.hardware.robot import Robot
from robot_rl.hardware.symmetry import Reflection
from robot_rl.sim.curriculum import Curriculum
from robot_rl.sim.objects import Object
from robot_rl.sim.terrain import Terrain


@dataclass(slots=True)
class Outcome:
    """One control step as rewards and terminations see it; simulated or recorded alike."""

    before: RobotState
    """The state the action was chosen in."""
    after: RobotState
    """The state one control period later, before any reset; its ``command`` is the one that was in force."""
    action: Array
    """Raw action, (N, A)."""
    dt_s: float
    """Control period [s]."""
    contract: Contract
    foot_air_s: Array | None = None
    """Time each foot has been in the air before this step [s], (N, F); simulation only."""
    foot_pos_w: Array | None = None
    """Foot positions in the world [m], (N, F, 3); simulation only."""
    foot_vel_w: Array | None = None
    """Foot velocities in the world [m/s], (N, F, 3); simulation only."""
    foot_force: Array | None = None
    """Normal force on each foot at the end of the step [N], (N, F); simulation only."""


OutcomeTerm = Callable[[Outcome], Array]
"""Maps an outcome to one number per environment, (N,)."""


@dataclass(frozen=True, slots=True)
class Obs:
    """One observation term of the task; becomes an ``ObsTerm`` of the contract."""

    scale: float = 1.0
    clip: tuple[float, float] | None = None
    history: int = 1
    noise: float = 0.0
    """Half width of the uniform noise on the raw term, training only."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward term and its weight per second."""

    term: OutcomeTerm
    weight: float
    recorded: bool = True
    """Whether a robot's recording has all that the term needs."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What must not happen: a margin that is positive where it does (``robot_rl.sim.constraints`` makes them)."""

    margin: OutcomeTerm
    """How far beyond its limit each joint, foot or body is, (N, C), any unit."""
    p_max: float = 0.25
    """Chance in [0, 1] that the worst violation ends the stream of rewards; 1 is hard and never ramped."""
    allowed: float | None = None
    """Share of steps in training that may violate a soft one: its chance falls below ``p_max`` while fewer do, and
    rises again while more do. None keeps it at ``p_max``, as in the paper."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Constraints as terminations (``robot_rl.sim.cat``); the defaults are the paper's."""

    terms: dict[str, Constraint]
    tau: float = 0.95
    """How much of the running maximum of a margin stays from one control step to the next."""
    p_start: float = 0.05
    """Chance that soft constraints start with, where theirs is larger."""
    ramp_steps: int = 24_000
    """Control steps of each environment until soft constraints have their own ``p_max``; 0 is at once."""

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("constraints: there is no term; leave constraints None where a task has none")
        for name, term in self.terms.items():
            if not 0.0 <= term.p_max <= 1.0:
                raise ValueError(f"constraint {name!r}: p_max is {term.p_max}; it must lie in [0, 1], 1 being hard")
            if term.allowed is not None and not 0.0 < term.allowed < 1.0:
                raise ValueError(f"constraint {name!r}: allowed is {term.allowed}; it must lie in (0, 1), or be None")
        if not 0.0 <= self.tau < 1.0:
            raise ValueError(f"constraints: tau is {self.tau}; it must lie in [0, 1)")
        if not 0.0 < self.p_start <= 1.0:
            raise ValueError(f"constraints: p_start is {self.p_start}; it must lie in (0, 1]")
        if self.ramp_steps < 0:
            raise ValueError(f"constraints: ramp_steps is {self.ramp_steps}; it must be at least 0")


@dataclass(frozen=True, slots=True)
class Commands:
    """How commands are drawn in training."""

    spec: Command = field(default_factory=Command)
    resample_s: tuple[float, float] = (4.0, 8.0)
    """A new command comes after a time drawn from this range [s]."""
    zero_fraction: float = 0.1
    """Share of draws that ask to stand still."""


@dataclass(frozen=True, slots=True)
class Range:
    """A uniform range for an event; ``low`` and ``high`` broadcast to the parameter's width."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Push:
    """A sudden change of the base's velocity, now and then."""

    every_s: tuple[float, float] = (5.0, 9.0)
    lin_vel: float = 0.5
    """Largest horizontal change [m/s]."""
    ang_vel: float = 0.3
    """Largest change about each axis [rad/s]."""


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that a world asks of a robot."""

    name: str
    robot: str
    """Name of a folder in ``hardware/``."""
    obs: dict[str, Obs]
    """Observation terms by the names of ``robot_rl.contract.terms``, in the order of the policy's input."""
    rewards: dict[str, Reward]
    dones: dict[str, OutcomeTerm]
    """Each gives the probability in [0, 1] that the step ends the episode; the largest counts."""
    privileged: dict[str, Callable[[RobotState, Contract], Array]] = field(default_factory=dict)
    """Terms that only the critic sees, from exact simulated states."""
    reflections: dict[str, Reflection] = field(default_factory=dict)
    """What privileged terms of the task's own become in a mirror, by name; ``hardware.symmetry`` knows the others."""
    constraints: Constraints | None = None
    """What must not happen, for training; evaluation only counts how often it does."""
    success: OutcomeTerm | None = None
    """1 where the task is solved in this state, else 0; episodes are counted by what it says of their last step."""
    objects: dict[str, Object] = field(default_factory=dict)
    """What stands in front of a robot of fixed base, by name; ``robot_rl.sim.objects`` says how a policy sees it."""
    cameras: tuple[ImageTerm, ...] = ()
    """Cameras of the robot's MJCF whose pictures are observed, each a group ``pixels/<name>``; rendering costs time."""
    scene: str = "flat"
    terrain: Terrain | None = None
    """Rough ground in place of the scene's floor; terms that ask for the ground's height are made of the same one."""
    curriculum: Curriculum | None = None
    """How copies move over the levels of ``terrain``; None spreads them over all, for good."""
    action_kind: str = "joint_position"
    action_scale: tuple[float, ...] | float = 0.5
    """Radians per unit action, one number or one per motor in the robot's order."""
    action_range: float | None = None
    """Where set, in place of ``action_scale``: -1 and 1 lead this share of the way from the default pose to a joint's
    limits, which need not be as far on both sides."""
    action_lowpass_hz: float = 0.0
    """Cut-off of the low-pass on joint targets (``robot_rl.contract.path``) [Hz]; 0 is none."""
    rate_hz: float = 50.0
    sim_rate_hz: float = 200.0
    episode_s: float = 20.0
    commands: Commands = field(default_factory=Commands)
    resets: dict[str, Range] = field(default_factory=dict)
    """Spread of the initial state: ``joint_pos`` (added to the default pose), ``joint_vel``, ``roll``, ``pitch``,
    ``yaw``, ``height``, ``lin_vel_w``, ``ang_vel_b``."""
    push: Push | None = None
    randomize: dict[str, Range] = field(default_factory=dict)
    """Physical parameters drawn once per environment, by the names of ``robot_rl.sim.physics.RANDOMIZABLE``."""
    delay_substeps: tuple[int, int] = (0, 0)
    """Delay between observation and action, drawn per environment [physics substeps], at most one control period."""
    torque_speed: bool = False
    """Whether motors lose torque with speed, by the robot's own line (``robot_rl.sim.actuator``)."""
    noise: bool = True
    """Whether the observation noise of ``obs`` is on."""

    @property
    def decimation(self) -> int:
        """Physics substeps per control step."""
        return round(self.sim_rate_hz / self.rate_hz)

    def contract(self, robot: Robot) -> Contract:
        """Build the contract of this task on ``robot``; the only place where a contract is built."""
        joints = robot.actuated
        rows = [robot.index(name) for name in joints]

        def pick(values: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(float(values[i]) for i in rows)

        sizes = _term_sizes(robot, len(self.commands.spec.names), len(self.objects))
        for name in self.obs:
            find_term(name)
        return Contract(
            robot=robot.name,
            task=self.name,
            joints=joints,
            passive=robot.passive,
            obs=tuple(
                ObsTerm(name, sizes[name], (float(o.scale),) * sizes[name], o.clip, o.history)
                for name, o in self.obs.items()
            ),
            command=self.commands.spec,
            action=self._action_law(pick(robot.default_pos), pick(robot.pos_low), pick(robot.pos_high)),
            stiffness=pick(robot.stiffness),
            damping=pick(robot.damping),
            rate_hz=self.rate_hz,
            sim_rate_hz=self.sim_rate_hz,
            limits=JointLimits(pick(robot.pos_low), pick(robot.pos_high), pick(robot.vel), pick(robot.effort)),
            imu_frame=robot.imu_frame,
            images=self.cameras,
            extra={"objects": list(self.objects)} if self.objects else {},
        )

    def _action_law(self, offset: Floats, low: Floats, high: Floats) -> ActionLaw:
        share, below = self.action_range, None
        if share is None:
            scale = self.action_scale if isinstance(self.action_scale, tuple) else (self.action_scale,) * len(offset)
        else:
            scale = tuple(share * (h - o) for h, o in zip(high, offset, strict=True))
            below = tuple(share * (o - a) for a, o in zip(low, offset, strict=True))
        return ActionLaw(self.action_kind, scale, offset, scale_below=below, lowpass_hz=self.action_lowpass_hz)


def _term_sizes(robot: Robot, num_commands: int, num_objects: int) -> dict[str, int]:
    """Return the width of every observation term on ``robot``."""
    j, a, f = len(robot.joints), len(robot.actuated), len(robot.feet)
    three = ("base_ang_vel", "base_lin_acc", "base_lin_vel", "projected_gravity")
    joint = ("joint_effort", "joint_pos", "joint_pos_rel", "joint_vel_rel")
    return {
        **dict.fromkeys(three, 3),
        **dict.fromkeys(joint, j),
        "joint_sin_cos": 2 * j,
        "last_action": a,
        "foot_contact": f,
        "velocity_commands": num_commands,
        "command": num_commands,
        "tool_pos": 3,
        "tool_axes": 6,
        "object_pos": 3 * num_objects,
        "object_axes": 6 * num_objects,
        "tool_to_object": 3 * num_objects,
    }


def recorded_reward(task: Task, outcome: Outcome) -> Array:
    """Return the reward of recorded steps, (N,): the terms that a recording has all the inputs for."""
    terms = [r.weight * r.term(outcome) for r in task.rewards.values() if r.recorded]
    if not terms:
        raise ValueError(f"task {task.name!r} has no reward term that a recording can compute")
    return sum(terms) * outcome.dt_s
