"""Physics in Isaac Lab 3: N copies of a robot, the same MJCF as in the other backends.

Joint targets are servos inside the solver, as in ``mujoco_cpu``: Isaac's implicit actuators, whose gains and limits are
those commanded. What a copy feels through forces (acceleration, foot contact, effort) is that of its last substep, and
zero right after its reset.

Isaac Lab's quaternions are xyzw, as ours. Its joints have an order of their own; they are matched by name here and
nowhere else. Numbers are float32.

Knows: Isaac Lab's articulation and sensors. Does not know: how the scene is built, tasks, rewards.

Shapes: N environments · J joints (robot order) · M motors (J less passive joints) · F feet.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robot_rl.contract.arrays import Array, rotate_inverse
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.addresses import CONTACT_N, find_addresses
from robot_rl.sim.isaac_model import IsaacModel
from robot_rl.sim.isaac_scene import open_scene
from robot_rl.sim.physics import check_ids
from robot_rl.sim.picture import Picture
from robot_rl.sim.scene import build_model

POSE, TWIST = ("base_pos_w", "quat_xyzw"), ("lin_vel_w", "ang_vel_b")
JOINTS = ("joint_pos", "joint_vel")


class IsaacLab:
    """The Isaac Lab backend of ``Physics``; see the protocol for the meaning of each method."""

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        *,
        scene: str = "flat",
        engine: str = "newton",
        device: str = "",
        numpy: bool = False,
    ) -> None:
        """Build the scene, and compile the kernels where Warp's cache lacks them (minutes, once per machine).

        Args:
            robot: Whose MJCF is simulated.
            num_envs: N.
            scene: A file of ``sim/scenes``.
            engine: ``newton``, or ``physx``, which needs Isaac Sim and has never been run here.
            device: ``cuda:0`` …, or ``cpu``; by default the GPU where there is one.
            numpy: Whether NumPy comes out, for worlds on the host.

        Raises:
            ImportError: Isaac Lab is not installed; the cure is named.
            ValueError: The engine does not know something in the model.
            RuntimeError: Another one is open: Isaac Lab simulates one scene at a time in a process.
        """
        self.robot, self.num_envs, self.numpy = robot, num_envs, numpy
        self.model = build_model(robot, scene)
        self.dt_s = float(self.model.opt.timestep)
        self._at = find_addresses(self.model, robot)
        self._isaac = open_scene(robot, self.model, num_envs, scene=scene, engine=engine, device=device)
        self.device = torch.device(self._isaac.device)
        self._picture = Picture(self.model, floating_base=robot.floating_base)
        self._index()
        self._own = IsaacModel(self._isaac, self.model, robot, self._at, engine=engine)
        self._strength = torch.ones(num_envs, len(robot.joints), device=self.device)
        self._gains: tuple[Tensor, Tensor] | None = None
        self._time = torch.zeros(num_envs, device=self.device)
        self._felt = torch.zeros(num_envs, 1, device=self.device)
        self._rest = self._resting(np.arange(num_envs))
        self.apply(self._rest)
        self._write_limits()
        self.reset(np.arange(num_envs))

    # -- the protocol --

    def state(self) -> RobotState:
        """Return exact measurements, each (N, ...), float32, fresh arrays."""
        n, robot, data = self.num_envs, self.robot, self._isaac.robot.data
        floating = robot.floating_base
        effort = self._zeros(n, len(robot.joints))
        effort[:, self._motors] = self._felt * self._isaac.robot.actuators.applied_effort.torch[:, self._motor_columns]
        pose = data.root_link_pose_w.torch
        quat = pose[:, 3:7].clone() if floating else self._take([0.0, 0.0, 0.0, 1.0]).repeat(n, 1)
        rest = self._take([0.0, 0.0, 9.81]).repeat(n, 1)
        state = RobotState(
            stamp_s=self._time.clone(),
            joint_pos=data.joint_pos.torch[:, self._columns],
            joint_vel=data.joint_vel.torch[:, self._columns],
            joint_effort=effort,
            quat_xyzw=quat,
            ang_vel_b=data.root_link_ang_vel_b.torch.clone() if floating else self._zeros(n, 3),
            lin_acc_b=self._felt * self._isaac.imu.data.lin_acc_b.torch if floating else rest,
            command=self._zeros(n, 0),
            last_action=self._zeros(n, 0),
        )
        if floating:
            state.base_pos_w = pose[:, :3].clone()
            state.lin_vel_b = data.root_link_lin_vel_b.torch.clone()
        if robot.feet:
            state.foot_contact = (self._forces() > CONTACT_N).float()
        return _as_numpy(state) if self.numpy else state

    def apply(self, target: JointTarget) -> None:
        """Set the targets of all copies; gains are rewritten only where they changed."""
        pos, vel, ff = self._take(target.pos), self._take(target.vel), self._take(target.effort_ff)
        kp, kd = self._take(target.stiffness), self._take(target.damping)
        if self._gains is None or not (torch.equal(kp, self._gains[0]) and torch.equal(kd, self._gains[1])):
            self._gains = kp.clone(), kd.clone()
            self._write_gains()
        # A feed-forward force goes through the servo, so that the motor's limit holds for the sum of both.
        push = kd * vel + ff
        none = torch.zeros_like(push)
        through_vel = torch.where(kd > 0, push / torch.where(kd > 0, kd, 1.0), none)
        through_pos = torch.where((kd <= 0) & (kp > 0), push / torch.where(kp > 0, kp, 1.0), none)
        limit = self._effort * self._strength
        alone = torch.where((kd <= 0) & (kp <= 0), (push * self._strength).clamp(-limit, limit), none)
        self._command(slice(None), pos + through_pos, through_vel, alone)

    def step(self, substeps: int) -> None:
        """Advance all copies by ``substeps`` of ``dt_s``.

        Raises:
            RuntimeError: A copy had more contacts or constraints than the engine's buffers hold.
        """
        sim, scene = self._isaac.sim, self._isaac.scene
        for i in range(substeps):
            if i in (0, substeps - 1):  # targets do not change between; the last one measures the effort
                scene.write_data_to_sim()
            sim.step(render=False)
            scene.update(self.dt_s)
        if substeps > 0:
            self._isaac.check_capacity()
            self._time += substeps * self.dt_s
            self._felt.fill_(1.0)

    def reset(self, ids: Array, state: dict[str, Array] | None = None) -> None:
        """Put copies ``ids`` into the default pose, or into the parts of ``state`` that are given."""
        ids = check_ids(_host(ids), self.num_envs)
        given = {name: self._take(value) for name, value in (state or {}).items()}
        choices = [*JOINTS, *((*POSE, *TWIST) if self.robot.floating_base else ())]
        for name in given:
            if name not in choices:
                raise ValueError(f"no state {name!r} to reset on robot {self.robot.name!r}; the choices are {choices}")
        if not ids.size:
            return
        rows = torch.as_tensor(ids, device=self.device)
        self._isaac.scene.reset(rows)
        pos = given.get("joint_pos", self._default_pos.repeat(len(ids), 1))
        vel = given.get("joint_vel", torch.zeros_like(pos))
        self._isaac.robot.write_joint_state_to_sim_index(
            position=self._to_isaac(pos), velocity=self._to_isaac(vel), env_ids=rows
        )
        if self.robot.floating_base:
            self._place_base(rows, given)
        blank = torch.zeros_like(pos)
        self._command(rows.long(), pos, blank, blank)
        self._time[rows.long()], self._felt[rows.long()] = 0.0, 0.0

    def randomize(self, ids: Array, name: str, value: Array) -> None:
        """Set one physical parameter of copies ``ids``; see ``RANDOMIZABLE``."""
        rows, value = torch.as_tensor(check_ids(_host(ids), self.num_envs), device=self.device), self._take(value)
        if name == "motor_strength":
            self._strength[rows.long()] = value
            self._write_gains()
            self._write_limits()
        elif name == "joint_damping":
            self._own.set_damping(rows, value)
        elif name in ("push_lin_vel_w", "push_ang_vel_b"):
            self._push(rows, name, value)
        else:
            self._own.set(rows, name, value)

    def frame(self, index: int = 0, width: int = 640, height: int = 480) -> np.ndarray:
        """Draw copy ``index`` with MuJoCo's renderer, uint8 RGB (height, width, 3)."""
        return self._picture.draw(self.copy(index), width, height)

    def copy(self, index: int = 0, data: Any = None) -> Any:
        """Return copy ``index`` as ``MjData`` of ``model``, everything derived from its state; for viewers."""
        data, robot = data or mujoco.MjData(self.model), self._isaac.robot.data
        columns = self._columns.cpu().numpy()
        data.qpos[self._at.qpos] = robot.joint_pos.torch[index].cpu().numpy()[columns]
        if self.robot.floating_base:
            pose = robot.root_link_pose_w.torch[index].cpu().numpy()
            data.qpos[:7] = pose[[0, 1, 2, 6, 3, 4, 5]]  # MuJoCo's quaternion is wxyz
        mujoco.mj_forward(self.model, data)
        return data

    def close(self) -> None:
        """End the simulation; another one can then be built in this process."""
        self._picture.close()
        self._isaac.close()

    @property
    def foot_pos_w(self) -> Array:
        """World positions of the feet [m], (N, F, 3), a fresh array; privileged."""
        x = self._own.foot_pos_w()
        return x.cpu().numpy() if self.numpy else x

    @property
    def foot_force(self) -> Array:
        """Normal force on each foot in the last substep [N], (N, F), a fresh array; privileged."""
        x = self._forces()
        return x.cpu().numpy() if self.numpy else x

    # -- set-up --

    def _index(self) -> None:
        """Find the robot's joints among Isaac's."""
        theirs = list(self._isaac.robot.joint_names)
        if sorted(theirs) != sorted(self.robot.joints):
            raise ValueError(f"Isaac Lab finds the joints {theirs}; robot {self.robot.name!r} has {self.robot.joints}")
        index = lambda x: torch.tensor(x, dtype=torch.long, device=self.device)
        self._columns = index([theirs.index(joint) for joint in self.robot.joints])
        self._inverse = index([self.robot.joints.index(joint) for joint in theirs])
        self._motors = index(list(map(int, self._at.motor_joint)))
        self._motor_columns = self._columns[self._motors]
        self._motor_ids = self._motor_columns.to(torch.int32)
        self._default_pos, self._effort = self._take(self.robot.default_pos), self._take(self.robot.effort)

    def _resting(self, ids: np.ndarray) -> JointTarget:
        full = lambda x: self._take(x).repeat(len(ids), 1)
        blank = self._zeros(len(ids), len(self.robot.joints))
        return JointTarget(
            full(self.robot.default_pos), blank, blank, full(self.robot.stiffness), full(self.robot.damping)
        )

    # -- details --

    def _command(self, rows: Any, pos: Tensor, vel: Tensor, effort: Tensor) -> None:
        """Put servo targets of copies ``rows``, in robot order, where Isaac's actuators read them."""
        command = self._isaac.robot.actuators.target_command
        for buffer, value in ((command.position, pos), (command.velocity, vel), (command.effort, effort)):
            buffer.torch[rows] = self._to_isaac(value)

    def _write_gains(self) -> None:
        """Put kp and kd times each motor's strength into the solver."""
        assert self._gains is not None, "apply comes first"
        robot, (kp, kd) = self._isaac.robot, self._gains
        take = lambda x: (x * self._strength)[:, self._motors].contiguous()
        robot.write_joint_stiffness_to_sim_index(stiffness=take(kp), joint_ids=self._motor_ids)
        robot.write_joint_damping_to_sim_index(damping=take(kd), joint_ids=self._motor_ids)

    def _write_limits(self) -> None:
        """Put the torque limits times each motor's strength into the solver."""
        limits = (self._effort * self._strength)[:, self._motors].contiguous()
        self._isaac.robot.write_joint_effort_limit_to_sim_index(limits=limits, joint_ids=self._motor_ids)

    def _place_base(self, rows: Tensor, given: dict[str, Tensor]) -> None:
        n = len(rows)
        pose, twist = self._zeros(n, 7), self._zeros(n, 6)
        pose[:, 2], pose[:, 6] = self.robot.default_height_m, 1.0
        for name, value, part in (("base_pos_w", pose, slice(0, 3)), ("quat_xyzw", pose, slice(3, 7))):
            if name in given:
                value[:, part] = given[name]
        if "lin_vel_w" in given:
            twist[:, :3] = given["lin_vel_w"]
        if "ang_vel_b" in given:
            twist[:, 3:] = _rotate(pose[:, 3:], given["ang_vel_b"])
        self._isaac.robot.write_root_link_pose_to_sim_index(root_pose=pose, env_ids=rows)
        self._isaac.robot.write_root_link_velocity_to_sim_index(root_velocity=twist, env_ids=rows)

    def _push(self, rows: Tensor, name: str, value: Tensor) -> None:
        data = self._isaac.robot.data
        twist = data.root_link_vel_w.torch[rows.long()].clone()
        if name == "push_lin_vel_w":
            twist[:, :3] += value
        else:
            twist[:, 3:] += _rotate(data.root_link_pose_w.torch[rows.long(), 3:7], value)
        self._isaac.robot.write_root_link_velocity_to_sim_index(root_velocity=twist, env_ids=rows)

    def _forces(self) -> Tensor:
        """Normal force on each foot, (N, F): on one flat ground the sum over its contacts."""
        forces = [foot.data.net_normal_forces_w.torch.sum(dim=1) for foot in self._isaac.feet]
        return torch.stack([x.norm(dim=-1) for x in forces], dim=1) * self._felt

    def _to_isaac(self, x: Tensor) -> Tensor:
        """Return (..., J) in Isaac's order of joints."""
        return x[..., self._inverse].contiguous()

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.device)

    def _take(self, x: Array) -> Tensor:
        if isinstance(x, Tensor):
            return x.to(self.device, torch.float32)
        return torch.tensor(np.asarray(x, dtype=np.float32), device=self.device)  # copies: constants are read-only


def _rotate(quat_xyzw: Tensor, v: Tensor) -> Tensor:
    """Rotate body vectors (..., 3) into the world."""
    return rotate_inverse(torch.cat((-quat_xyzw[..., :3], quat_xyzw[..., 3:]), dim=-1), v)


def _host(ids: Array) -> Array:
    return ids.cpu().numpy() if isinstance(ids, Tensor) else ids


def _as_numpy(state: RobotState) -> RobotState:
    """Return the state in NumPy, on the memory of its tensors where they are on the CPU."""
    values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    return RobotState(**{name: x.cpu().numpy() if isinstance(x, Tensor) else x for name, x in values.items()})
