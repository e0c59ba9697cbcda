"""Left and right exchanged: robots that declare it, permutations that undo themselves, terms without an image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.contract.spec import Contract, ObsTerm
from robot_rl.hardware.robot import Robot, Symmetry, load_robot
from robot_rl.hardware.symmetry import make_reflections

PRIVILEGED = ("base_lin_vel", "base_height", "foot_contact")
SYMMETRIC = [name for name in zoo.names("hardware") if load_robot(name).symmetry is not None]


@pytest.fixture(scope="module")
def go2() -> Robot:
    return load_robot("go2")


@pytest.fixture(scope="module")
def contract(go2: Robot) -> Contract:
    return zoo.load("sim", "tasks/go2_velocity").task().contract(go2)


def test_the_go2_declares_its_symmetry() -> None:
    assert "go2" in SYMMETRIC


def test_mirrored_twice_is_the_original(go2: Robot, contract: Contract) -> None:
    rng = np.random.default_rng(0)
    mirror = make_reflections(go2, contract, PRIVILEGED)
    for reflection in (*mirror.obs.values(), mirror.action):
        x = rng.normal(size=(5, len(reflection.index)))
        assert np.array_equal(reflection(reflection(x)), x)
        assert not np.array_equal(reflection(x), x)


def test_the_action_of_the_left_legs_becomes_that_of_the_right_ones(go2: Robot, contract: Contract) -> None:
    action = dict(zip(contract.joints, np.arange(1.0, 13.0), strict=True))
    image = dict(zip(contract.joints, make_reflections(go2, contract).action(np.arange(1.0, 13.0)), strict=True))
    for joint in contract.joints:
        other = joint[0] + {"L": "R", "R": "L"}[joint[1]] + joint[2:]
        assert image[joint] == (-action[other] if "hip" in joint else action[other])


def test_the_critic_sees_every_privileged_term_mirrored(go2: Robot, contract: Contract) -> None:
    mirror = make_reflections(go2, contract, PRIVILEGED).obs["critic"]
    x = np.zeros(contract.obs_size + 8)
    # lin_vel (1, 2, 3), height 0.3, contacts FR FL RR RL
    x[contract.obs_size :] = (1.0, 2.0, 3.0, 0.3, 1.0, 0.0, 0.25, 0.75)
    assert mirror(x)[contract.obs_size :].tolist() == [1.0, -2.0, 3.0, 0.3, 0.0, 1.0, 0.75, 0.25]


def test_a_turn_to_the_left_is_one_to_the_right(go2: Robot, contract: Contract) -> None:
    mirror = make_reflections(go2, contract).obs["policy"]
    x = np.arange(1.0, contract.obs_size + 1.0)
    # base_ang_vel 1 2 3, projected_gravity 4 5 6, velocity_commands 7 8 9
    assert mirror(x)[:9].tolist() == [-1.0, 2.0, -3.0, 4.0, -5.0, 6.0, 7.0, -8.0, -9.0]


def test_every_frame_of_a_history_is_mirrored(go2: Robot, contract: Contract) -> None:
    terms = (ObsTerm("projected_gravity", 3, (1.0, 1.0, 1.0), None, 2),)
    mirror = make_reflections(go2, dataclasses.replace(contract, obs=terms)).obs["policy"]
    assert mirror(np.arange(1.0, 7.0)).tolist() == [1.0, -2.0, 3.0, 4.0, -5.0, 6.0]


def test_a_term_without_an_image_is_named_with_those_that_have_one(go2: Robot, contract: Contract) -> None:
    with pytest.raises(ValueError, match=r"term 'friction' has no known mirror image; .*'base_ang_vel', 'base_height'"):
        make_reflections(go2, contract, ("friction",))


def test_a_command_without_an_image_is_named(go2: Robot, contract: Contract) -> None:
    command = dataclasses.replace(contract.command, names=("lin_vel_x", "gait", "ang_vel_z"))
    with pytest.raises(ValueError, match=r"commands \['gait'\] have no known mirror image; .*'heading'"):
        make_reflections(go2, dataclasses.replace(contract, command=command))


def test_a_scale_that_differs_left_and_right_is_refused(go2: Robot, contract: Contract) -> None:
    action = dataclasses.replace(contract.action, scale=(0.25,) + (0.5,) * 11)
    with pytest.raises(ValueError, match=r"action\.scale is 0\.25 at 0 and 0\.5 at 3, its mirror image"):
        make_reflections(go2, dataclasses.replace(contract, action=action))


def test_uneven_bounds_of_what_turns_its_sign_are_refused(go2: Robot, contract: Contract) -> None:
    terms = tuple(dataclasses.replace(t, clip=(-1.0, 2.0)) if t.name == "base_ang_vel" else t for t in contract.obs)
    with pytest.raises(ValueError, match=r"clip of obs term 'base_ang_vel' is \(-1\.0, 2\.0\)"):
        make_reflections(go2, dataclasses.replace(contract, obs=terms))


def test_a_robot_without_symmetry_is_named(go2: Robot, contract: Contract) -> None:
    with pytest.raises(ValueError, match=r"robot 'go2' declares no symmetry; write \[symmetry\]"):
        make_reflections(dataclasses.replace(go2, symmetry=None), contract)


def test_a_robot_whose_pose_is_not_its_own_image_is_refused(go2: Robot) -> None:
    with pytest.raises(ValueError, match=r"joint 'FR_hip_joint' has default_pos -0\.2; in the mirror '-FL_hip_joint'"):
        dataclasses.replace(go2, default_pos=(-0.2, *go2.default_pos[1:]))


def test_a_symmetry_that_does_not_undo_itself_is_refused(go2: Robot) -> None:
    assert go2.symmetry is not None
    circle = Symmetry(go2.symmetry.joints, ("FL", "RR", "RL", "FR"))
    with pytest.raises(ValueError, match="'FR' becomes 'FL', but 'FL' becomes 'RR'"):
        dataclasses.replace(go2, symmetry=circle)
    with pytest.raises(ValueError, match=r"symmetry\.feet names \['FL', 'FR'\]; it must name each of"):
        dataclasses.replace(go2, symmetry=Symmetry(go2.symmetry.joints, ("FL", "FR")))
