"""Parity: the same open-loop targets in every backend against plain MuJoCo C (tests/sim/plain.py), robot by robot.

Bounds of position and velocity, the worst that was measured on CPU in MuJoCo Warp 4.0 and in Isaac Lab 3.0 (Newton
1.6.1 on MuJoCo Warp 3.12), and why that is not zero; SI units:

====================  =============  =============  =============  =================================================
case                  bounds         mujoco_gpu     isaac          why
====================  =============  =============  =============  =================================================
cartpole, 2 s         5e-4, 2e-3     7e-5, 2e-4     3e-6, 6e-6     float32 where the pole passes upright, unstable
go2 in the air, 1 s   2e-5, 1e-3     3e-6, 2e-4     2e-6, 5e-5     float32; contact-free, solver run to its end
  its base's turning  1e-5, 1e-4     within         1.5e-5, 8e-5   ``LOOSER`` for isaac, reason there
go2 trotting, 1 s     1e-4, 5e-3     3e-6, 8e-5     3e-6, 8e-5     float32; with contact, solver run to its end
go2 as it ships       0.03, none     within         7e-3           four solver iterations; engines stop elsewhere
====================  =============  =============  =============  =================================================
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.contract.state import JointTarget, RobotState
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.sim.physics import Physics
from tests.sim.conftest import backends, build_backend
from tests.sim.plain import drive_plain

N, TICK_S, SUBSTEPS = 4, 0.02, 4
LOOSER = {"isaac": {"quat_xyzw": 5e-5, "ang_vel_b": 3e-4}}
"""Bounds of a backend for a body that spins freely. Newton keeps a free body's velocities in the world about its centre
of mass, MuJoCo in the body about its origin; both ways are gone in every substep in float32, 200 times a second."""


def converged(robot: Robot, folder: Path) -> Robot:
    """The robot with a solver that runs to its end, so that engines can agree."""
    text = robot.mjcf.read_text(encoding="utf-8")
    exact = text.replace('iterations="4" ls_iterations="10"', 'iterations="50" ls_iterations="50"')
    assert exact != text
    path = folder / robot.mjcf.name
    path.write_text(exact, encoding="utf-8")
    return dataclasses.replace(robot, mjcf=path)


def waves(robot: Robot, ticks: int, amplitude: float) -> np.ndarray:
    """Sines of 0.5 to 2 Hz about the default pose that start there, (T, N, J)."""
    rng = np.random.default_rng(0)
    shape = N, len(robot.joints)
    rate, phase = rng.uniform(0.5, 2.0, shape), rng.uniform(0.0, 2.0 * np.pi, shape)
    t = TICK_S * np.arange(ticks)[:, None, None]
    return np.asarray(robot.default_pos) + amplitude * (np.sin(2.0 * np.pi * rate * t + phase) - np.sin(phase))


def drive(physics: Physics, start: dict[str, np.ndarray], pos: np.ndarray, effort: np.ndarray) -> list[RobotState]:
    """Run targets (T, N, J) open loop, return the state after each tick, and close."""
    robot, shape = physics.robot, pos.shape[1:]
    stiffness, damping = (np.broadcast_to(np.asarray(x), shape) for x in (robot.stiffness, robot.damping))
    physics.reset(np.arange(N), start)
    states: list[RobotState] = []
    for p, f in zip(pos, effort, strict=True):
        physics.apply(JointTarget(p, np.zeros(shape), f, stiffness, damping))
        physics.step(SUBSTEPS)
        states.append(physics.state())
    physics.close()
    return states


def gap(a: list[RobotState], b: list[RobotState], field: str) -> float:
    return max(float(np.abs(getattr(x, field) - getattr(y, field)).max()) for x, y in zip(a, b, strict=True))


def require(a: list[RobotState], b: list[RobotState], bounds: dict[str, float]) -> None:
    """Hold every gap against its bound; the message has all of them."""
    gaps = {field: gap(a, b, field) for field in bounds}
    said = ", ".join(f"{field} {gaps[field]:.1e} (bound {bound:.0e})" for field, bound in bounds.items())
    print(said)
    assert all(gaps[field] <= bound for field, bound in bounds.items()), said


def both(
    robot: Robot, name: str, start: dict[str, np.ndarray], pos: np.ndarray, effort: np.ndarray | None = None
) -> tuple[list[RobotState], list[RobotState]]:
    effort = np.zeros_like(pos) if effort is None else effort
    return drive_plain(robot, start, pos, effort, SUBSTEPS), drive(build_backend(name, robot, N), start, pos, effort)


def test_every_robot_of_ours_is_driven_here() -> None:
    """A robot that joins hardware/ gets a case in this file, at least one without contact."""
    assert zoo.names("hardware") == ["cartpole", "go2", "panda"]


@pytest.mark.parametrize("name", backends())
def test_cartpole_swings_alike(name: str) -> None:
    """Two seconds of sines of 10 N on a pole that starts near hanging."""
    robot, ticks = load_robot("cartpole"), 100
    rng = np.random.default_rng(1)
    rate, phase = rng.uniform(0.5, 2.0, N), rng.uniform(0.0, 6.0, N)
    effort = np.zeros((ticks, N, 2))
    effort[:, :, 0] = 10.0 * np.sin(2.0 * np.pi * rate * TICK_S * np.arange(ticks)[:, None] + phase)
    start = {"joint_pos": np.stack((np.zeros(N), np.linspace(2.5, 3.6, N)), axis=1)}
    require(*both(robot, name, start, np.zeros((ticks, N, 2)), effort), {"joint_pos": 5e-4, "joint_vel": 2e-3})


@pytest.mark.parametrize("name", backends("mujoco_cpu", "mujoco_gpu"))
def test_panda_moves_alike(name: str) -> None:
    """A second of all joints swinging by 0.3 rad; one finger is driven and the other follows; Isaac refuses it."""
    robot = load_robot("panda")
    pos = waves(robot, 50, 0.3)
    pos[:, :, 7] = 0.025 + (pos[:, :, 7] - robot.default_pos[7]) / 30.0
    require(*both(robot, name, {}, pos), {"joint_pos": 1e-4, "joint_vel": 2e-3})


@pytest.mark.parametrize("name", backends())
def test_go2_moves_alike_in_the_air(name: str, tmp_path: Path) -> None:
    """A second of falling and spinning while all legs swing by 0.3 rad and more."""
    robot = converged(load_robot("go2"), tmp_path)
    start = {"base_pos_w": np.tile([0.0, 0, 20.0], (N, 1)), "ang_vel_b": np.linspace(-1, 1, 3 * N).reshape(N, 3)}
    bounds = {"joint_pos": 2e-5, "joint_vel": 1e-3, "base_pos_w": 1e-4, "quat_xyzw": 1e-5, "ang_vel_b": 1e-4}
    require(*both(robot, name, start, waves(robot, 50, 0.3)), bounds | LOOSER.get(name, {}))


@pytest.mark.parametrize("name", backends())
def test_go2_moves_alike_on_the_ground(name: str, tmp_path: Path) -> None:
    """A second of stepping on the spot, feet striking and slipping."""
    robot = converged(load_robot("go2"), tmp_path)
    ours, theirs = both(robot, name, {}, waves(robot, 50, 0.15))
    bounds = {"joint_pos": 1e-4, "joint_vel": 5e-3, "base_pos_w": 1e-4, "quat_xyzw": 1e-4, "ang_vel_b": 5e-3}
    require(ours, theirs, bounds)
    touching = np.stack([s.foot_contact for s in ours])
    assert 0.2 < touching.mean() < 0.95  # feet do come and go
    assert (touching == np.stack([s.foot_contact for s in theirs])).mean() > 0.99


@pytest.mark.parametrize("name", backends())
def test_go2_as_it_ships_stays_near_on_the_ground(name: str) -> None:
    """With few solver iterations a step, what engines leave unsolved differs; the motion stays the same in kind."""
    robot = load_robot("go2")
    ours, theirs = both(robot, name, {}, waves(robot, 50, 0.15))
    require(ours, theirs, {"joint_pos": 0.03, "base_pos_w": 0.003, "quat_xyzw": 0.003})
    agree = np.stack([s.foot_contact for s in ours]) == np.stack([s.foot_contact for s in theirs])
    assert agree.mean() > 0.97, f"feet agree in {agree.mean():.1%} of the ticks"
