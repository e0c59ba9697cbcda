"""Every robot in hardware/: its description is whole, and its MJCF says the same."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.hardware.driver import damp_target
from robot_rl.hardware.robot import Robot, load_robot

ROBOTS = zoo.names("hardware")


@pytest.fixture(params=ROBOTS)
def robot(request: pytest.FixtureRequest) -> Robot:
    return load_robot(request.param)


@pytest.fixture
def model(robot: Robot) -> Any:
    """The robot's MJCF, compiled alone."""
    mujoco = pytest.importorskip("mujoco")
    return mujoco.MjModel.from_xml_path(str(robot.mjcf))


def test_the_folder_has_the_robots_name(robot: Robot) -> None:
    assert zoo.find("hardware", robot.name) == robot.mjcf.parent


def test_the_description_names_a_source_for_its_numbers(robot: Robot) -> None:
    text = (robot.mjcf.parent / "robot.toml").read_text(encoding="utf-8")
    assert sum("#" in line for line in text.splitlines()) >= 3


def test_the_safety_bounds_leave_room_to_move(robot: Robot) -> None:
    low = np.array(robot.pos_low) + robot.safety.pos_margin
    high = np.array(robot.pos_high) - robot.safety.pos_margin
    assert np.all(low < robot.default_pos)
    assert np.all(robot.default_pos < high)
    assert min(robot.safety.target_rate) > 0.0
    assert 0.0 < robot.safety.effort_fraction <= 1.0
    assert 0.0 < robot.safety.state_timeout_s < robot.safety.command_timeout_s


def test_damping_asks_for_no_stiffness_and_no_torque(robot: Robot) -> None:
    target = damp_target(robot)
    assert not target.stiffness.any()
    assert not target.effort_ff.any()
    assert np.all(target.damping == robot.safety.damp)


def test_the_mjcf_is_well_formed_and_names_every_joint_and_foot(robot: Robot) -> None:
    tree = ET.parse(robot.mjcf)
    assert set(robot.joints) <= {joint.get("name") for joint in tree.iter("joint")}
    assert set(robot.feet) <= {geom.get("name") for geom in tree.iter("geom")}


def test_the_mjcf_needs_no_file_beside_it(robot: Robot) -> None:
    tree = ET.parse(robot.mjcf)
    assert not [node.tag for node in tree.iter() if node.get("file")]


def test_the_mjcf_has_the_limits_of_the_description(robot: Robot, model: Any) -> None:
    for i, name in enumerate(robot.joints):
        joint = model.joint(name)
        if joint.limited[0]:
            assert joint.range.tolist() == pytest.approx([robot.pos_low[i], robot.pos_high[i]], abs=1e-6), name


def test_the_mjcf_has_one_motor_per_actuated_joint_with_its_torque_limit(robot: Robot, model: Any) -> None:
    limits = {
        model.joint(model.actuator(i).trnid[0]).name: model.actuator(i).forcerange.tolist() for i in range(model.nu)
    }
    assert set(limits) == set(robot.actuated)
    for name, (low, high) in limits.items():
        effort = robot.effort[robot.index(name)]
        assert (low, high) == pytest.approx((-effort, effort)), name


def test_the_mjcf_floats_where_the_description_says_so(robot: Robot, model: Any) -> None:
    free = [int(kind) for kind in model.jnt_type].count(0)  # mjJNT_FREE
    assert free == int(robot.floating_base)
