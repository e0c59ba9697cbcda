"""What is Isaac Lab's own: assets, one scene at a time, refusals, tasks; the rest is in the conformance suite."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.cli.main import main
from robot_rl.contract.state import JointTarget
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.backends import make_physics
from robot_rl.sim.capacity import Capacity
from robot_rl.sim.isaac_scene import open_scene
from robot_rl.sim.isaac_usd import robot_usd, self_contact
from robot_rl.sim.scene import build_model
from robot_rl.sim.terrain import Terrain
from tests.sim.conftest import backends, build_backend

isaac = pytest.mark.parametrize("_name", backends("isaac"))
TWO_BALLS = """
<mujoco><worldbody>
  <geom name="floor" type="plane" size="0 0 1"/>
  <body name="a"><freejoint/><geom name="ball_a" size="0.1" contype="{a}" conaffinity="{b}"/></body>
  <body name="b" pos="1 0 0"><freejoint/><geom name="ball_b" size="0.1" contype="{a}" conaffinity="{b}"/></body>
</worldbody></mujoco>
"""


def test_a_missing_engine_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isaaclab", None)  # what Python does where a package is not there
    task = zoo.load("sim", "tasks/cartpole_swingup").task()
    for physics in ("isaac", "isaac_physx"):
        with pytest.raises(ImportError, match=r"Isaac Lab 3\.0.*pip install 'robot-rl\[isaac\]'.*make test-isaac"):
            make_physics(task, num_envs=1, physics=physics)


def test_an_unknown_engine_is_answered_with_the_choices(hopper: Robot) -> None:
    with pytest.raises(ValueError, match=r"no engine 'bullet' in the isaac backend; .*newton.*physx"):
        open_scene(hopper, build_model(hopper), 1, scene="flat", engine="bullet", device="cpu")


@pytest.mark.parametrize(
    ("change", "why"),
    [({"terrain": Terrain(kinds=("slope_up",))}, "rough ground"), ({"torque_speed": True}, "a torque-speed line")],
)
def test_what_isaac_cannot_simulate_is_refused(change: dict[str, Any], why: str) -> None:
    task = dataclasses.replace(zoo.load("sim", "tasks/go2_velocity").task(), **change)
    with pytest.raises(ValueError, match=f"'go2_velocity' has {why}, which the isaac backend has not"):
        make_physics(task, num_envs=1, physics="isaac")


def test_mujoco_cpu_beside_an_older_mujoco_says_which_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Isaac Lab's environment: two engines that want two versions are compared in two environments."""
    monkeypatch.delitem(sys.modules, "robot_rl.sim.mujoco_cpu", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    task = zoo.load("sim", "tasks/cartpole_swingup").task()
    with pytest.raises(ImportError, match=r"'mujoco_cpu' needs MuJoCo 3\.17 or newer.*docs/isaac.md"):
        make_physics(task, num_envs=1, physics="mujoco_cpu")


def test_a_robot_that_may_touch_itself_is_found() -> None:
    """Contact bits of both balls match, or do not; the floor is no part of a robot."""
    touching = mujoco.MjModel.from_xml_string(TWO_BALLS.format(a=1, b=1))
    assert self_contact(touching) == (1, 2)
    assert self_contact(mujoco.MjModel.from_xml_string(TWO_BALLS.format(a=0, b=1))) is None
    assert self_contact(build_model(load_robot("go2"))) is None
    with pytest.raises(ValueError, match=r"geoms 'ball_a' and 'ball_b' of the robot may touch one another"):
        robot_usd(load_robot("go2"), touching)


@isaac
def test_an_asset_is_converted_once_and_anew_where_its_files_change(
    hopper: Robot, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # not beside the MJCF: that is hashed
    first = robot_usd(hopper, build_model(hopper))
    made = first.path.stat().st_mtime_ns
    assert first.base == "Geometry/base"
    assert robot_usd(hopper, build_model(hopper)) == first and first.path.stat().st_mtime_ns == made
    hopper.mjcf.write_text(hopper.mjcf.read_text().replace('mass="2"', 'mass="3"'), encoding="utf-8")
    assert robot_usd(hopper, build_model(hopper)).path != first.path
    assert {p.suffix for p in first.path.parent.iterdir()} == {".usdc"}  # no half-made file stays


def find(paths: list[str], name: str) -> int:
    """Return the one of Newton's names, paths with slashes or underscores, that ends in ``name``."""
    (index,) = [i for i, path in enumerate(paths) if path.replace("/", "_").endswith(f"_{name}")]
    return index


@isaac
def test_names_that_meet_in_usd_stay_those_of_joints_and_bodies(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _name: str
) -> None:
    """The cart-pole has a body, a joint and a geom called pole; a name that USD cannot have is refused."""
    from pxr import Usd

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    robot = load_robot("cartpole")
    stage: Any = Usd.Stage.Open(str(robot_usd(robot, build_model(robot)).path))
    pole = stage.GetPrimAtPath("/cartpole/Geometry/cart/pole")
    assert {child.GetName(): child.GetTypeName() for child in pole.GetChildren()} == {
        "pole": "PhysicsRevoluteJoint",
        "pole_geom": "Capsule",
    }
    mjcf = tmp_path_factory.mktemp("robot") / "odd.xml"
    mjcf.write_text(robot.mjcf.read_text().replace('joint name="slider"', 'joint name="the slider"').replace(
        'joint="slider"', 'joint="the slider"'))  # fmt: skip
    with pytest.raises(ValueError, match=r"a part 'the slider', which USD cannot call so; give it another"):
        robot_usd(dataclasses.replace(robot, mjcf=mjcf), build_model(robot))


def test_a_robot_that_would_lose_a_part_is_refused() -> None:
    """The Panda's fingers are joined by an equality, and its arm is held against gravity."""
    panda = load_robot("panda")
    with pytest.raises(ValueError, match=r"equality constraints \(1\), which the isaac backend loses; use mujoco_cpu"):
        robot_usd(panda, build_model(panda))
    held = mujoco.MjModel.from_xml_string(TWO_BALLS.format(a=0, b=1).replace('name="a"', 'name="a" gravcomp="1"'))
    with pytest.raises(ValueError, match=r"bodies with gravity compensation \(1\)"):
        robot_usd(panda, held)


@isaac
@pytest.mark.parametrize("name", [name for name in zoo.names("hardware") if name != "panda"])
def test_the_solver_simulates_the_mjcf(name: str, _name: str) -> None:
    """Masses, inertias, dampings, frictions, armatures and contact parameters are those of the robot's file."""
    robot = load_robot(name)
    wanted, physics = build_model(robot), build_backend("isaac", robot, 1)
    given = physics._isaac.sim.physics_manager._solver.mj_model  # type: ignore[attr-defined]
    joint_names = [given.joint(i).name for i in range(given.njnt)]
    body_names = [given.body(i).name for i in range(given.nbody)]
    for name in robot.joints:
        ours, theirs = wanted.joint(name), given.joint(find(joint_names, name))
        limited = bool(wanted.jnt_limited[ours.id])
        assert limited or (abs(theirs.range) > 1e9).all()  # no limit in MuJoCo is a far one in Newton
        for field in ("damping", "armature", "frictionloss", *(["range"] if limited else [])):
            np.testing.assert_allclose(getattr(theirs, field), getattr(ours, field), rtol=1e-6, err_msg=name)
    for i in range(1, wanted.nbody):
        ours = wanted.body(i)
        theirs = given.body(find(body_names, ours.name))
        for field in ("mass", "ipos", "inertia"):
            np.testing.assert_allclose(getattr(theirs, field), getattr(ours, field), rtol=2e-5, atol=1e-7)
    physics.close()


@isaac
def test_tensors_come_out_as_they_go_in_and_a_force_goes_through_the_servo(hopper: Robot, _name: str) -> None:
    """Copy 0 flies and is pushed by 1 N on top of a servo without damping; copy 1 stands."""
    from robot_rl.sim.isaac import IsaacLab

    physics = IsaacLab(hopper, 2, device="cpu")
    physics.reset(torch.tensor([0]), {"base_pos_w": torch.tensor([[0.0, 0.0, 2.0]])})
    full = lambda x: torch.full((2, 1), x)
    physics.apply(JointTarget(full(0.3), full(0.0), full(1.0), full(400.0), full(0.0)))
    physics.step(1)
    assert physics.state().joint_effort.flatten().tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    physics.step(3)
    state = physics.state()
    assert isinstance(state.joint_pos, torch.Tensor) and isinstance(physics.foot_pos_w, torch.Tensor)
    assert state.foot_contact is not None and state.foot_contact.tolist() == [[0.0], [1.0]]
    kept = state.joint_pos.clone()
    physics.step(3)
    assert torch.equal(state.joint_pos, kept)  # the state belongs to the caller
    physics.close()


@isaac
def test_more_contacts_than_the_buffers_hold_are_an_error(monkeypatch: pytest.MonkeyPatch, _name: str) -> None:
    """Room for one contact, and the go2 stands on four feet."""
    monkeypatch.setattr("robot_rl.sim.isaac_scene.estimate_capacity", lambda _: Capacity(contacts=1, constraints=64))
    physics = build_backend("isaac", load_robot("go2"), 1)
    with pytest.raises(RuntimeError, match=r"1 of 1 copies made more contacts or constraints than the buffers"):
        physics.step(100)


@isaac
def test_a_second_scene_is_refused_until_the_first_is_closed(hopper: Robot, _name: str) -> None:
    first = build_backend("isaac", hopper, 1)
    with pytest.raises(RuntimeError, match=r"one scene at a time in a process; close\(\)"):
        build_backend("isaac", hopper, 1)
    first.close()
    build_backend("isaac", hopper, 1).close()


@isaac
def test_physx_without_isaac_sim_names_its_cure(hopper: Robot, _name: str) -> None:
    with pytest.raises(ImportError, match=r"needs Isaac Sim beside Isaac Lab; docs/isaac.md"):
        open_scene(hopper, build_model(hopper), 1, scene="flat", engine="physx", device="cpu")


@pytest.mark.parametrize("physics", backends("isaac"))
def test_the_released_walker_walks(
    physics: str, shorten: Callable[[float], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """The verb, in the environment of Isaac Lab itself: five commands from 1 m/s backwards to 1 m/s forwards.

    It prints one line: neither the engine's kernels nor Isaac Lab's timers write between.
    """
    shorten(3.0)
    assert main(["eval", "go2_walk_ppo", "--physics", physics, "--episodes", "5", "--json"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["episodes"] == 5 and said["fall_rate"] == 0.0
    assert said["lin_vel_error"] < 0.3  # 0.13 on mujoco_cpu; a robot that stands is 0.6 off
