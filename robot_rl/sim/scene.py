"""Put a robot's MJCF into a scene: one compiled MuJoCo model with the robot's solver options.

Knows: MJCF files, MuJoCo's model specification.
Does not know: tasks, batches.
"""

from __future__ import annotations

import mujoco

from robot_rl import zoo
from robot_rl.hardware.robot import Robot


def build_model(robot: Robot, scene: str = "flat") -> mujoco.MjModel:
    """Compile ``robot`` standing in the scene ``sim/scenes/<scene>.xml``; the robot's physics options hold.

    Raises:
        ValueError: The scene does not exist, or a joint of the robot is missing in its MJCF.
    """
    world = mujoco.MjSpec.from_file(str(zoo.find("sim", f"scenes/{scene}.xml")))
    body = mujoco.MjSpec.from_file(str(robot.mjcf))
    world.modelname = f"{robot.name} in {scene}"
    for name in ("timestep", "integrator", "iterations", "ls_iterations", "cone", "solver", "disableflags", "impratio"):
        setattr(world.option, name, getattr(body.option, name))
    world.compiler.autolimits = True
    world.attach(body, prefix="", frame=world.worldbody.add_frame())
    model = world.compile()
    present = {model.joint(i).name for i in range(model.njnt)}
    missing = [joint for joint in robot.joints if joint not in present]
    if missing:
        raise ValueError(f"{robot.mjcf} lacks the joints {missing} of robot {robot.name!r}; it has {sorted(present)}")
    return model
