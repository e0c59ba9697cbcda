"""Put a robot's MJCF into a scene: one compiled MuJoCo model with the robot's solver options.

Rough ground takes the place of the scene's floor: a height field for the map, boxes for the level ground around it.

Knows: MJCF files, MuJoCo's model specification.
Does not know: tasks, batches.
"""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from robot_rl import zoo
from robot_rl.hardware.robot import Robot
from robot_rl.sim.actuator import Motors, fit_motors
from robot_rl.sim.object_model import add_objects
from robot_rl.sim.objects import Object
from robot_rl.sim.terrain import Relief, Terrain, make_relief

THICK_M = 1.0
"""Of the ground, under its lowest point [m]."""
AROUND_M = 200.0
"""Width of the level ground around a map [m]."""
EXTENT_M = 1.0
"""Of what is looked at; by default MuJoCo takes the whole map's and cuts off all that is nearer than 1 % of it [m]."""


def build_model(
    robot: Robot,
    scene: str = "flat",
    terrain: Terrain | None = None,
    motors: Motors | None = None,
    objects: Mapping[str, Object] | None = None,
) -> mujoco.MjModel:
    """Compile ``robot`` standing in the scene ``sim/scenes/<scene>.xml``, whose names get the prefix ``scene/``.

    With a ``terrain`` the planes of the scene make room for it; it gets the material of the first of them.
    ``motors`` that are no ideal servos bring actuators and buffers of their own; ``objects`` come behind the robot.

    Raises:
        ValueError: The scene does not exist, a joint of the robot is missing in its MJCF, or its motors lack numbers.
    """
    spec = mujoco.MjSpec.from_file(str(robot.mjcf))
    if motors is not None:
        fit_motors(spec, robot, motors)
    world = mujoco.MjSpec.from_file(str(zoo.find("sim", f"scenes/{scene}.xml")))
    if terrain is not None:
        lay_terrain(world, make_relief(terrain))
        spec.stat.extent = EXTENT_M
    if objects:
        add_objects(spec, robot, objects)
    spec.modelname = f"{robot.name} in {scene}"
    # The scene goes into the robot and not the other way round: names and physics options stay the robot's.
    spec.attach(world, prefix="scene/", frame=spec.worldbody.add_frame())
    for part in ("global_", "quality", "headlight", "map", "scale", "rgba"):
        setattr(spec.visual, part, getattr(world.visual, part))
    model = spec.compile()
    present = {model.joint(i).name for i in range(model.njnt)}
    missing = [joint for joint in robot.joints if joint not in present]
    if missing:
        raise ValueError(f"{robot.mjcf} lacks the joints {missing} of robot {robot.name!r}; it has {sorted(present)}")
    return model


def lay_terrain(world: mujoco.MjSpec, relief: Relief) -> None:
    """Replace the planes of ``world`` by the map and by level ground around it."""
    planes = [geom for geom in world.geoms if geom.type == mujoco.mjtGeom.mjGEOM_PLANE]
    surface = {
        "contype": planes[0].contype if planes else 1,
        "conaffinity": planes[0].conaffinity if planes else 1,
        "material": planes[0].material if planes else "",
    }
    if planes:
        surface["friction"] = np.array(planes[0].friction)
    for plane in planes:
        world.delete(plane)
    for light in world.lights:  # from the sun and not from a lamp over the middle of the map
        light.type, light.dir = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, np.array([0.8, 0.5, -0.5])
    heights, cell = relief.heights, relief.terrain.cell_m
    low, high = float(heights.min()), float(heights.max())
    half_y, half_x = (0.5 * cell * (count - 1) for count in heights.shape)
    world.add_hfield(
        name="terrain",
        nrow=heights.shape[0],
        ncol=heights.shape[1],
        size=[half_x, half_y, max(high - low, 1e-3), THICK_M],
        userdata=heights.ravel().tolist(),
    )
    world.worldbody.add_geom(
        name="terrain", type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="terrain", pos=[0.0, 0.0, low], **surface
    )
    for name, dx, dy in (("front", 1, 0), ("rear", -1, 0), ("left", 0, 1), ("right", 0, -1)):
        reach_x = AROUND_M if dx else half_x  # front and rear span the corners
        reach_y = AROUND_M if dy else half_y + 2.0 * AROUND_M
        world.worldbody.add_geom(
            name=f"around_{name}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[dx * (half_x + AROUND_M), dy * (half_y + AROUND_M), -THICK_M],
            size=[reach_x, reach_y, THICK_M],
            **surface,
        )
