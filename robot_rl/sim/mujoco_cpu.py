"""Physics on CPU threads: N copies of a robot in ``mujoco.batch``.

MuJoCo's quaternions are wxyz; they are turned to xyzw here and nowhere else. Joint targets are PD servos inside MuJoCo
(``position`` actuators), so nothing but C runs between substeps.

Knows: MuJoCo, one scene. Does not know: tasks, rewards, torch.

Shapes: N environments · J joints (robot order) · M motors (J less passive joints) · F feet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch

from robot_rl.contract.arrays import rotate_inverse
from robot_rl.contract.spec import ImageTerm
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot
from robot_rl.sim.actuator import Motors, delay_s, motor_limits
from robot_rl.sim.addresses import CONTACT_N, find_addresses
from robot_rl.sim.cameras import CameraViews
from robot_rl.sim.object_model import Workspace
from robot_rl.sim.objects import Object
from robot_rl.sim.physics import check_ids, unknown_parameter
from robot_rl.sim.picture import Picture
from robot_rl.sim.scene import build_model
from robot_rl.sim.terrain import Terrain

XYZW_TO_WXYZ = [3, 0, 1, 2]
OWN = (
    "actuator_gainprm", "actuator_biasprm", "actuator_forcerange", "actuator_delay", "jnt_actfrcrange", "body_ipos",
    "body_mass", "body_inertia", "dof_damping", "geom_friction",
)  # fmt: skip
"""Fields of the model that a copy may have for itself."""


class MujocoCpu:
    """The CPU backend of ``Physics``; see the protocol for the meaning of each method."""

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        *,
        scene: str = "flat",
        terrain: Terrain | None = None,
        motors: Motors | None = None,
        objects: Mapping[str, Object] | None = None,
        threads: int = 0,
    ) -> None:
        """Compile the scene and start ``threads`` threads (0: one per CPU); ideal servos by default."""
        self.robot = robot
        self.num_envs = num_envs
        self._motors = motors or Motors()
        self.max_delay = self._motors.max_delay
        self.model = build_model(robot, scene, terrain, self._motors, objects)
        self.dt_s = float(self.model.opt.timestep)
        self.batch = Batch(self.model, num_envs, nthread=threads)
        self._picture = Picture(self.model, floating_base=robot.floating_base)
        self._workspace = Workspace(self.model, self.batch, robot, objects or ())
        self._find_addresses()
        self._bind()
        self._gains = (np.asarray(robot.stiffness), np.asarray(robot.damping))
        self._limits = motor_limits(robot, self._motors)
        self._strength = np.ones((num_envs, len(self._motor_joint)))
        self._load = {"mass_scale": np.ones(num_envs), "payload_kg": np.zeros(num_envs)}
        self._write_gains()
        self._pushed = False
        self._rest = self._resting()
        self.delay(np.arange(num_envs), np.zeros(num_envs))
        self.reset(np.arange(num_envs))

    # -- the protocol --

    def state(self) -> RobotState:
        """Return exact measurements, each (N, ...), float64, fresh arrays."""
        n, robot = self.num_envs, self.robot
        effort = np.zeros((n, len(robot.joints)))
        effort[:, self._motor_columns] = self._felt[:, self._felt_columns]
        floating = robot.floating_base
        quat = np.zeros((n, 4))
        quat[:, :3], quat[:, 3] = (self._qpos[:, 4:7], self._qpos[:, 3]) if floating else (0.0, 1.0)
        state = RobotState(
            stamp_s=self._time[:, 0].copy(),
            joint_pos=self._qpos[:, self._qpos_columns].copy(),
            joint_vel=self._qvel[:, self._qvel_columns].copy(),
            joint_effort=effort,
            quat_xyzw=quat,
            ang_vel_b=self._qvel[:, 3:6].copy() if floating else np.zeros((n, 3)),
            lin_acc_b=self._sensors[:, self._acc].copy() if floating else np.tile([0.0, 0.0, 9.81], (n, 1)),
            command=np.zeros((n, 0)),
            last_action=np.zeros((n, 0)),
        )
        if floating:
            state.base_pos_w = self._qpos[:, :3].copy()
            state.lin_vel_b = rotate_inverse(state.quat_xyzw, self._qvel[:, :3])
        if robot.feet:
            state.foot_contact = (self._sensors[:, self._touch] > CONTACT_N).astype(np.float64)
        self._workspace.measure(state)
        return state

    def apply(self, target: JointTarget) -> None:
        """Set the targets of all copies; gains are rewritten only where they changed."""
        gains = _compact(target.stiffness), _compact(target.damping)
        if not (np.array_equal(gains[0], self._gains[0]) and np.array_equal(gains[1], self._gains[1])):
            self._gains = (np.array(gains[0]), np.array(gains[1]))
            self._write_gains()
        self._ctrl[:] = target.pos[..., self._motor_columns]
        push = gains[1] * _compact(target.vel) + _compact(target.effort_ff)
        pushed = bool(push.any())
        if pushed or self._pushed:  # a constant in the servo's law, so that the motor's limit holds for the sum
            self._bias[:, :, 0] = push[..., self._motor_joint] * self._strength
            self._pushed = pushed

    def step(self, substeps: int) -> None:
        """Advance all copies by ``substeps`` of ``dt_s`` on the threads."""
        self.batch.step(nstep=substeps, stage=self._workspace.stage)

    def reset(self, ids: np.ndarray, state: dict[str, np.ndarray] | None = None) -> None:
        """Put copies ``ids`` into the default pose, or into the parts of ``state`` that are given."""
        ids = check_ids(ids, self.num_envs)
        if ids.size == 0:
            return
        self.batch.state[ids] = self._rest
        self._bias[ids, :, 0] = 0.0
        for name, value in (state or {}).items():
            self._place(ids, name, np.asarray(value))
        self.batch.forward(np.unique(ids))

    def randomize(self, ids: np.ndarray, name: str, value: np.ndarray) -> None:
        """Set one physical parameter of copies ``ids``; see ``RANDOMIZABLE``."""
        ids, value = check_ids(ids, self.num_envs), np.asarray(value, dtype=float)
        if name in ("mass_scale", "payload_kg", "com_offset_m"):
            self._randomize_base(ids, name, value)
        elif name == "friction":
            friction = self.batch.expand("geom_friction")
            friction[ids[:, None], self._ground_geoms[None, :], 0] = value
        elif name == "motor_strength":
            self._strength[ids] = value[:, self._motor_joint]
            self._write_gains()
        elif name == "joint_damping":
            damping = self.batch.expand("dof_damping")
            damping[np.ix_(ids, self._qvel_adr)] = self.model.dof_damping[self._qvel_adr] * value
        elif name == "push_lin_vel_w":
            self._qvel[ids, :3] += value
        elif name == "push_ang_vel_b":
            self._qvel[ids, 3:6] += value
        else:
            raise unknown_parameter(name)

    def delay(self, ids: np.ndarray, substeps: np.ndarray) -> None:
        """Let position targets of copies ``ids`` act whole ``substeps`` late, (n,), at most ``max_delay``."""
        if self.max_delay:
            motors = len(self._motor_joint)
            self.batch.expand("actuator_delay")[ids, :motors] = delay_s(np.asarray(substeps), self.dt_s)[:, None]

    def frame(self, index: int = 0, width: int = 640, height: int = 480) -> np.ndarray:
        """Render copy ``index`` from a camera that follows it, uint8 RGB (height, width, 3)."""
        return self._picture.draw(self.copy(index), width, height)

    def copy(self, index: int = 0, data: Any = None) -> Any:
        """Return copy ``index`` as ``MjData`` of ``model``, everything derived from its state; for viewers."""
        data = self.batch.get_data(index, data)
        mujoco.mj_forward(self.model, data)
        return data

    def snapshot(self) -> dict[str, Any]:
        """Return state, solver's warm start and every copy's own parameters as a tree of arrays."""
        own = {name: self.batch.expanded(name) for name in OWN}
        fields = {name: values.copy() for name, values in own.items() if values is not None}
        load = {name: values.copy() for name, values in self._load.items()}
        return {"state": self.batch.state.copy(), "strength": self._strength.copy(), "load": load, "fields": fields}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned; measurements are whole after the next ``step``.

        Raises:
            ValueError: It is of another model or number of copies.
        """
        state = np.asarray(snapshot["state"])
        if state.shape != self.batch.state.shape:
            raise ValueError(f"the snapshot has states of shape {state.shape}; here they are {self.batch.state.shape}")
        for name, values in snapshot["fields"].items():
            self.batch.expand(name)[:] = values
        self.batch.set_const()
        self._strength[:] = snapshot["strength"]
        self._load = {name: np.array(values) for name, values in snapshot["load"].items()}
        self.batch.state[:] = state

    def views(self, terms: Sequence[ImageTerm]) -> CameraViews:
        """Return the robot's cameras named by ``terms``; they belong to the thread that asks."""
        return CameraViews(self, terms)

    def close(self) -> None:
        """Free the render context; the threads go with the batch."""
        self._picture.close()

    # -- set-up --

    def _find_addresses(self) -> None:
        at = find_addresses(self.model, self.robot)
        self._qpos_adr, self._qvel_adr, self._motor_joint = at.qpos, at.qvel, at.motor_joint
        self._qpos_columns, self._qvel_columns = _as_slice(at.qpos), _as_slice(at.qvel)
        self._motor_columns = _as_slice(at.motor_joint)
        self._acc, self._touch = _as_slice(at.acc), _as_slice(at.touch)
        self._feet, self._ground_geoms, self._base = at.feet, at.ground, at.base
        self._model_joint = at.model_joint

    def _bind(self) -> None:
        bind, motors = self.batch.bind, len(self._motor_joint)
        self._qpos, self._qvel, self._ctrl = bind("qpos"), bind("qvel"), bind("ctrl")[:, :motors]
        self._time, self._sensors = bind("time").reshape(self.num_envs, 1), bind("sensordata")
        self._geom_xpos = bind("geom_xpos")
        self._gain = self.batch.expand("actuator_gainprm")
        bias = self.batch.expand("actuator_biasprm")
        self._bias, self._line = bias[:, :motors], bias[:, motors:]
        self._force = self.batch.expand("actuator_forcerange")
        if self._motors.torque_speed:  # two actuators on a joint, and a limit on their sum
            self._felt, self._felt_columns = bind("qfrc_actuator"), _as_slice(self._qvel_adr[self._motor_joint])
            self._most = self.batch.expand("jnt_actfrcrange")
        else:
            self._felt, self._felt_columns, self._most = bind("actuator_force"), slice(None), None
        self._late = bind("history").reshape(self.num_envs, motors, -1) if self.max_delay else None

    def _resting(self) -> np.ndarray:
        """Return the state of a copy that rests in the default pose and is told to stay there, (S,)."""
        first = np.zeros(1, int)
        self.batch.reset(first, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self._qpos[0, self._qpos_adr] = self.robot.default_pos
        self._ctrl[0] = np.asarray(self.robot.default_pos)[self._motor_joint]
        if self.robot.floating_base:
            self._qpos[0, :7] = [0.0, 0.0, self.robot.default_height_m, 1.0, 0.0, 0.0, 0.0]
        if self._late is not None:
            past = self._late.shape[2] - self.max_delay - 1  # two numbers, then as many times, then the controls
            self._late[0, :, past:] = self._ctrl[0][:, None]
        return self.batch.state[0].copy()

    @property
    def foot_pos_w(self) -> np.ndarray:
        """World positions of the feet, one substep old [m], (N, F, 3); privileged."""
        return self._geom_xpos.take(self._feet, axis=1)

    @property
    def foot_force(self) -> np.ndarray:
        """Normal force on each foot after the last substep [N], (N, F); privileged."""
        return np.array(self._sensors[:, self._touch])

    # -- details --

    def _write_gains(self) -> None:
        """Put kp, kd and the torque limit, times each motor's strength, into the servos."""
        kp = np.broadcast_to(self._gains[0], (self.num_envs, len(self.robot.joints)))[:, self._motor_joint]
        kd = np.broadcast_to(self._gains[1], (self.num_envs, len(self.robot.joints)))[:, self._motor_joint]
        motors, limits = len(self._motor_joint), self._limits
        servo = limits.servo * self._strength
        self._gain[:, :motors, 0] = kp * self._strength
        self._bias[:, :, 1] = -kp * self._strength
        self._bias[:, :, 2] = -(kd - limits.slope) * self._strength
        self._force[:, :motors, 0], self._force[:, :motors, 1] = -servo, servo
        if self._most is not None:
            self._line[:, :, 2] = -limits.slope * self._strength
            most = limits.effort * self._strength
            self._most[:, self._model_joint, 0], self._most[:, self._model_joint, 1] = -most, most

    def _place(self, ids: np.ndarray, name: str, value: np.ndarray) -> None:
        if name == "joint_pos":
            self._qpos[_at(ids, self._qpos_columns)] = value
            self._ctrl[ids] = value[:, self._motor_joint]
        elif name == "joint_vel":
            self._qvel[_at(ids, self._qvel_columns)] = value
        elif name == "base_pos_w" and self.robot.floating_base:
            self._qpos[ids, :3] = value
        elif name == "quat_xyzw" and self.robot.floating_base:
            self._qpos[ids, 3:7] = value[:, XYZW_TO_WXYZ]
        elif name == "lin_vel_w" and self.robot.floating_base:
            self._qvel[ids, :3] = value
        elif name == "ang_vel_b" and self.robot.floating_base:
            self._qvel[ids, 3:6] = value
        elif not self._workspace.place(ids, name, value):
            choices = ["joint_pos", "joint_vel", "base_pos_w", "quat_xyzw", "lin_vel_w", "ang_vel_b"]
            choices += ["object_pos", "object_quat_xyzw"]
            raise ValueError(f"no state {name!r} to reset on robot {self.robot.name!r}; the choices are {choices}")

    def _randomize_base(self, ids: np.ndarray, name: str, value: np.ndarray) -> None:
        base, model = self._base, self.model
        if name == "com_offset_m":
            self.batch.expand("body_ipos")[ids, base] = model.body_ipos[base] + value
        else:
            mass = model.body_mass[base]
            self._load[name][ids] = value[:, 0]
            scale = (mass * self._load["mass_scale"][ids] + self._load["payload_kg"][ids]) / mass
            self.batch.expand("body_mass")[ids, base] = mass * scale
            self.batch.expand("body_inertia")[ids, base] = model.body_inertia[base] * scale[:, None]
        self.batch.set_const()


def _compact(x: np.ndarray) -> np.ndarray:
    """Return one row, (J,), of an array (N, J) whose rows are one and the same in memory, else ``x``."""
    return x[0] if x.ndim == 2 and x.strides[0] == 0 else x


def _at(ids: np.ndarray, columns: slice | np.ndarray) -> Any:
    """Return the index of ``columns`` of the rows ``ids``."""
    return (ids, columns) if isinstance(columns, slice) else np.ix_(ids, columns)


def _as_slice(columns: np.ndarray) -> slice | np.ndarray:
    """Return columns that follow one another as a slice, which NumPy copies faster."""
    first, n = int(columns[0]) if columns.size else 0, len(columns)
    return slice(first, first + n) if np.array_equal(columns, np.arange(first, first + n)) else columns
