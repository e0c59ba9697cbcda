"""Reward, termination and success terms for a tool and objects; NumPy and torch alike.

Every term maps an ``Outcome`` to (N,). ``thing`` is the place of an object in ``Task.objects``, from 0.

Does not know: weights, tasks, backends.
"""

from __future__ import annotations

from robot_rl.contract.arrays import Array, as_float, namespace
from robot_rl.sim.task import Outcome, OutcomeTerm


def goal_distance(o: Outcome) -> Array:
    """Distance of the tool from the goal that the command's first three numbers are [m], (N,)."""
    return _length(o.after.tool_pos_b - o.after.command[..., :3])


def near_goal(scale_m: float) -> OutcomeTerm:
    """1 - tanh(distance of tool and goal / scale), 1 at best."""
    return lambda o: _near(goal_distance(o), scale_m)


def at_goal(within_m: float) -> OutcomeTerm:
    """1 where the tool is this near to its goal."""
    return lambda o: as_float(goal_distance(o) < within_m, o.action)


def near_object(thing: int, scale_m: float) -> OutcomeTerm:
    """1 - tanh(distance of tool and object / scale), 1 at best."""
    return lambda o: _near(_length(_object(o, thing) - o.after.tool_pos_b), scale_m)


def height(thing: int, rest_m: float, height_m: float) -> OutcomeTerm:
    """How high an object is between ``rest_m`` and ``height_m``, 0 to 1, where the tool is within 4 cm of it."""

    def height(o: Outcome) -> Array:
        pos = _object(o, thing)
        share = namespace(pos).clip((pos[..., 2] - rest_m) / (height_m - rest_m), 0.0, 1.0)
        return share * as_float(_length(pos - o.after.tool_pos_b) < 0.04, share)

    return height


def held_above(thing: int, height_m: float, within_m: float = 0.03) -> OutcomeTerm:
    """1 where an object's centre is above ``height_m`` with the tool within ``within_m`` of it: held and not thrown."""

    def held_above(o: Outcome) -> Array:
        pos = _object(o, thing)
        held = (pos[..., 2] > height_m) & (_length(pos - o.after.tool_pos_b) < within_m)
        return as_float(held, o.action)

    return held_above


def inserted(peg: int, hole: int, below_m: float, aside_m: float) -> OutcomeTerm:
    """1 where the peg's centre is less than ``below_m`` above the hole's origin and ``aside_m`` from its axis."""

    def inserted(o: Outcome) -> Array:
        gap = _object(o, peg) - _object(o, hole)
        inside = (gap[..., 2] < below_m) & (_length(gap[..., :2]) < aside_m)
        return as_float(inside, o.action)

    return inserted


def near_hole(peg: int, hole: int, above_m: float, scale_m: float) -> OutcomeTerm:
    """1 - tanh(distance of the peg's centre from the point ``above_m`` over the hole's origin / scale)."""

    def near_hole(o: Outcome) -> Array:
        gap = _object(o, peg) - _object(o, hole)
        rise = gap[..., 2] - above_m
        return _near(namespace(gap).sqrt((gap[..., :2] ** 2).sum(-1) + rise * rise), scale_m)

    return near_hole


def let_go(thing: int, within_m: float) -> OutcomeTerm:
    """1 where an object is further than ``within_m`` from the tool."""
    return lambda o: as_float(_length(_object(o, thing) - o.after.tool_pos_b) > within_m, o.action)


def out_of_reach(thing: int, low: tuple[float, float, float], high: tuple[float, float, float]) -> OutcomeTerm:
    """1 where an object has left the box between two corners in the base frame [m]."""

    def out_of_reach(o: Outcome) -> Array:
        pos = _object(o, thing)
        out = pos[..., 0] != pos[..., 0]  # nothing is out but what is not a number
        for axis, (least, most) in enumerate(zip(low, high, strict=True)):
            out = out | (pos[..., axis] < least) | (pos[..., axis] > most)
        return as_float(out, o.action)

    return out_of_reach


def _object(o: Outcome, thing: int) -> Array:
    return o.after.object_pos_b[..., thing, :]  # type: ignore[index]  # the task has objects


def _length(x: Array) -> Array:
    return namespace(x).sqrt((x * x).sum(-1))


def _near(distance: Array, scale_m: float) -> Array:
    return 1.0 - namespace(distance).tanh(distance / scale_m)
