"""Reward terms against their closed forms, in NumPy and in torch alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from robot_rl import zoo
from robot_rl.contract.sample import sample_states
from robot_rl.hardware.robot import load_robot
from robot_rl.sim import terms as t
from robot_rl.sim.task import Outcome, OutcomeTerm

GO2 = load_robot("go2")
CONTRACT = zoo.load("sim", "tasks/go2_velocity").task().contract(GO2)


def outcome(**changes: np.ndarray) -> Outcome:
    """Two environments; ``changes`` replace fields of the state after the step or of the outcome."""
    states = [sample_states(CONTRACT, GO2.joints, 2, np.random.default_rng(seed)) for seed in (0, 1)]
    for state in states:
        state.lin_vel_b, state.base_pos_w = np.zeros((2, 3)), np.full((2, 3), 0.3)
        state.foot_contact, state.command = np.ones((2, 4)), np.tile([1.0, 0.0, 0.0], (2, 1))
    made = Outcome(*states, np.zeros((2, 12)), 0.02, CONTRACT)
    made.foot_air_s, made.foot_pos_w, made.foot_vel_w = np.zeros((2, 4)), np.zeros((2, 4, 3)), np.zeros((2, 4, 3))
    for name, value in changes.items():
        setattr(made.after if hasattr(made.after, name) else made, name, value)
    return made


def as_torch(o: Outcome) -> Outcome:
    def turn(part):
        names = [f.name for f in dataclasses.fields(part)]
        arrays = {n: torch.from_numpy(v) for n in names if isinstance(v := getattr(part, n), np.ndarray)}
        return dataclasses.replace(part, **arrays)

    return turn(dataclasses.replace(o, before=turn(o.before), after=turn(o.after)))


def rows(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, dtype=np.float64)


FORWARD, STAND = (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)
AIR = rows((0.3, 0.0, 0.0, 0.0), (0.9, 0.05, 0.0, 0.0))
CASES: dict[str, tuple[OutcomeTerm, dict[str, np.ndarray], tuple[float, float]]] = {
    "tracking is 1 on the command, exp(-(e/sigma)^2) off it": (
        t.track_lin_vel_xy(0.5), {"lin_vel_b": rows((1.0, 0.0, 9.0), (0.5, 0.0, 0.0))}, (1.0, np.exp(-1.0)),
    ),
    "progress stops counting at the commanded speed": (
        t.progress, {"lin_vel_b": rows((2.0, 5.0, 0.0), (0.4, 0.0, 0.0))}, (1.0, 0.4),
    ),
    "progress is negative backwards, 0 when standing": (
        t.progress,
        {"lin_vel_b": rows((-0.3, 0.0, 0.0), (0.4, 0.0, 0.0)), "command": rows(FORWARD, STAND)},
        (-0.3, 0.0),
    ),
    "air time counts above its threshold, up to half a second, never below": (
        t.feet_air_time(0.1), {"foot_air_s": AIR}, (0.2 / 0.02, 0.4 / 0.02),
    ),
    "air time counts while told to move only": (
        t.feet_air_time(0.1), {"foot_air_s": AIR, "command": rows(FORWARD, STAND)}, (0.2 / 0.02, 0.0),
    ),
    "a foot slips on the ground only": (
        t.feet_slip,
        {"foot_vel_w": np.full((2, 4, 3), 2.0), "foot_contact": rows((1, 0, 0, 0), (0, 0, 0, 0))},
        (8.0, 0.0),
    ),
    "acceleration is the change of velocity over the control period": (
        t.joint_acc, {"joint_vel": np.zeros((2, 12))}, (-1.0, -1.0),
    ),
    "power is the sum of |torque * velocity|": (
        t.joint_power, {"joint_vel": np.full((2, 12), -2.0), "joint_effort": np.full((2, 12), 3.0)}, (72.0, 72.0),
    ),
    "a step ends where the base is low": (
        t.fallen(3.0, 0.2), {"base_pos_w": rows((0, 0, 0.19), (0, 0, 0.21))}, (1.0, 0.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_closed_form(name: str) -> None:
    term, changes, expected = CASES[name]
    o = outcome(**changes)
    if term is t.joint_acc:
        expected = tuple(((o.before.joint_vel / 0.02) ** 2).sum(-1))
    assert term(o) == pytest.approx(expected, rel=1e-9, abs=1e-6)


TERMS = {name: reward.term for name, reward in zoo.load("sim", "tasks/go2_velocity").rewards().items()}


@pytest.mark.parametrize("name", TERMS)
def test_torch_gives_what_numpy_gives(name: str) -> None:
    o, term = outcome(foot_air_s=AIR, lin_vel_b=rows((0.5, 0.1, 0.2), (0.0, 0.3, 0.0))), TERMS[name]
    assert term(as_torch(o)).numpy() == pytest.approx(term(o), rel=1e-9, abs=1e-12)
