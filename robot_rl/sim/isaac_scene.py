"""One robot in one scene, N times, in Isaac Lab 3: its simulation context, scene, articulation and sensors.

Newton with the MuJoCo Warp solver simulates; it takes its options from the MJCF, so that the model is the one that
``mujoco_cpu`` simulates. PhysX, by the name ``isaac_physx``, is Isaac Sim's: it has never been run here.
Isaac Lab allows one simulation context in a process, so there is one scene at a time.

Knows: Isaac Lab's configuration, what has to be installed. Does not know: states, targets, randomisation.
"""

# Isaac Lab is installed in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import logging
import sys
from dataclasses import dataclass
from typing import Any

import mujoco

from robot_rl.hardware.robot import Robot
from robot_rl.sim.capacity import estimate_capacity
from robot_rl.sim.isaac_usd import Asset, robot_usd, scene_usd

CURE = (
    "Isaac backend needs Isaac Lab 3.0, in an environment of its own with Python 3.12: "
    "pip install 'robot-rl[isaac]' (`make test-isaac` makes one for tests; docs/isaac.md)"
)
PHYSX_CURE = "physics 'isaac_physx' needs Isaac Sim beside Isaac Lab; docs/isaac.md has the install line"
ENGINES = ("newton", "physx")
INTEGRATORS = {
    mujoco.mjtIntegrator.mjINT_EULER: "euler",
    mujoco.mjtIntegrator.mjINT_RK4: "rk4",
    mujoco.mjtIntegrator.mjINT_IMPLICITFAST: "implicitfast",
}
CONES = {mujoco.mjtCone.mjCONE_PYRAMIDAL: "pyramidal", mujoco.mjtCone.mjCONE_ELLIPTIC: "elliptic"}
SOLVERS = {mujoco.mjtSolver.mjSOL_CG: "cg", mujoco.mjtSolver.mjSOL_NEWTON: "newton"}
MIN_CONSTRAINTS = 64
"""Constraint rows a copy has at least; fewer save nothing."""


@dataclass(frozen=True, slots=True)
class IsaacScene:
    """What Isaac Lab built."""

    sim: Any
    """``isaaclab.sim.SimulationContext``."""
    scene: Any
    """``isaaclab.scene.InteractiveScene``."""
    robot: Any
    """``isaaclab.assets.Articulation``."""
    imu: Any
    """``isaaclab.sensors.Imu``; None on a fixed base."""
    feet: tuple[Any, ...]
    """One ``isaaclab.sensors.ContactSensor`` per foot, in the robot's order."""
    device: str
    overflow: Any = None
    """MuJoCo Warp's bits of full buffers, (N,), a view; None with PhysX, whose buffers grow."""
    too_small: int = 0
    """Those of the bits that mean forces which were dropped."""

    def check_capacity(self) -> None:
        """Raise RuntimeError where a copy had more contacts or constraints than the buffers hold."""
        if self.overflow is None:
            return
        full = (self.overflow & self.too_small) != 0
        if bool(full.any()):
            raise RuntimeError(
                f"{int(full.sum())} of {len(full)} copies made more contacts or constraints than the buffers hold, "
                "so that forces were dropped: sim/capacity.py estimates too little for this scene"
            )

    def close(self) -> None:
        """End the simulation, unless another one has taken its place."""
        context = type(self.sim)
        if context.instance() is self.sim:
            context.clear_instance()


def open_scene(
    robot: Robot, model: mujoco.MjModel, num_envs: int, *, scene: str, engine: str, device: str
) -> IsaacScene:
    """Build N copies of ``robot`` in ``scene`` and start the simulation.

    Args:
        robot: Whose MJCF is converted.
        model: The same MJCF in the same scene, compiled: solver options and names.
        num_envs: N.
        scene: A file of ``sim/scenes``.
        engine: One of ``ENGINES``.
        device: ``cuda:0`` …, or ``cpu``; "" is the GPU where there is one.

    Raises:
        ImportError: Isaac Lab, or Isaac Sim for PhysX, is not installed; the cure is named.
        ValueError: There is no such engine, or it does not know something in the model.
        RuntimeError: Another scene is open in this process.
    """
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r} in the isaac backend; the choices are {ENGINES}")
    check_engine(engine)
    from isaaclab.scene import InteractiveScene, InteractiveSceneCfg
    from isaaclab.sim import SimulationCfg, SimulationContext

    if SimulationContext.instance() is not None:
        raise RuntimeError("Isaac Lab simulates one scene at a time in a process; close() the one that is open first")
    device = device or _default_device()
    asset = robot_usd(robot, model)
    physics = _newton(model) if engine == "newton" else _physx()
    dt_s = float(model.opt.timestep)
    sim = SimulationContext(
        SimulationCfg(dt=dt_s, device=device, gravity=tuple(map(float, model.opt.gravity)), physics=physics)
    )
    try:
        config = InteractiveSceneCfg(num_envs=num_envs, env_spacing=0.0)  # copies do not touch: all stand at the origin
        for name, part in _parts(robot, model, asset, scene, engine).items():
            setattr(config, name, part)
        built = InteractiveScene(config)
        sim.reset()
        overflow, too_small = _finish_newton(sim, model) if engine == "newton" else (None, 0)
        feet = tuple(built[f"foot_{i}"] for i in range(len(robot.feet)))
        imu = built["imu"] if robot.floating_base else None
        return IsaacScene(sim, built, built["robot"], imu, feet, device, overflow, too_small)
    except BaseException:
        SimulationContext.clear_instance()
        raise


def check_engine(engine: str) -> None:
    """Raise ImportError where ``engine`` is not installed, and set what must be set before it is imported."""
    if importlib.util.find_spec("isaaclab") is None or importlib.util.find_spec("mujoco_usd_converter") is None:
        raise ImportError(CURE)
    if engine == "physx":
        if importlib.util.find_spec("isaacsim") is None:
            raise ImportError(PHYSX_CURE)
        return
    import warp as wp
    from isaaclab.utils.timer import Timer

    Timer.enable_display_output = False  # it prints how long each sensor took to build
    wp.config.log_level = max(wp.config.log_level, logging.WARNING)
    if "isaaclab_newton" not in sys.modules:
        wp.config.enable_backward = False  # kernels are compiled without gradients: half the time


def _default_device() -> str:
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _newton(model: mujoco.MjModel) -> Any:
    """Return Newton with the solver's options of the MJCF."""
    from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg

    option, capacity = model.opt, estimate_capacity(model)
    return NewtonCfg(
        solver_cfg=MJWarpSolverCfg(
            njmax=max(MIN_CONSTRAINTS, capacity.constraints),
            nconmax=capacity.contacts,
            iterations=int(option.iterations),
            ls_iterations=int(option.ls_iterations),
            solver=_known(SOLVERS, mujoco.mjtSolver(int(option.solver)), "solver"),
            integrator=_known(INTEGRATORS, mujoco.mjtIntegrator(int(option.integrator)), "integrator"),
            cone=_known(CONES, mujoco.mjtCone(int(option.cone)), "cone"),
            impratio=float(option.impratio),
            tolerance=float(option.tolerance),
            ccd_iterations=int(option.ccd_iterations),
        ),
    )


def _known(table: dict[Any, str], value: Any, what: str) -> str:
    if value not in table:
        raise ValueError(f"the isaac backend has no {what} {value.name}; the choices are {[k.name for k in table]}")
    return table[value]


def _finish_newton(sim: Any, model: mujoco.MjModel) -> tuple[Any, int]:
    """Carry over what Isaac Lab's configuration has no field for; return the bits of full buffers, and which count."""
    import warp as wp
    from mujoco_warp import OverflowType

    solver = sim.physics_manager._solver
    flag = int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP)
    solver.mjw_model.opt.disableflags |= flag & int(model.opt.disableflags)
    solver.mjw_model.opt.ls_tolerance.fill_(float(model.opt.ls_tolerance))
    solver.mjw_model.opt.warn_overflow = False  # the kernels would print, of spent iterations too; ``check_capacity``
    bits = OverflowType.NEFC | OverflowType.NJMAX_NNZ | OverflowType.BROADPHASE | OverflowType.NARROWPHASE
    return wp.to_torch(solver.mjw_data.overflow), int(bits | OverflowType.CCD | OverflowType.HFIELD)


def _physx() -> Any:
    """Start Isaac Sim and return PhysX."""
    from isaaclab.app import launch_simulation
    from isaaclab_physx.physics import PhysxCfg

    launch_simulation(PhysxCfg(), {"physics": "isaacsim_physx"}).__enter__()  # open until the process ends
    return PhysxCfg()


def _parts(robot: Robot, model: mujoco.MjModel, asset: Asset, scene: str, engine: str) -> dict[str, Any]:
    """Return the configurations of ground, robot, IMU and feet by their names in the scene."""
    import isaaclab.sim as sim_utils
    from isaaclab.assets import AssetBaseCfg
    from isaaclab.sensors import ContactSensorCfg, ImuCfg

    place = "{ENV_REGEX_NS}/Robot"
    parts: dict[str, Any] = {
        "ground": AssetBaseCfg(
            prim_path="/World/ground", spawn=sim_utils.UsdFileCfg(usd_path=str(scene_usd(scene).path))
        ),
        "robot": _articulation(robot, model, asset, place, engine),
    }
    if robot.floating_base:
        site = model.site(int(model.sensor("imu_acc").objid[0]))
        w, *xyz = (float(x) for x in site.quat)
        offset = ImuCfg.OffsetCfg(pos=tuple(map(float, site.pos)), rot=(*xyz, w))
        parts["imu"] = ImuCfg(prim_path=f"{place}/{asset.base}", offset=offset)
    for i, foot in enumerate(robot.feet):
        body = model.body(int(model.geom_bodyid[model.geom(foot).id])).name
        sensor = ContactSensorCfg(prim_path=f"{place}/.*/{body}")
        if engine == "newton":
            sensor.sensor_shape_prim_expr = [f"{place}/.*/{body}/{foot}"]
        parts[f"foot_{i}"] = sensor
    return parts


def _articulation(robot: Robot, model: mujoco.MjModel, asset: Asset, place: str, engine: str) -> Any:
    """Return the robot's configuration; gains are placeholders that make both halves of a servo, set at run time."""
    import isaaclab.sim as sim_utils
    from isaaclab.actuators import ImplicitActuatorCfg
    from isaaclab.assets import ArticulationCfg

    limits = dict(zip(robot.joints, robot.effort, strict=True))
    motors = ImplicitActuatorCfg(
        joint_names_expr=list(robot.actuated),
        stiffness=1.0,
        damping=1.0,
        joint_effort_limit={joint: limits[joint] for joint in robot.actuated},
    )
    spawn = sim_utils.UsdFileCfg(usd_path=str(asset.path))
    if engine == "physx":  # which does not read MuJoCo's attributes
        dof = {joint: int(model.joint(joint).dofadr[0]) for joint in robot.actuated}
        motors.armature = {joint: float(model.dof_armature[i]) for joint, i in dof.items()}
        motors.friction = {joint: float(model.dof_frictionloss[i]) for joint, i in dof.items()}
        motors.viscous_friction = {joint: float(model.dof_damping[i]) for joint, i in dof.items()}
        spawn.activate_contact_sensors = bool(robot.feet)
    height = robot.default_height_m if robot.floating_base else 0.0
    start = ArticulationCfg.InitialStateCfg(
        pos=(0.0, 0.0, height), joint_pos=dict(zip(robot.joints, robot.default_pos, strict=True))
    )
    return ArticulationCfg(prim_path=place, spawn=spawn, init_state=start, actuators={"motors": motors})
