"""A robot's MJCF and a scene as USD, for Isaac Lab: converted once, then kept in the user's cache folder.

The conversion is mujoco-usd-converter's. Servos are taken out of the result: Isaac's actuator layer has the robot's
gains and limits, and a second servo in the asset would double them. In USD a joint, a geom and a child body of one body
share their names' room, in MJCF not; where two names meet, the geom gives way.
MuJoCo's collision bits have no counterpart in USD, so a robot whose own bodies may touch one another is refused.

Knows: MJCF, USD, where the cache is. Does not know: Isaac Lab, states.
"""

# The converter and USD come with Isaac Lab, in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco

from robot_rl import zoo
from robot_rl.hardware.robot import Robot

RECIPE = "3: actuators and sites removed, no contact within the robot, joints and bodies named as in the MJCF"
"""What is done to the converter's result; part of the key, so change it with the code."""
SHAPES = {mujoco.mjtGeom.mjGEOM_HFIELD: "a height field", mujoco.mjtGeom.mjGEOM_SDF: "a signed distance field"}
"""Geoms that the converter leaves out."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One USD file."""

    path: Path
    base: str
    """Path of the articulation's root body below the default prim, e.g. ``Geometry/base``; "" in a scene."""


def robot_usd(robot: Robot, model: mujoco.MjModel) -> Asset:
    """Return the robot as USD; ``model`` is its compiled MJCF, with or without a scene.

    Raises:
        ValueError: Two bodies of the robot may touch one another, or it has a part that USD has not.
    """
    _check(model, str(robot.mjcf))
    path = _converted(robot.mjcf)
    return Asset(path, _root(path))


def scene_usd(scene: str) -> Asset:
    """Return the scene ``sim/scenes/<scene>.xml`` as USD."""
    return Asset(_converted(zoo.find("sim", f"scenes/{scene}.xml")), "")


def cache_folder() -> Path:
    """Return where converted assets are kept: ``$XDG_CACHE_HOME/robot_rl/usd``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_rl" / "usd"


def _check(model: mujoco.MjModel, where: str) -> None:
    for i in range(model.ngeom):
        kind = SHAPES.get(mujoco.mjtGeom(int(model.geom_type[i])))
        if kind is not None:
            raise ValueError(
                f"{where} has {kind} (geom {model.geom(i).name!r}), which the isaac backend cannot convert"
            )
    lost = (
        ("equality constraints", model.neq),
        ("bodies with gravity compensation", int((model.body_gravcomp != 0).sum())),
    )
    for what, count in lost:
        if count:
            raise ValueError(
                f"{where} has {what} ({count}), which the isaac backend loses; use mujoco_cpu or mujoco_gpu"
            )
    pair = self_contact(model)
    if pair is not None:
        first, second = (model.geom(i).name or f"number {i}" for i in pair)
        raise ValueError(
            f"{where}: the geoms {first!r} and {second!r} of the robot may touch one another; the isaac backend wants "
            "robots that touch only their surroundings: give those geoms contype and conaffinity that do not match"
        )


def self_contact(model: mujoco.MjModel) -> tuple[int, int] | None:
    """Return two geoms of moving bodies that MuJoCo would let touch, or None; neighbours in the tree never do."""
    moving = [i for i in range(model.ngeom) if model.body_weldid[model.geom_bodyid[i]] != 0]
    for n, i in enumerate(moving):
        for j in moving[n + 1 :]:
            a, b = int(model.geom_bodyid[i]), int(model.geom_bodyid[j])
            neighbours = a == b or model.body_parentid[a] == b or model.body_parentid[b] == a
            bits = (model.geom_contype[i] & model.geom_conaffinity[j]) | (
                model.geom_contype[j] & model.geom_conaffinity[i]
            )
            if bits and not neighbours:
                return i, j
    return None


def _converted(mjcf: Path) -> Path:
    """Return the USD of ``mjcf`` from the cache, converted first where it is not there."""
    import mujoco_usd_converter

    key = _key(mjcf, mujoco_usd_converter.__version__)
    found = cache_folder() / f"{mjcf.stem}-{key}.usdc"
    if found.exists():
        return found
    found.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=found.parent))
    try:
        converter = mujoco_usd_converter.Converter(layer_structure=False, scene=False)
        asset = Path(converter.convert(str(mjcf), str(folder)).path)
        _strip(asset)
        with asset.open("rb") as file:
            os.fsync(file.fileno())
        asset.replace(found)
    finally:
        shutil.rmtree(folder)
    return found


def _key(mjcf: Path, converter: str) -> str:
    """Hash all that the result depends on: the files beside the MJCF (meshes, includes), the converter, our recipe."""
    digest = hashlib.sha256(f"{RECIPE}\n{converter}\n{mujoco.__version__}\n".encode())
    for path in sorted(mjcf.parent.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(mjcf.parent)}\n{path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _strip(path: Path) -> None:
    """Remove servos, and sites, whose names may be those of geoms; let no two bodies of the robot touch."""
    from pxr import Sdf, Usd, UsdPhysics

    stage: Any = Usd.Stage.Open(str(path))
    for prim in list(stage.Traverse()):
        if prim.GetTypeName() == "MjcActuator" or "MjcSiteAPI" in prim.GetAppliedSchemas():
            stage.RemovePrim(prim.GetPath())
    for prim in stage.Traverse():
        if prim.HasAPI(UsdPhysics.ArticulationRootAPI):
            for name in ("newton:selfCollisionEnabled", "physxArticulation:enabledSelfCollisions"):
                prim.CreateAttribute(name, Sdf.ValueTypeNames.Bool).Set(False)
    _restore_names(stage)
    stage.GetRootLayer().Save()


def _restore_names(stage: Any) -> None:
    """Give joints and bodies that the converter numbered, as in ``pole_1``, the names that geoms took from them."""
    from pxr import Sdf, Usd, UsdPhysics

    structural = lambda prim: prim.IsA(UsdPhysics.Joint) or prim.HasAPI(UsdPhysics.RigidBodyAPI)
    editor = Usd.NamespaceEditor(stage)

    def rename(prim: Any, name: str) -> None:
        if not (Sdf.Path.IsValidIdentifier(name) and editor.RenamePrim(prim, name) and editor.ApplyEdits()):
            raise ValueError(f"the MJCF has a part {name!r}, which USD cannot call so; give it another name")

    while numbered := [prim for prim in stage.Traverse() if structural(prim) and prim.GetDisplayName()]:
        prim = numbered[0]
        path, name = prim.GetPath(), prim.GetDisplayName()
        holder = prim.GetParent().GetChild(name)
        if holder and not structural(holder):
            rename(holder, f"{name}_geom")
        rename(stage.GetPrimAtPath(path), name)
        stage.GetPrimAtPath(path.ReplaceName(name)).ClearDisplayName()


def _root(path: Path) -> str:
    """Return the articulation's root body below the default prim."""
    from pxr import Usd, UsdPhysics

    stage: Any = Usd.Stage.Open(str(path))
    roots = [prim for prim in stage.Traverse() if prim.HasAPI(UsdPhysics.ArticulationRootAPI)]
    if len(roots) != 1:
        raise ValueError(f"{path} has {len(roots)} articulations; the isaac backend simulates one robot")
    return str(roots[0].GetPath().MakeRelativePath(stage.GetDefaultPrim().GetPath()))
