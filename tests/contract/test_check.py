"""A contract against a robot: what is refused, what is remarked, and in which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from robot_rl import zoo
from robot_rl.contract.check import ERROR, OK, WARN, Finding, check_robot, refuse
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.spec import Contract, ObsTerm
from robot_rl.hardware.robot import Robot, load_robot
from tests.contract.strategies import POLICIES

CONTRACT = read_bundle(POLICIES / "go2_tiny.onnx").contract
GO2 = load_robot("go2")


def row(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def changed(robot: Robot, **values: Any) -> Robot:
    return dataclasses.replace(robot, symmetry=None, **values)  # one changed joint has no image any more


def at(values: tuple[float, ...], index: int, value: float) -> tuple[float, ...]:
    return (*values[:index], value, *values[index + 1 :])


@pytest.mark.parametrize("name", ["go2_tiny", "go2_history"])
def test_a_fitting_policy_has_only_accepted_rows(name: str) -> None:
    findings = check_robot(read_bundle(POLICIES / f"{name}.onnx").contract, GO2)
    assert {finding.severity for finding in findings} == {OK}
    refuse(findings, name)


def test_another_joint_order_is_accepted_and_mentioned() -> None:
    findings = check_robot(read_bundle(POLICIES / "go2_history.onnx").contract, GO2)
    order = row(findings, "joint order")
    assert order.message == "mapped by name, the policy begins with FL_hip_joint, the robot with FR_hip_joint"


@pytest.mark.parametrize(
    ("robot", "name", "reason"),
    [
        (changed(GO2, name="go1"), "robot", "the policy was trained for robot 'go2'; this is 'go1'"),
        (changed(GO2, imu_frame="base"), "IMU frame", "trained in frame 'imu'; the robot gives 'base'"),
        (
            changed(GO2, passive=("FR_hip_joint",)),
            "joints",
            "the policy moves ['FR_hip_joint'], which have no motor",
        ),
        (
            changed(GO2, effort=at(GO2.effort, 2, 40.0)),
            "effort limit",
            "trained beyond the robot's effort limit: FR_calf_joint 45.43 (robot 40)",
        ),
        (changed(GO2, vel=at(GO2.vel, 0, 20.0)), "velocity limit", "FR_hip_joint 30.1 (robot 20)"),
        (changed(GO2, pos_high=at(GO2.pos_high, 0, 0.5)), "upper position limit", "FR_hip_joint 1.0472 (robot 0.5)"),
        (changed(GO2, pos_low=at(GO2.pos_low, 0, -0.5)), "lower position limit", "FR_hip_joint -1.0472 (robot -0.5)"),
    ],
)
def test_a_robot_that_does_not_fit_is_refused(robot: Robot, name: str, reason: str) -> None:
    findings = check_robot(CONTRACT, robot)
    assert row(findings, name).severity == ERROR
    assert reason in row(findings, name).message
    with pytest.raises(ValueError) as error:
        refuse(findings, "policy.onnx")
    assert str(error.value).startswith("policy.onnx: ")
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("contract", "name", "reason"),
    [
        (dataclasses.replace(CONTRACT, rate_hz=60.0), "rate", "200 Hz is no whole multiple of the policy rate 60 Hz"),
        (dataclasses.replace(CONTRACT, rate_hz=400.0), "rate", "no whole multiple of the policy rate 400 Hz"),
        (dataclasses.replace(CONTRACT, rate_hz=1.0), "rate", "a period of 1 s exceeds the robot's command timeout"),
        (
            dataclasses.replace(CONTRACT, obs=(ObsTerm("joint_pos", 11, (1.0,) * 11),)),
            "observation",
            "obs term 'joint_pos' has shape (12,); the contract says (11,)",
        ),
        (
            dataclasses.replace(CONTRACT, obs=(ObsTerm("height_scan", 3, (1.0,) * 3),)),
            "observation",
            "no observation term 'height_scan'; the choices are",
        ),
        (
            dataclasses.replace(CONTRACT, obs=(ObsTerm("foot_contact", 6, (1.0,) * 6),)),
            "observation",
            "foot_contact is 6 wide; the robot has the feet ['FR', 'FL', 'RR', 'RL']",
        ),
        (
            dataclasses.replace(CONTRACT, damping=at(CONTRACT.damping, 1, -0.1)),
            "gains",
            "negative gains would push the joints away: ['FR_thigh_joint']",
        ),
        (
            dataclasses.replace(
                CONTRACT, action=dataclasses.replace(CONTRACT.action, offset=at(CONTRACT.action.offset, 2, 0.0))
            ),
            "action range",
            "the default position lies outside the robot's limits at ['FR_calf_joint']",
        ),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(contract: Contract, name: str, reason: str) -> None:
    finding = row(check_robot(contract, GO2), name)
    assert finding.severity == ERROR
    assert reason in finding.message


def test_a_loop_of_another_rate_is_refused() -> None:
    assert row(check_robot(CONTRACT, GO2, rate_hz=50.0), "rate").severity == OK
    finding = row(check_robot(CONTRACT, GO2, rate_hz=100.0), "rate")
    assert finding.message == "wrong rate: the policy was trained at 50 Hz, the control loop runs at 100 Hz"


def test_doubtful_rows_are_remarked_but_accepted() -> None:
    wide = dataclasses.replace(CONTRACT.action, scale=at(CONTRACT.action.scale, 0, 2.0))
    low = dataclasses.replace(wide, offset=at(wide.offset, 1, 0.5))
    findings = check_robot(dataclasses.replace(CONTRACT, action=low, stiffness=at(CONTRACT.stiffness, 3, 300.0)), GO2)
    assert (
        row(findings, "action range").message
        == "extreme actions pass the limits of FR_hip_joint; the shield clips them"
    )
    assert "FR_thigh_joint 0.5 (robot 0.9)" in row(findings, "default pose").message
    assert "gains far from the robot's own at FL_hip_joint" in row(findings, "gains").message
    assert {finding.severity for finding in findings} == {OK, WARN}
    refuse(findings, "accepted all the same")


@pytest.mark.parametrize("name", zoo.names("policies", "released"))
def test_every_released_policy_fits_its_robot(name: str) -> None:
    contract = read_bundle(zoo.find_policy(name)).contract
    refuse(check_robot(contract, load_robot(contract.robot)), name)
