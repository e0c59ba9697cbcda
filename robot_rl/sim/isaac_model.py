"""What a copy is made of in Isaac Lab: its masses, frictions and dampings, and where its feet are.

Newton has one friction per shape, and the ground is one shape for all copies. A contact takes the larger friction of
its two shapes, as MuJoCo does, so the ground's own is put to zero here and every shape of a robot has at least the
ground's: contacts come out as if each copy had a ground of its own.

Knows: Isaac Lab's articulation, Newton's model of shapes. Does not know: states, targets.

Shapes: n copies named · F feet.
"""

# Isaac Lab is installed in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import mujoco
import numpy as np
import torch
from torch import Tensor

from robot_rl.contract.arrays import rotate_inverse
from robot_rl.hardware.robot import Robot
from robot_rl.sim.addresses import Addresses
from robot_rl.sim.isaac_scene import IsaacScene
from robot_rl.sim.physics import unknown_parameter


class IsaacModel:
    """The parameters of N copies as they were built, and their setters."""

    def __init__(self, isaac: IsaacScene, model: mujoco.MjModel, robot: Robot, at: Addresses, *, engine: str) -> None:
        """Find the base, the feet and the shapes, and remember their nominal values."""
        self._isaac, self._engine = isaac, engine
        data, bodies = isaac.robot.data, list(isaac.robot.body_names)
        self._base = bodies.index(model.body(at.base).name)
        self._mass = data.body_mass.torch[0, self._base].clone()
        self._inertia = data.body_inertia.torch[0, self._base].clone()  # (9,)
        self._com = data.body_com_pos_b.torch[0, self._base].clone()  # (3,)
        column = lambda x: torch.full((isaac.robot.num_instances, 1), x, device=isaac.device)
        self._base_mass = {"mass_scale": column(1.0), "payload_kg": column(0.0)}
        order = [robot.joints.index(joint) for joint in isaac.robot.joint_names]
        self._order = torch.tensor(order, dtype=torch.long, device=isaac.device)
        self._damping = data.joint_viscous_friction_coeff.torch[0].clone()  # (J,), Isaac's order
        owners = [model.body(int(model.geom_bodyid[i])).name for i in at.feet]
        self._foot_body = torch.tensor([bodies.index(name) for name in owners], dtype=torch.long, device=isaac.device)
        self._foot_offset = torch.tensor(model.geom_pos[at.feet].astype(np.float32), device=isaac.device)  # (F, 3)
        if engine == "newton":
            self._find_shapes(model, robot)

    def set(self, rows: Tensor, name: str, value: Tensor) -> None:
        """Set ``mass_scale``, ``payload_kg``, ``com_offset_m`` or ``friction`` of copies ``rows``.

        Raises:
            ValueError: There is no such parameter, or the engine cannot change it.
        """
        if name == "friction":
            self._set_friction(rows, value)
        elif name == "com_offset_m":
            self._isaac.robot.set_coms_index(
                coms=(self._com + value)[:, None].contiguous(), body_ids=[self._base], env_ids=rows
            )
        elif name in ("mass_scale", "payload_kg"):
            self._base_mass[name][rows.long()] = value
            scale, payload = (self._base_mass[x][rows.long()] for x in ("mass_scale", "payload_kg"))  # (n, 1)
            mass = self._mass * scale + payload
            self._isaac.robot.set_masses_index(masses=mass.contiguous(), body_ids=[self._base], env_ids=rows)
            inertia = self._inertia * (mass / self._mass)
            self._isaac.robot.set_inertias_index(
                inertias=inertia[:, None].contiguous(), body_ids=[self._base], env_ids=rows
            )
        else:
            raise unknown_parameter(name)

    def set_damping(self, rows: Tensor, factor: Tensor) -> None:
        """Multiply the nominal passive damping of every joint by ``factor``, (n, J) in robot order."""
        damping = (self._damping * factor[:, self._order]).contiguous()
        self._isaac.robot.write_joint_viscous_friction_coefficient_to_sim_index(
            joint_viscous_friction_coeff=damping, env_ids=rows
        )

    def foot_pos_w(self) -> Tensor:
        """World positions of the feet's geoms [m], (N, F, 3)."""
        pose = self._isaac.robot.data.body_link_pose_w.torch[:, self._foot_body]  # (N, F, 7)
        back = torch.cat((-pose[..., 3:6], pose[..., 6:7]), dim=-1)
        return pose[..., :3] + rotate_inverse(back, self._foot_offset)

    # -- details --

    def _find_shapes(self, model: mujoco.MjModel, robot: Robot) -> None:
        """Find the colliding shapes of each copy and of the ground, and give the ground's friction to the copies."""
        import warp as wp
        from newton import ShapeFlags

        newton = self._isaac.sim.physics_manager.get_model()
        self._mu = wp.to_torch(newton.shape_material_mu)  # (shapes,), shared memory
        world, flags = newton.shape_world.numpy(), newton.shape_flags.numpy()
        touches = (flags & int(ShapeFlags.COLLIDE_SHAPES)) != 0
        name = np.array([str(label).rpartition("/")[2] for label in newton.shape_label])
        of_copy = [np.flatnonzero((world == i) & touches) for i in range(self._isaac.robot.num_instances)]
        is_foot = np.array([x in robot.feet for x in name])
        rows = lambda keep: torch.tensor(
            np.array([[s for s in shapes if keep(s)] for shapes in of_copy], dtype=np.int64), device=self._isaac.device
        )
        self._feet, self._others = rows(lambda s: is_foot[s]), rows(lambda s: not is_foot[s])  # (N, ·)
        ground = torch.tensor(np.flatnonzero((world < 0) & touches), device=self._isaac.device)
        frictions = self._mu[ground]
        if len(frictions) and float(frictions.max() - frictions.min()) > 0.0:
            raise ValueError(
                f"the scene's geoms have frictions {sorted(set(frictions.tolist()))}; the isaac backend wants one"
            )
        least = float(frictions.max()) if len(frictions) else 0.0
        self._own_mu = self._mu[self._others].clone()
        self._mu[ground] = 0.0
        self._mu[self._feet] = self._mu[self._feet].clamp(min=least)
        self._mu[self._others] = self._own_mu.clamp(min=least)
        self._changed()

    def _set_friction(self, rows: Tensor, value: Tensor) -> None:
        if self._engine != "newton":
            raise ValueError(f"the engine {self._engine!r} of the isaac backend cannot randomise 'friction'")
        picked = rows.long()
        self._mu[self._feet[picked]] = value.expand(-1, self._feet.shape[1])
        self._mu[self._others[picked]] = torch.maximum(self._own_mu[picked], value)
        self._changed()

    def _changed(self) -> None:
        from newton import ModelFlags

        self._isaac.sim.physics_manager.add_model_change(ModelFlags.SHAPE_PROPERTIES)
