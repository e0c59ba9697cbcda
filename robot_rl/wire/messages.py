"""robot_rl's own messages and every topic: name, message, quality of service. Declared here and nowhere else.

The ``.msg`` files of ``ros2_ws/src/robot_rl_msgs`` are the same declarations for colcon; a test compares the two.
Requests travel as topics with an id and a reply, because DDS services differ between vendors.

Knows: what is said, by whom, how reliably.
Does not know: bytes (``cdr``), middleware (``dds``, ``ros``), who listens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from robot_rl.wire import standard as std
from robot_rl.wire.layout import Float32Seq, Float64, Float64Seq, UInt8, UInt32, UInt64, message
from robot_rl.wire.standard import Header, KeyValue

M = TypeVar("M")

REQUESTS = ("mode", "estop", "rearm", "label", "takeover", "explore", "change", "lift")
"""What a person may ask for; ``Request.kind`` is one of these."""


@message("robot_rl_msgs/msg/PolicyStatus")
class PolicyStatus:
    """The state of the control loop, several times a second."""

    header: Header = Header()
    mode: UInt8 = 0
    """``robot_rl.data.transition.Mode``: 0 off, 1 damp, 2 stand, 3 policy, 4 takeover."""
    who: UInt8 = 0
    """``robot_rl.data.transition.Who``: 0 none, 1 policy, 2 human, 3 runtime."""
    estop: bool = False
    """Whether the emergency stop is latched; only a rearm clears it."""
    stood_up: bool = False
    """Whether the robot stands, so that the policy may start."""
    tick: UInt64 = 0
    rate_hz: Float64 = 0.0
    policy: str = ""
    """SHA-256 of the policy file in force, 64 hex digits."""
    policy_path: str = ""
    stage: str = ""
    """Where the newest candidate stands: idle, shadow, probation."""
    fault: tuple[str, ...] = ()
    """Why the robot last fell back to damping; names of ``robot_rl.runtime.shield.Reason``."""
    reasons: tuple[str, ...] = ()
    """What the shield or the loop changed in the last tick; the same names."""
    command: Float64Seq = field(default_factory=lambda: np.zeros(0))
    """The command in force, as the contract names it [m/s, m/s, rad/s]."""
    work_p50_s: Float64 = 0.0
    """Time that a tick takes, without the wait, over the last few thousand ticks [s]."""
    work_p99_s: Float64 = 0.0
    work_max_s: Float64 = 0.0
    late_p99_s: Float64 = 0.0
    """How late a tick began [s]."""
    late_max_s: Float64 = 0.0
    overruns: UInt64 = 0
    """Deadlines that passed while a tick still ran."""
    drops: UInt64 = 0
    """Ticks that the recorder lost."""
    swaps: UInt32 = 0
    rollbacks: UInt32 = 0
    refusals: UInt32 = 0
    """Policies that were refused."""


@message("robot_rl_msgs/msg/PolicyOffer")
class PolicyOffer:
    """A policy file that a learner would like the robot to run."""

    header: Header = Header()
    uri: str = ""
    """A path on the robot's disk, or ``file://``."""
    sha256: str = ""
    """Of the file, 64 hex digits."""
    parent: str = ""
    """SHA-256 of the policy that it was trained from; empty for none."""
    recipe: str = ""
    updates: UInt64 = 0


@message("robot_rl_msgs/msg/PolicyEvent")
class PolicyEvent:
    """Something that happened to a policy or to the mode, once, with its reason."""

    header: Header = Header()
    kind: str = ""
    """The runtime's name of it, e.g. swap, swap_refused, swap_rolled_back, mode, estop."""
    policy: str = ""
    """SHA-256 of the policy that drives from now on; empty where the event is not about one."""
    tick: UInt64 = 0
    reason: str = ""
    detail: str = ""
    """Everything the runtime said, a JSON object."""


@message("robot_rl_msgs/msg/Request")
class Request:
    """A person asks for something; answered by one ``RequestReply`` of the same id."""

    header: Header = Header()
    id: str = ""
    """Unique per request, chosen by the asker."""
    kind: str = ""
    """One of ``REQUESTS``."""
    value: str = ""
    """mode: ``off damp stand policy``; label: ``success failure``; takeover: ``on off``; explore: a deviation in
    [0, 0.5]; change (a simulated robot only): JSON of physical parameters; else empty."""


@message("robot_rl_msgs/msg/RequestReply")
class RequestReply:
    """What became of a request."""

    header: Header = Header()
    id: str = ""
    ok: bool = False
    reason: str = ""


@message("robot_rl_msgs/msg/TakeoverAction")
class TakeoverAction:
    """A person's raw action in place of the policy's, in [-1, 1], joints of the contract in order, shape (A,)."""

    header: Header = Header()
    action: Float32Seq = field(default_factory=lambda: np.zeros(0, np.float32))


@message("robot_rl_msgs/msg/JointTargetArray")
class JointTargetArray:
    """What was really sent to the joints: tau = kp (pos - q) + kd (vel - qd) + effort_ff; each (J,)."""

    header: Header = Header()
    name: tuple[str, ...] = ()
    position: Float64Seq = field(default_factory=lambda: np.zeros(0))
    velocity: Float64Seq = field(default_factory=lambda: np.zeros(0))
    effort_ff: Float64Seq = field(default_factory=lambda: np.zeros(0))
    stiffness: Float64Seq = field(default_factory=lambda: np.zeros(0))
    damping: Float64Seq = field(default_factory=lambda: np.zeros(0))


@message("robot_rl_msgs/msg/LearnerStatus")
class LearnerStatus:
    """How far a learner is."""

    header: Header = Header()
    recipe: str = ""
    phase: str = ""
    """For example ``waiting``, ``learning``, ``exporting``."""
    transitions: UInt64 = 0
    episodes: UInt32 = 0
    updates: UInt64 = 0
    updates_per_s: Float64 = 0.0
    offers: UInt32 = 0
    policy: str = ""
    """SHA-256 of the newest policy offered; empty for none."""
    metrics: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Qos:
    """How a topic travels; the policies of DDS and ROS 2 that matter here."""

    reliable: bool = True
    latched: bool = False
    """Keep the newest ``depth`` messages for those who join later (transient local)."""
    depth: int = 1
    lifespan_s: float | None = None
    """A message older than this is not delivered any more."""


COMMAND = Qos(lifespan_s=0.5)
"""Newest wins: reliable, keep the last one, nothing older than half a second."""
SENSOR = Qos(depth=5)
"""Drivers offer reliable (REP-2003) ..."""
SENSOR_DATA = Qos(reliable=False, depth=5)
"""... and readers ask for best effort."""
LATCHED = Qos(latched=True)
"""The newest value, also for late joiners."""
LOG = Qos(latched=True, depth=32)
"""The last 32, also for late joiners."""
QUEUE = Qos(depth=16)
"""Every one counts."""


@dataclass(frozen=True, slots=True)
class Topic(Generic[M]):
    """A topic: relative name (the transport adds its namespace), message, offered and requested quality."""

    name: str
    type: type[M]
    offered: Qos = field(default_factory=Qos)
    requested: Qos | None = None
    """What subscribers ask for; None asks for what is offered."""

    @property
    def reader_qos(self) -> Qos:
        """What subscribers ask for. A lifespan is the writer's alone."""
        return self.requested or replace(self.offered, lifespan_s=None)


JOINT_STATES = Topic("joint_states", std.JointState, SENSOR, SENSOR_DATA)
IMU = Topic("imu/data", std.Imu, SENSOR, SENSOR_DATA)
ODOM = Topic("odom", std.Odometry, SENSOR, SENSOR_DATA)
JOINT_TARGETS = Topic("joint_targets", JointTargetArray, SENSOR, SENSOR_DATA)
CMD_VEL = Topic("cmd_vel", std.Twist, COMMAND)
CMD_VEL_STAMPED = Topic("cmd_vel", std.TwistStamped, COMMAND)
"""The same name with the stamped type: a robot speaks one of the two."""
DIAGNOSTICS = Topic("/diagnostics", std.DiagnosticArray, QUEUE)
ROBOT_DESCRIPTION = Topic("robot_description", std.String, LATCHED)
CONTRACT = Topic("policy/contract", std.String, LATCHED)
"""The contract in force as canonical JSON."""
ESTOP = Topic("estop", std.Bool, LATCHED)
ESTOP_VOLATILE = Topic("estop", std.Bool, LATCHED, QUEUE)
"""The same topic for the ears of the robot: ``ros2 topic pub`` offers no history and must stop it all the same."""
REQUEST = Topic("request", Request, QUEUE)
REQUEST_REPLY = Topic("request/reply", RequestReply, QUEUE)
TAKEOVER_ACTION = Topic("takeover/action", TakeoverAction, COMMAND)
STATUS = Topic("policy/status", PolicyStatus, LATCHED)
OFFER = Topic("policy/offer", PolicyOffer, LATCHED)
EVENT = Topic("policy/event", PolicyEvent, LOG)
LEARNER = Topic("learner/status", LearnerStatus, LATCHED)

TOPICS: tuple[Topic[Any], ...] = tuple(v for v in globals().values() if isinstance(v, Topic))
"""Every topic, in the order above."""
