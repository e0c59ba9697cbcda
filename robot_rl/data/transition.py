"""One tick of a robot as one packed row: what was seen, decided, sent, by whom, and how late.

Knows: the layout of a row for a contract and a robot.
Does not know: files (``episodes``), sampling (``replay``), rewards (computed from rows by the task).

Shapes: D observation · A action · J joints (robot order) · K command · F feet · O objects.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import Robot


class Who(IntEnum):
    """Who commanded a tick."""

    NONE = 0
    """Nobody: the motors were off."""
    POLICY = 1
    HUMAN = 2
    RUNTIME = 3
    """The runtime itself: standing up, damping, resetting."""


class Mode(IntEnum):
    """The runtime's mode in a tick."""

    OFF = 0
    DAMP = 1
    STAND = 2
    POLICY = 3
    TAKEOVER = 4


WORKSPACE = ("tool_pos_b", "tool_quat_xyzw", "object_pos_b", "object_quat_xyzw")
"""Fields of a row that only some contracts have."""


def row_dtype(contract: Contract, robot: Robot) -> np.dtype:
    """Return the packed little-endian layout of one tick. Fields that a robot does not measure hold NaN.

    Where the task has objects, or the policy sees the robot's tool, their poses follow the other fields; the pictures
    of the contract's cameras come last, uint8 (H, W, 3) each.
    """
    d, a, k = contract.obs_size, contract.num_actions, len(contract.command.names)
    j, f = len(robot.joints), len(robot.feet)
    return np.dtype(
        [
            ("tick", "<u8"),  # counts up from 0 over the life of the runtime process
            ("stamp_s", "<f8"),  # monotonic time of the measurement
            ("wall_s", "<f8"),  # Unix time of the tick
            ("policy", "<u8"),  # first 8 bytes of the policy file's SHA-256, 0 for none
            ("mode", "u1"),  # Mode
            ("who", "u1"),  # Who
            ("terminated", "u1"),  # 1: the episode ended here for a reason of the task (a fall)
            ("truncated", "u1"),  # 1: it ended here for another reason (time, operator, shutdown)
            ("label", "i1"),  # operator's label of the episode: 1 success, -1 failure, 0 none
            ("reasons", "<u4"),  # shield reasons, bits of runtime.shield.Reason
            ("obs", "<f4", (d,)),  # what the policy saw
            ("action", "<f4", (a,)),  # raw action of whoever commanded
            ("policy_action", "<f4", (a,)),  # raw action of the policy, also where a person commanded
            ("sent_action", "<f4", (a,)),  # the target really sent, mapped back into action space
            ("sent_pos", "<f4", (j,)),  # position targets really sent
            ("joint_pos", "<f4", (j,)),
            ("joint_vel", "<f4", (j,)),
            ("joint_effort", "<f4", (j,)),
            ("quat_xyzw", "<f4", (4,)),
            ("ang_vel_b", "<f4", (3,)),
            ("lin_acc_b", "<f4", (3,)),
            ("lin_vel_b", "<f4", (3,)),
            ("base_pos_w", "<f4", (3,)),
            ("foot_contact", "<f4", (f,)),
            ("command", "<f4", (k,)),
            ("last_action", "<f4", (a,)),
            ("state_age_s", "<f4"),  # age of the state when the tick began
            ("infer_s", "<f4"),  # observe + infer
            ("tick_s", "<f4"),  # whole tick, without the wait
            ("late_s", "<f4"),  # how late the tick began
            *_workspace(contract),
            *((picture_field(term.group), "u1", term.shape) for term in contract.images),  # what the policy saw
        ]
    )


def picture_field(group: str) -> str:
    """Return the row's field for the pictures of an ``ImageTerm.group``, e.g. ``pixels_wrist`` of ``pixels/wrist``."""
    return group.replace("/", "_")


def _workspace(contract: Contract) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return the fields of an arm's surroundings, base frame; none for a contract without."""
    objects = len(contract.extra.get("objects", ()))
    fields: list[tuple[str, str, tuple[int, ...]]] = []
    if objects or any(term.name.startswith("tool_") for term in contract.obs):
        fields += [("tool_pos_b", "<f4", (3,)), ("tool_quat_xyzw", "<f4", (4,))]
    if objects:  # in the order of the contract's ``extra["objects"]``
        fields += [("object_pos_b", "<f4", (objects, 3)), ("object_quat_xyzw", "<f4", (objects, 4))]
    return fields


def as_state(rows: np.ndarray) -> RobotState:
    """Return rows, shape (...,), as a batched ``RobotState`` whose fields are views of them."""
    there = rows.dtype.names or ()
    return RobotState(
        stamp_s=rows["stamp_s"],
        joint_pos=rows["joint_pos"],
        joint_vel=rows["joint_vel"],
        joint_effort=rows["joint_effort"],
        quat_xyzw=rows["quat_xyzw"],
        ang_vel_b=rows["ang_vel_b"],
        lin_acc_b=rows["lin_acc_b"],
        command=rows["command"],
        last_action=rows["last_action"],
        foot_contact=rows["foot_contact"],
        base_pos_w=rows["base_pos_w"],
        lin_vel_b=rows["lin_vel_b"],
        **{name: rows[name] for name in WORKSPACE if name in there},
    )
