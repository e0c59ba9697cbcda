"""What the robot is doing, and what may follow: OFF -> DAMP -> STAND -> POLICY <-> TAKEOVER; DAMP from anywhere.

One pure function, ``step``, over one frozen value, ``Situation``; the table of transitions is data. Nothing starts
by itself: after a fault the robot stays in DAMP until somebody asks for STAND, and after an e-stop that takes two
acts, releasing (``REARM``) and STAND.

Knows: modes, requests, faults. Does not know: who asks, what the modes send to the joints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from robot_rl.data.transition import Mode
from robot_rl.runtime.shield import DAMPING, NONE, Reason


class Request(Enum):
    """What an operator may ask for."""

    OFF = "off"
    DAMP = "damp"
    STAND = "stand"
    POLICY = "policy"
    """Let the policy drive; from TAKEOVER this is the hand-back."""
    TAKEOVER = "takeover"
    ESTOP = "estop"
    REARM = "rearm"
    """Release the e-stop; the robot stays in DAMP."""


ALLOWED: dict[Mode, frozenset[Mode]] = {
    Mode.OFF: frozenset({Mode.OFF, Mode.DAMP}),
    Mode.DAMP: frozenset({Mode.OFF, Mode.DAMP, Mode.STAND}),
    Mode.STAND: frozenset({Mode.DAMP, Mode.STAND, Mode.POLICY}),
    Mode.POLICY: frozenset({Mode.DAMP, Mode.STAND, Mode.POLICY, Mode.TAKEOVER}),
    Mode.TAKEOVER: frozenset({Mode.DAMP, Mode.STAND, Mode.POLICY, Mode.TAKEOVER}),
}
"""Where a request may lead from each mode. OFF only from DAMP: a moving robot is damped before it goes limp."""

FAULTS = DAMPING | Reason.TARGET_INVALID | Reason.COMMANDER_LOST | Reason.ESTOP | Reason.LINK_LOST | Reason.CAMERA_LOST
"""Reasons that end any motion: the next mode is DAMP."""

MOVING = frozenset({Mode.STAND, Mode.POLICY, Mode.TAKEOVER})
"""Modes in which the joints are driven."""

_FAULTS = int(FAULTS)


@dataclass(frozen=True, slots=True)
class Situation:
    """The mode, and what the way back depends on."""

    mode: Mode = Mode.OFF
    estopped: bool = False
    """Pressed and not yet re-armed: nothing but REARM, DAMP and OFF is heard."""
    fault: Reason = NONE
    """Why the robot last fell back to DAMP; cleared by the next STAND."""


def step(
    now: Situation, request: Request | None, *, faults: Reason | int = 0, stood_up: bool = False
) -> tuple[Situation, str]:
    """Return the next situation, and why ``request`` was refused, empty where it was not.

    Args:
        now: The situation so far.
        request: What an operator asks for, None for nothing.
        faults: Findings of the shield and the loop since the last step; while there are any, nothing starts.
        stood_up: The robot has reached the default pose in STAND.
    """
    if request is Request.ESTOP:
        return Situation(_damped(now.mode), True, now.fault | Reason.ESTOP), ""
    found = int(faults) & _FAULTS
    if found and now.mode in MOVING:
        now = replace(now, mode=Mode.DAMP, fault=now.fault | Reason(found))
    if request is None:
        return now, ""
    if request is Request.REARM:
        return replace(now, estopped=False), "" if now.estopped else "the e-stop is not pressed"
    wanted = Mode[request.name]
    refusal = _refuse(now, wanted, found, stood_up)
    if refusal:
        return now, refusal
    return replace(now, mode=wanted, fault=NONE if wanted is Mode.STAND else now.fault), ""


def _refuse(now: Situation, wanted: Mode, found: int, stood_up: bool) -> str:
    """Return why ``wanted`` may not follow, empty where it may."""
    if now.estopped and wanted in MOVING:
        return f"the e-stop is pressed: re-arm before {wanted.name}"
    if wanted not in ALLOWED[now.mode]:
        choices = sorted(mode.name for mode in ALLOWED[now.mode] - {now.mode})
        return f"{wanted.name} cannot follow {now.mode.name}; from there the choices are {choices}"
    if wanted in MOVING and found:
        return f"{wanted.name} must wait: {names(found)}"
    if wanted is Mode.POLICY and now.mode is Mode.STAND and not stood_up:
        return "the robot is still standing up"
    return ""


def names(reasons: Reason | int) -> str:
    """Return reasons as words, e.g. ``STATE_STALE, TILT``; ``none`` for no reason."""
    return ", ".join(reason.name or "" for reason in Reason if reason & int(reasons)) or "none"


def _damped(mode: Mode) -> Mode:
    """An e-stop damps what has power; what is off stays off."""
    return Mode.OFF if mode is Mode.OFF else Mode.DAMP
