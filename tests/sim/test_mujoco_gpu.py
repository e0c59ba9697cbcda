"""What is MuJoCo Warp's own: torch views, buffers of a fixed size, devices. The rest is in the conformance suite."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.contract.state import JointTarget
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.backends import PHYSICS, make_physics
from robot_rl.sim.capacity import Capacity, estimate_capacity
from robot_rl.sim.scene import build_model
from robot_rl.sim.warp_batch import find_device
from tests.sim.conftest import backends

warp = pytest.mark.parametrize("_name", backends("mujoco_gpu"))


def test_capacity_is_counted_from_the_geoms_that_can_touch(hopper: Robot) -> None:
    """go2: 12 spheres on a plane make 12 contacts of 4 rows, and 12 limits and 12 frictions; rounded up to eights."""
    assert estimate_capacity(build_model(load_robot("go2"))) == Capacity(contacts=16, constraints=72)
    assert estimate_capacity(build_model(hopper)) == Capacity(contacts=8, constraints=24)  # 4 of a box, 4 rows; 1 limit
    assert estimate_capacity(build_model(load_robot("cartpole"))) == Capacity(contacts=8, constraints=8)


def test_an_unknown_device_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no device 'tpu' here; the choices are .*'cpu'"):
        find_device("tpu")
    assert find_device("cpu") == torch.device("cpu")


def test_a_missing_engine_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "warp", None)  # what Python does where a package is not there
    task = zoo.load("sim", "tasks/cartpole_swingup").task()
    with pytest.raises(ImportError, match=r"mujoco_gpu.*pip install 'robot-rl\[gpu\]'"):
        make_physics(task, num_envs=1, physics="mujoco_gpu")


def test_an_unknown_backend_is_answered_with_the_choices() -> None:
    task = zoo.load("sim", "tasks/cartpole_swingup").task()
    with pytest.raises(ValueError, match=r"no physics backend 'bullet'; the choices are .*mujoco_cpu.*mujoco_gpu"):
        make_physics(task, num_envs=1, physics="bullet")
    assert PHYSICS[0] == "mujoco_cpu"


@warp
def test_tensors_come_out_as_they_go_in(hopper: Robot, _name: str) -> None:
    from robot_rl.sim.mujoco_gpu import MujocoGpu

    physics = MujocoGpu(hopper, 2, device="cpu")
    ids = torch.tensor([1])
    physics.reset(ids, {"base_pos_w": torch.tensor([[0.0, 0.0, 2.0]])})
    full = lambda x: torch.full((2, 1), x)
    physics.apply(JointTarget(full(0.32), full(0.0), full(0.0), full(400.0), full(20.0)))
    physics.step(3)
    state = physics.state()
    assert isinstance(state.joint_pos, torch.Tensor) and isinstance(physics.foot_pos_w, torch.Tensor)
    assert state.foot_contact is not None and state.foot_contact.tolist() == [[1.0], [0.0]]
    kept = state.joint_pos.clone()
    physics.step(3)
    assert torch.equal(state.joint_pos, kept)  # the state belongs to the caller
    physics.close()


@warp
def test_too_small_buffers_are_an_error_that_names_them(hopper: Robot, _name: str) -> None:
    from robot_rl.sim.mujoco_gpu import MujocoGpu

    physics = MujocoGpu(hopper, 2, device="cpu", numpy=True, capacity=Capacity(contacts=8, constraints=4))
    physics.reset(np.arange(1), {"base_pos_w": np.array([[0.0, 0.0, 5.0]])})  # copy 0 flies and needs no buffers
    with pytest.raises(
        RuntimeError, match=r"1 of 2 copies .*\(8 contacts, 4 constraint rows a copy\).*capacity=Capacity"
    ):
        physics.step(2)
