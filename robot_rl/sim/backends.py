"""The physics backends by name, each imported when it is asked for.

Knows: which name means which file. Does not know: engines, tasks beyond robot, scene and terrain.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.actuator import Motors
from robot_rl.sim.display import choose_gl
from robot_rl.sim.physics import Physics
from robot_rl.sim.task import Task


def make_physics(task: Task, *, num_envs: int, physics: str = "mujoco_cpu", threads: int = 0) -> Physics:
    """Build N copies of the task's robot in its scene, on its terrain.

    Args:
        task: Names robot, scene and terrain.
        num_envs: N.
        physics: One of ``PHYSICS``.
        threads: Of a CPU backend, 0 is one per CPU.

    Raises:
        ValueError: There is no such backend, or it has no tools and objects, or no cameras; the choices are listed.
        ImportError: Its engine is not installed; the cure is named.
    """
    check_physics(physics)
    if physics not in WITH_OBJECTS and (task.objects or any(name.startswith("tool_") for name in task.obs)):
        raise ValueError(
            f"task {task.name!r} reads the poses of a tool or of the objects {list(task.objects)}, which physics "
            f"{physics!r} does not tell; the choices are {list(WITH_OBJECTS)}"
        )
    if task.cameras and physics not in WITH_CAMERAS:
        raise ValueError(
            f"task {task.name!r} sees through the cameras {[term.name for term in task.cameras]}, which physics "
            f"{physics!r} does not render; the choices are {list(WITH_CAMERAS)}"
        )
    return _BUILDERS[physics](load_robot(task.robot), num_envs, task, threads)


def check_physics(name: str) -> None:
    """Raise ValueError with the choices where there is no backend called ``name``."""
    if name not in PHYSICS:
        raise ValueError(f"no physics backend {name!r}; the choices are {PHYSICS}")


def check_installed(name: str) -> None:
    """Raise ImportError with the cure where the engine of the backend ``name`` is not installed."""
    check_physics(name)
    if name == "mujoco_cpu":
        _import_mujoco_cpu()
    elif name == "mujoco_gpu":
        import_module("robot_rl.sim.warp_batch").import_engine()
    else:
        import_module("robot_rl.sim.isaac_scene").check_engine("physx" if name == "isaac_physx" else "newton")


def _import_mujoco_cpu() -> None:
    try:
        import_module("robot_rl.sim.mujoco_cpu")
    except ModuleNotFoundError as error:
        if error.name != "mujoco.batch":
            raise
        raise ImportError(
            "physics 'mujoco_cpu' needs MuJoCo 3.17 or newer (pip install 'robot-rl[sim]'), Isaac Lab an older one: "
            "`robot-rl eval` runs each in an environment of its own, --python mujoco_cpu=PYTHON (docs/isaac.md)"
        ) from error


def _mujoco_cpu(robot: Robot, num_envs: int, task: Task, threads: int) -> Physics:
    if task.cameras:
        choose_gl()
    _import_mujoco_cpu()
    from robot_rl.sim.mujoco_cpu import MujocoCpu

    motors = Motors(task.torque_speed, task.delay_substeps[1])
    return MujocoCpu(
        robot,
        num_envs,
        scene=task.scene,
        terrain=task.terrain,
        motors=motors,
        objects=task.objects,
        threads=threads,
    )


def _mujoco_gpu(robot: Robot, num_envs: int, task: Task, threads: int) -> Physics:
    from robot_rl.sim.mujoco_gpu import MujocoGpu

    motors = Motors(task.torque_speed)
    return MujocoGpu(robot, num_envs, scene=task.scene, terrain=task.terrain, motors=motors, numpy=True)


def _isaac(robot: Robot, num_envs: int, task: Task, threads: int) -> Physics:
    return _isaac_lab(robot, num_envs, task, "newton")


def _isaac_physx(robot: Robot, num_envs: int, task: Task, threads: int) -> Physics:
    return _isaac_lab(robot, num_envs, task, "physx")


def _isaac_lab(robot: Robot, num_envs: int, task: Task, engine: str) -> Physics:
    from robot_rl.sim.isaac import IsaacLab

    for what, asked in (("rough ground", task.terrain is not None), ("a torque-speed line", task.torque_speed)):
        if asked:
            raise ValueError(f"task {task.name!r} has {what}, which the isaac backend has not; use a mujoco backend")
    return IsaacLab(robot, num_envs, scene=task.scene, engine=engine, numpy=True)


_BUILDERS: dict[str, Callable[[Robot, int, Task, int], Physics]] = {
    "mujoco_cpu": _mujoco_cpu,
    "mujoco_gpu": _mujoco_gpu,
    "isaac": _isaac,
    "isaac_physx": _isaac_physx,
}
PHYSICS = tuple(_BUILDERS)
"""Backends that ``make_physics`` builds."""
WITH_OBJECTS = ("mujoco_cpu",)
"""Those of them that know a task's objects and a robot's tool."""
WITH_CAMERAS = ("mujoco_cpu",)
"""Those of them that render a robot's cameras."""
