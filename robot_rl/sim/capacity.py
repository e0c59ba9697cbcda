"""How many contacts and constraints a scene can have at once: an upper estimate, for engines with fixed buffers.

A geom of the robot is taken to touch at most ``NEIGHBOURS`` geoms of another body at once (terrain of hundreds of boxes
would else ask for thousands), with as many contact points as the worst pair of their shapes makes.

Knows: compiled MuJoCo models. Does not know: engines.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

NEIGHBOURS = 4
"""Geoms that one geom of the robot may touch at once."""
_POINTS = {"PLANE": 4, "HFIELD": 8, "SPHERE": 1, "CAPSULE": 2, "ELLIPSOID": 1, "CYLINDER": 4, "BOX": 8, "MESH": 8}
"""Most contact points of a shape with another; a pair has the smaller of its two numbers."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes of the buffers of one copy."""

    contacts: int
    constraints: int
    """Rows of the constraint Jacobian: contacts, limits, friction losses, equalities."""


def estimate_capacity(model: mujoco.MjModel) -> Capacity:
    """Return what one copy of ``model`` needs at most, by the rule in the module's docstring."""
    points = np.array([_points(model, i) for i in range(model.ngeom)])
    contacts = rows = 0
    per_contact = _rows_per_contact(model)
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == 0:
            continue
        partners = [other for other in range(model.ngeom) if _collide(model, geom, other)]
        made = sorted((int(min(points[geom], points[other])) for other in partners), reverse=True)[:NEIGHBOURS]
        contacts += sum(made)
    contacts += 8 * model.npair
    rows += contacts * per_contact
    rows += int(np.count_nonzero(model.jnt_limited)) + int(np.count_nonzero(model.dof_frictionloss))
    rows += 6 * model.neq + 2 * model.ntendon
    return Capacity(contacts=_round_up(contacts), constraints=_round_up(rows))


def _collide(model: mujoco.MjModel, a: int, b: int) -> bool:
    """Whether MuJoCo looks for contacts of two geoms, (world | lower robot geom) counted from the robot's side once."""
    body_a, body_b = int(model.geom_bodyid[a]), int(model.geom_bodyid[b])
    if body_a == body_b or (body_b != 0 and b > a):
        return False
    types, affinities = model.geom_contype, model.geom_conaffinity
    if not (int(types[a]) & int(affinities[b]) or int(types[b]) & int(affinities[a])):
        return False
    weld_a, weld_b = int(model.body_weldid[body_a]), int(model.body_weldid[body_b])
    if weld_a == weld_b:
        return False
    parents = int(model.body_weldid[model.body_parentid[weld_a]]), int(model.body_weldid[model.body_parentid[weld_b]])
    return weld_b == 0 or weld_a == 0 or (parents[0] != weld_b and parents[1] != weld_a)


def _points(model: mujoco.MjModel, geom: int) -> int:
    kind = mujoco.mjtGeom(int(model.geom_type[geom])).name.removeprefix("mjGEOM_")
    return _POINTS.get(kind, 8)


def _rows_per_contact(model: mujoco.MjModel) -> int:
    condim = int(model.geom_condim.max()) if model.ngeom else 1
    pyramidal = int(model.opt.cone) == int(mujoco.mjtCone.mjCONE_PYRAMIDAL)
    return max(1, 2 * (condim - 1)) if pyramidal else condim


def _round_up(n: int, multiple: int = 8) -> int:
    return max(multiple, -(-n // multiple) * multiple)
