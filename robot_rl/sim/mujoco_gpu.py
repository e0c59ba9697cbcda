"""Physics on a GPU: N copies of a robot in MuJoCo Warp, the same MJCF as on CPU.

All arrays are torch tensors that share memory with Warp's; nothing is copied between them. Conformance and parity are
tested on ``cpu``, which is for that; on ``cuda`` nothing has been run for want of a GPU.
Numbers are float32. MuJoCo's quaternions are wxyz; they are turned to xyzw here and nowhere else.

Knows: one scene, what a copy's parameters are in MuJoCo. Does not know: tasks, rewards.

Shapes: N environments · J joints (robot order) · M motors (J less passive joints) · F feet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robot_rl.contract.arrays import Array, rotate_inverse
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.actuator import Motors, motor_limits
from robot_rl.sim.addresses import CONTACT_N, find_addresses
from robot_rl.sim.capacity import Capacity, estimate_capacity
from robot_rl.sim.physics import check_ids, unknown_parameter
from robot_rl.sim.picture import Picture
from robot_rl.sim.scene import build_model
from robot_rl.sim.terrain import Terrain
from robot_rl.sim.warp_batch import WarpBatch, find_device

QUAT_XYZW = [4, 5, 6, 3]
"""Columns of a free joint's quaternion in ``qpos``, which holds it as wxyz."""
OWN = (
    "actuator_biasprm",
    "actuator_forcerange",
    "actuator_gainprm",
    "body_inertia",
    "body_invweight0",
    "body_ipos",
    "body_mass",
    "body_subtreemass",
    "dof_damping",
    "dof_invweight0",
    "geom_friction",
    "jnt_actfrcrange",
)
"""Fields of the model that every copy has its own of: what ``randomize`` changes and what follows from it."""


class MujocoGpu:
    """The MuJoCo Warp backend of ``Physics``; see the protocol for the meaning of each method."""

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        *,
        scene: str = "flat",
        terrain: Terrain | None = None,
        motors: Motors | None = None,
        device: str = "",
        numpy: bool = False,
        capacity: Capacity | None = None,
    ) -> None:
        """Compile the scene, and the kernels where Warp's cache lacks them (a minute, once per model and machine).

        Args:
            robot: Whose MJCF is simulated.
            num_envs: N.
            scene: A file of ``sim/scenes``.
            terrain: Rough ground in place of the scene's floor.
            motors: Ideal servos by default; late targets are left to the world.
            device: ``cuda``, ``cuda:1`` …, or ``cpu``; by default the GPU where there is one.
            numpy: Whether NumPy comes out, for worlds on the host; on ``cpu`` it shares the memory.
            capacity: Buffers per copy; estimated from the scene by default.

        Raises:
            ValueError: There is no such device, or MuJoCo Warp does not know something in the model.
        """
        self.robot, self.num_envs = robot, num_envs
        self.device, self.numpy = find_device(device), numpy
        self._motors = Motors(torque_speed=motors is not None and motors.torque_speed)
        self.model = build_model(robot, scene, terrain, self._motors)
        self.dt_s = float(self.model.opt.timestep)
        self.capacity = capacity or estimate_capacity(self.model)
        self._at = find_addresses(self.model, robot)
        self.batch = WarpBatch(self.model, num_envs, own=OWN, capacity=self.capacity, device=self.device)
        self._picture = Picture(self.model, floating_base=robot.floating_base)
        self._bind()
        self._index()
        self._strength = torch.ones(num_envs, len(self._at.motor_joint), device=self.device)
        ones = torch.ones(num_envs, 1, device=self.device)
        self._load = {"mass_scale": ones, "payload_kg": 0.0 * ones}
        self.apply(self._rest())
        self._write_limits()
        self.reset(np.arange(num_envs))

    # -- the protocol --

    def state(self) -> RobotState:
        """Return exact measurements, each (N, ...), float32, fresh arrays."""
        n, robot, blank = self.num_envs, self.robot, self._blank
        effort = blank(n, len(robot.joints))
        effort[:, self._motor_joint] = self._felt[:, self._felt_columns]
        floating = robot.floating_base
        quat = self._qpos[:, QUAT_XYZW] if floating else blank(n, 4)
        if not floating:
            quat[:, 3] = 1.0
        gravity = blank(n, 3)
        gravity[:, 2] = 9.81
        state = RobotState(
            stamp_s=self._time.clone(),
            joint_pos=self._qpos[:, self._qpos_adr],
            joint_vel=self._qvel[:, self._qvel_adr],
            joint_effort=effort,
            quat_xyzw=quat,
            ang_vel_b=self._qvel[:, 3:6].clone() if floating else blank(n, 3),
            lin_acc_b=self._sensors[:, self._acc] if floating else gravity,
            command=blank(n, 0),
            last_action=blank(n, 0),
        )
        if floating:
            state.base_pos_w = self._qpos[:, :3].clone()
            state.lin_vel_b = rotate_inverse(quat, self._qvel[:, :3])
        if robot.feet:
            state.foot_contact = (self._sensors[:, self._touch] > CONTACT_N).float()
        return _as_numpy(state) if self.numpy else state

    def apply(self, target: JointTarget) -> None:
        """Set the targets and gains of all copies, times each motor's strength."""
        kp, kd, pos = (self._take(x)[..., self._motor_joint] for x in (target.stiffness, target.damping, target.pos))
        push = self._take(target.damping) * self._take(target.vel) + self._take(target.effort_ff)
        self._ctrl[:] = pos
        self._bias[:, :, 0] = push[..., self._motor_joint] * self._strength  # in the servo's law: one limit for the sum
        self._gains = kp, kd
        self._write_gains()

    def step(self, substeps: int) -> None:
        """Advance all copies by ``substeps`` of ``dt_s``; RuntimeError where a buffer was too small."""
        self.batch.step(substeps)

    def reset(self, ids: Array, state: dict[str, Array] | None = None) -> None:
        """Put copies ``ids`` into the default pose, or into the parts of ``state`` that are given."""
        rows = self._rows(ids)
        if not len(rows):
            return
        for x in (self._time, self._qvel, self._warmstart):
            x[rows] = 0.0
        self._qpos[rows] = self._qpos0
        self._ctrl[rows] = self._default_pos[self._motor_joint]
        self._bias[rows, :, 0] = 0.0
        for name, value in (state or {}).items():
            self._place(rows, name, self._take(value))
        self._keeping_others(rows, self.batch.forward)

    def randomize(self, ids: Array, name: str, value: Array) -> None:
        """Set one physical parameter of copies ``ids``; see ``RANDOMIZABLE``."""
        rows, value = self._rows(ids), self._take(value)
        if name in ("mass_scale", "payload_kg", "com_offset_m"):
            self._randomize_base(rows, name, value)
        elif name == "friction":
            self._friction[rows[:, None], self._ground, 0] = value
        elif name == "motor_strength":
            self._strength[rows] = value[:, self._motor_joint]
            self._write_gains()
            self._write_limits()
        elif name == "joint_damping":
            self._damping[rows[:, None], self._qvel_adr] = self._damping0 * value
        elif name == "push_lin_vel_w":
            self._qvel[rows, :3] += value
        elif name == "push_ang_vel_b":
            self._qvel[rows, 3:6] += value
        else:
            raise unknown_parameter(name)

    def frame(self, index: int = 0, width: int = 640, height: int = 480) -> np.ndarray:
        """Render copy ``index`` as uint8 RGB (height, width, 3), on the host by MuJoCo's own renderer."""
        return self._picture.draw(self.copy(index), width, height)

    def copy(self, index: int = 0, data: Any = None) -> Any:
        """Return copy ``index`` as ``MjData`` of ``model``, everything derived from its state; for viewers."""
        data = mujoco.MjData(self.model) if data is None else data
        data.time = float(self._time[index])
        data.qpos[:], data.qvel[:] = self._qpos[index].cpu().numpy(), self._qvel[index].cpu().numpy()
        data.ctrl[:] = self._ctrl[index].cpu().numpy()
        mujoco.mj_forward(self.model, data)
        return data

    def close(self) -> None:
        """Free the graphs and the render context."""
        self.batch.close()
        self._picture.close()

    @property
    def foot_pos_w(self) -> Array:
        """World positions of the feet, one substep old [m], (N, F, 3); privileged."""
        x = self._geom_xpos[:, self._feet]
        return x.cpu().numpy() if self.numpy else x

    @property
    def foot_force(self) -> Array:
        """Normal force on each foot after the last substep [N], (N, F), a fresh array; privileged."""
        x = self._sensors[:, self._touch]
        return x.cpu().numpy() if self.numpy else x

    # -- set-up --

    def _bind(self) -> None:
        """Take views of the engine's arrays."""
        data, field = self.batch.data, self.batch.field
        motors, line = len(self._at.motor_joint), self._motors.torque_speed
        self._qpos, self._qvel, self._ctrl, self._time = (data(x) for x in ("qpos", "qvel", "ctrl", "time"))
        self._ctrl = self._ctrl[:, :motors]
        self._sensors, self._felt = data("sensordata"), data("qfrc_actuator" if line else "actuator_force")
        self._geom_xpos, self._warmstart = data("geom_xpos"), data("qacc_warmstart")
        self._gain, bias = field("actuator_gainprm")[:, :motors], field("actuator_biasprm")
        self._bias, self._line = bias[:, :motors], bias[:, motors:]
        self._force, self._friction = field("actuator_forcerange")[:, :motors], field("geom_friction")
        self._most = field("jnt_actfrcrange") if line else None
        self._mass, self._inertia, self._ipos = field("body_mass"), field("body_inertia"), field("body_ipos")
        self._damping = field("dof_damping")

    def _index(self) -> None:
        """Put indices and constants where the arrays are."""
        at, robot = self._at, self.robot
        index = lambda x: torch.as_tensor(np.asarray(x), dtype=torch.long, device=self.device)
        self._qpos_adr, self._qvel_adr, self._motor_joint = index(at.qpos), index(at.qvel), index(at.motor_joint)
        self._acc, self._touch, self._feet, self._ground = map(index, (at.acc, at.touch, at.feet, at.ground))
        self._places = {"joint_pos": (self._qpos, self._qpos_adr), "joint_vel": (self._qvel, self._qvel_adr)}
        if robot.floating_base:
            self._places["base_pos_w"] = self._qpos, index([0, 1, 2])
            self._places["quat_xyzw"] = self._qpos, index(QUAT_XYZW)
            self._places["lin_vel_w"] = self._qvel, index([0, 1, 2])
            self._places["ang_vel_b"] = self._qvel, index([3, 4, 5])
        self._model_joint = index(at.model_joint)
        line = self._motors.torque_speed
        self._felt_columns = self._qvel_adr[self._motor_joint] if line else slice(None)
        limits = motor_limits(robot, self._motors)
        self._effort, self._servo, self._slope = map(self._take, (limits.effort, limits.servo, limits.slope))
        self._default_pos = self._take(robot.default_pos)
        self._qpos0 = self._take(self.model.qpos0)
        if robot.floating_base:
            self._qpos0[:7] = self._take([0.0, 0.0, robot.default_height_m, 1.0, 0.0, 0.0, 0.0])
        self._qpos0[self._qpos_adr] = self._default_pos
        self._damping0 = self._damping[0, self._qvel_adr].clone()
        base = at.base
        self._base0 = self._mass[0, base].clone(), self._inertia[0, base].clone(), self._ipos[0, base].clone()

    def _rest(self) -> JointTarget:
        shape = self.num_envs, len(self.robot.joints)
        robot, zeros = self.robot, self._blank(*shape)
        stiffness, damping = (self._take(x).broadcast_to(shape) for x in (robot.stiffness, robot.damping))
        return JointTarget(self._default_pos.broadcast_to(shape), zeros, zeros, stiffness, damping)

    # -- details --

    def _keeping_others(self, rows: Tensor, work: Callable[[], None]) -> None:
        """Do work on all copies whose results only ``rows`` shall see."""
        measured = self._sensors, self._felt, self._geom_xpos
        kept = [x.clone() for x in measured]
        work()
        for x, old in zip(measured, kept, strict=True):
            old[rows] = x[rows]
            x.copy_(old)

    def _write_gains(self) -> None:
        """Put kp and kd times each motor's strength into the servos."""
        kp, kd = self._gains
        self._gain[:, :, 0], self._bias[:, :, 1] = kp * self._strength, -kp * self._strength
        self._bias[:, :, 2] = -(kd - self._slope) * self._strength

    def _write_limits(self) -> None:
        """Put the torque limits times each motor's strength into the servos."""
        servo, most = self._servo * self._strength, self._effort * self._strength
        self._force[:, :, 0], self._force[:, :, 1] = -servo, servo
        if self._most is not None:
            self._line[:, :, 2] = -self._slope * self._strength
            self._most[:, self._model_joint, 0], self._most[:, self._model_joint, 1] = -most, most

    def _place(self, rows: Tensor, name: str, value: Tensor) -> None:
        if name not in self._places:
            raise ValueError(
                f"no state {name!r} to reset on robot {self.robot.name!r}; the choices are {list(self._places)}"
            )
        array, columns = self._places[name]
        array[rows[:, None], columns] = value
        if name == "joint_pos":
            self._ctrl[rows] = value[:, self._motor_joint]

    def _randomize_base(self, rows: Tensor, name: str, value: Tensor) -> None:
        base, (mass, inertia, ipos) = self._at.base, self._base0
        if name == "com_offset_m":
            self._ipos[rows, base] = ipos + value
        else:
            self._load[name][rows] = value
            scale = (mass * self._load["mass_scale"][rows] + self._load["payload_kg"][rows]) / mass  # (n, 1)
            self._mass[rows, base] = mass * scale[:, 0]
            self._inertia[rows, base] = inertia * scale
        self._keeping_others(rows[:0], self.batch.set_const)

    def _blank(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.device)

    def _take(self, x: Array) -> Tensor:
        if isinstance(x, Tensor):
            return x.to(self.device, torch.float32)
        return torch.tensor(np.asarray(x, dtype=np.float32), device=self.device)  # copies: constants are read-only

    def _rows(self, ids: Array) -> Tensor:
        if isinstance(ids, Tensor):
            return ids.to(self.device, torch.long)
        return torch.as_tensor(check_ids(ids, self.num_envs), dtype=torch.long, device=self.device)


def _as_numpy(state: RobotState) -> RobotState:
    """Return the state in NumPy, on the memory of its tensors where they are on the CPU."""
    values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    return RobotState(**{name: x.cpu().numpy() if isinstance(x, Tensor) else x for name, x in values.items()})
