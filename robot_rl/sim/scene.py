"""Put a robot's MJCF into a scene: one compiled MuJoCo model with the robot's solver options.

Knows: MJCF files, MuJoCo's model specification.
Does not know: tasks, batches.
"""

from __future__ import annotations

import mujoco

from robot_rl import zoo
from robot_rl.hardware.robot import Robot


def build_model(robot: Robot, scene: str = "flat") -> mujoco.MjModel:
    """Compile ``robot`` standing in the scene ``sim/scenes/<scene>.xml``, whose names get the prefix ``scene/``.

    Raises:
        ValueError: The scene does not exist, or a joint of the robot is missing in its MJCF.
    """
    spec = mujoco.MjSpec.from_file(str(robot.mjcf))
    world = mujoco.MjSpec.from_file(str(zoo.find("sim", f"scenes/{scene}.xml")))
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
