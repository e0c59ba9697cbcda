"""A robot whose physics a person can compute: a 2 kg box on one sliding leg with a wide foot of 0.5 kg.

The leg slides along the body's z axis; a positive position is further down. At rest the leg carries 2 kg * 9.81 m/s^2.
"""

from __future__ import annotations

from pathlib import Path

from robot_rl.contract.spec import Command
from robot_rl.hardware.robot import Robot, read_robot
from robot_rl.sim import terms as t
from robot_rl.sim.task import Commands, Obs, Reward, Task

BASE_KG, FOOT_KG, GRAVITY, KP, KD, EFFORT = 2.0, 0.5, 9.81, 400.0, 20.0, 60.0
WEIGHT_N = BASE_KG * GRAVITY

XML = """
<mujoco model="hopper">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.005" integrator="implicitfast"/>
  <default><geom density="0" contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="base" pos="0 0 0.3">
      <freejoint/>
      <inertial pos="0 0 0" mass="2" diaginertia="0.02 0.02 0.03"/>
      <geom type="box" size="0.1 0.1 0.05"/>
      <site name="imu"/>
      <body name="foot">
        <joint name="leg" type="slide" axis="0 0 -1" range="0.05 0.4" damping="1"/>
        <inertial pos="0 0 0" mass="0.5" diaginertia="0.005 0.005 0.01"/>
        <geom name="sole" type="box" size="0.2 0.2 0.01" conaffinity="1" friction="1 0.005 0.0001"
          solref="0.02 1"/>
        <site name="sole" type="box" size="0.21 0.21 0.02"/>
      </body>
    </body>
  </worldbody>
  <actuator><position name="leg" joint="leg" kp="400" kv="20" forcerange="-60 60"/></actuator>
  <sensor>
    <accelerometer name="imu_acc" site="imu"/>
    <touch name="sole_touch" site="sole"/>
  </sensor>
</mujoco>
"""

TOML = """
name = "hopper"
title = "A box on a sliding leg"
mjcf = "hopper.xml"
feet = ["sole"]
default_height_m = 0.31
[joints]
names = ["leg"]
pos_low = [0.05]
pos_high = [0.4]
vel = [20.0]
effort = [60.0]
default_pos = [0.3]
stiffness = [400.0]
damping = [20.0]
[safety]
max_tilt_rad = 1.0
pos_margin = 0.0
target_rate = [100.0]
vel_fraction = 1.0
effort_fraction = 1.0
state_timeout_s = 0.04
command_timeout_s = 0.1
damp = 10.0
stand_s = 0.5
"""


def make_hopper(folder: Path) -> Robot:
    """Write the robot into ``folder`` and read it."""
    (folder / "hopper.xml").write_text(XML, encoding="utf-8")
    (folder / "robot.toml").write_text(TOML, encoding="utf-8")
    return read_robot(folder)


def hopper_task() -> Task:
    """A task without any randomness: stand, be rewarded for living and little torque."""
    return Task(
        name="hop",
        robot="hopper",
        obs={"joint_pos_rel": Obs(history=3), "joint_vel_rel": Obs(scale=0.1), "last_action": Obs()},
        privileged={"base_height": t.base_height},
        rewards={"alive": Reward(t.alive, 1.0), "joint_torques": Reward(t.joint_torques, -1e-3)},
        dones={"fallen": t.fallen(max_tilt_rad=0.5, min_height_m=0.15)},
        action_scale=0.1,
        episode_s=0.5,
        commands=Commands(Command((), (), ())),
    )
