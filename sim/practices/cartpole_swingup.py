"""Practice of ``cartpole_swingup``: swing the pole up, let it hang still again, in turns; nobody touches the cart.

A person comes where the cart leans against the end of its rail.
"""

from __future__ import annotations

from robot_rl.contract.arrays import Array, as_float, namespace
from robot_rl.sim.practice import Goal, Practice
from robot_rl.sim.task import Outcome

SLIDER, POLE = 0, 1
RAIL_M = 1.7
"""The rail ends 1.8 m from its middle."""


def practice() -> Practice:
    """Return it; the reward of the way there is how high the pole is, and of the way back how low and slow."""
    return Practice({"up": Goal(up, height), "down": Goal(down, calm)}, stuck=at_the_end)


def up(o: Outcome) -> Array:
    """1 where the pole is within 18 degrees of upright."""
    return as_float(_upright(o) > 0.95, o.action)


def height(o: Outcome) -> Array:
    """A hundredth of how upright the pole is, 0 to 1."""
    return 0.005 * (1.0 + _upright(o))


def down(o: Outcome) -> Array:
    """1 where the pole hangs within 18 degrees, slowly, and the cart is near the middle."""
    q, qd = o.after.joint_pos, o.after.joint_vel
    calm = (abs(qd[..., POLE]) < 1.0) & (abs(q[..., SLIDER]) < 0.5)
    return as_float((_upright(o) < -0.95) & calm, o.action)


def calm(o: Outcome) -> Array:
    """A hundredth of how low the pole is, less what it moves and how far the cart is from the middle."""
    q, qd = o.after.joint_pos, o.after.joint_vel
    return 0.005 * (1.0 - _upright(o)) - 0.001 * abs(qd[..., POLE]) - 0.005 * abs(q[..., SLIDER])


def at_the_end(o: Outcome) -> Array:
    """1 where the cart is at an end of the rail."""
    return as_float(abs(o.after.joint_pos[..., SLIDER]) > RAIL_M, o.action)


def _upright(o: Outcome) -> Array:
    """1 upright, -1 hanging."""
    q = o.after.joint_pos
    return namespace(q).cos(q[..., POLE])
