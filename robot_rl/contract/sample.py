"""Plausible robot states without a robot or a simulator: what golden vectors are recorded on, and what tests feed.

Knows: ranges that follow from a contract.
Does not know: dynamics; successive states are independent.

Shapes: n states · J joints (the order given) · A action · K command · F feet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.contract.apply import joint_indices
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState

_NOT_LIMITED = (-3.0, 3.0)  # passive joints have no limits in a contract [rad or m]


def sample_states(contract: Contract, joints: Sequence[str], count: int, rng: np.random.Generator) -> RobotState:
    """Draw ``count`` states within the limits that the policy was trained under.

    Orientations tilt up to 0.6 rad and turn by any yaw, so that a wrong quaternion order shows.

    Returns:
        States with every field (count, ...), float64, joints in the order of ``joints``, optional fields filled.

    Raises:
        ValueError: The joint names differ from the contract's.
    """
    order = np.argsort(joint_indices(contract, joints))  # contract order to the order of ``joints``
    n, passive, limits = len(joints), len(contract.passive), contract.limits
    low = np.array(limits.pos_low + (_NOT_LIMITED[0],) * passive)[order]
    high = np.array(limits.pos_high + (_NOT_LIMITED[1],) * passive)[order]
    vel = np.array(limits.vel + (10.0,) * passive)[order]
    effort = np.array(limits.effort + (0.0,) * passive)[order]
    low, high = (np.clip(x, -2.0 * np.pi, 2.0 * np.pi) for x in (low, high))  # continuous joints say 1e9
    command = contract.command
    feet = next((term.size for term in contract.obs if term.name == "foot_contact"), 0)
    states = RobotState(
        stamp_s=np.arange(count) / contract.rate_hz,
        joint_pos=rng.uniform(low, high, (count, n)),
        joint_vel=rng.normal(0.0, 0.2, (count, n)) * np.clip(vel, 0.0, 30.0),
        joint_effort=rng.normal(0.0, 0.3, (count, n)) * np.clip(effort, 0.0, 500.0),
        quat_xyzw=_orientations(count, rng),
        ang_vel_b=rng.normal(0.0, 1.0, (count, 3)),
        lin_acc_b=rng.normal((0.0, 0.0, 9.81), 2.0, (count, 3)),
        command=rng.uniform(command.low, command.high, (count, len(command.names))),
        last_action=rng.uniform(-1.0, 1.0, (count, contract.num_actions)),
        foot_contact=rng.integers(0, 2, (count, feet)).astype(np.float64),
        base_pos_w=rng.normal(0.0, 1.0, (count, 3)),
        lin_vel_b=rng.normal(0.0, 0.5, (count, 3)),
    )
    _lay_out(states, contract, count, rng)
    return states


def _lay_out(states: RobotState, contract: Contract, count: int, rng: np.random.Generator) -> None:
    """Fill in the poses of tool and objects where a term of the contract reads them."""
    sizes = {term.name: term.size for term in contract.obs}
    per_object = {"object_pos": 3, "object_axes": 6, "tool_to_object": 3}
    objects = max((sizes[name] // k for name, k in per_object.items() if name in sizes), default=0)
    if sizes.keys() & {"tool_pos", "tool_axes", "tool_to_object"}:
        states.tool_pos_b = rng.uniform((0.2, -0.4, 0.0), (0.7, 0.4, 0.6), (count, 3))
        states.tool_quat_xyzw = _orientations(count, rng)
    if objects:
        states.object_pos_b = rng.uniform((0.2, -0.4, 0.0), (0.7, 0.4, 0.6), (count, objects, 3))
        states.object_quat_xyzw = _orientations(count * objects, rng).reshape(count, objects, 4)


def _orientations(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return unit quaternions xyzw, (count, 4): a tilt about a horizontal axis after a yaw."""
    tilt, heading, yaw = rng.uniform(0.0, 0.6, count), *rng.uniform(-np.pi, np.pi, (2, count))
    s, c = np.sin(tilt / 2.0), np.cos(tilt / 2.0)
    x, y, w = s * np.cos(heading), s * np.sin(heading), c
    sy, cy = np.sin(yaw / 2.0), np.cos(yaw / 2.0)
    return np.stack((cy * x - sy * y, cy * y + sy * x, sy * w, cy * w), -1)  # yaw times tilt
