"""Constraints as terminations: the paper's arithmetic by hand, NumPy and torch alike, and the world that uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.hardware.robot import Robot
from robot_rl.learn import checkpoint
from robot_rl.sim import constraints as c
from robot_rl.sim import terms as t
from robot_rl.sim.cat import (
    BELOW_ONE,
    FLOOR,
    LEAST_SHARE,
    PATIENCE,
    Cat,
    follow,
    probability,
    scheduled,
    violations,
)
from robot_rl.sim.mujoco_cpu import MujocoCpu
from robot_rl.sim.task import Constraint, Constraints, Outcome, Reward
from robot_rl.sim.world import World
from tests.sim.hopper import hopper_task

ARRAYS: list[Callable[[Any], Any]] = [np.array, torch.tensor]


def outcome(n: int, columns: int = 1, array: Callable[[Any], Any] = np.array) -> Any:
    """Something that margins below read their numbers from."""
    return SimpleNamespace(action=array([[0.0]] * n), margin=array([[0.0] * columns] * n))


def read(o: Any) -> Any:
    return o.margin


def cat_of(p_max: float = 0.25, **options: Any) -> Cat:
    return Cat(Constraints({"speed": Constraint(read, p_max)}, ramp_steps=0, **options))


def step(cat: Cat, margin: list[list[float]], array: Callable[[Any], Any] = np.array) -> list[float]:
    o = outcome(len(margin), array=array)
    o.margin = array(margin)
    return cat.chance(o).tolist()


@pytest.mark.parametrize("array", ARRAYS)
def test_the_probability_grows_with_the_violation_up_to_the_running_maximum(array: Callable[[Any], Any]) -> None:
    """Margins -1, 0, 0.5, 2 under a maximum of 2 give 0, 0, 0.25, 1 of p_max; then 0.95 * 2 + 0.05 * 1 = 1.95."""
    cat = cat_of(0.25)
    assert step(cat, [[-1.0], [0.0], [0.5], [2.0]], array) == [0.0, 0.0, 0.0625, 0.25]
    assert cat.peak is not None and cat.peak.tolist() == [2.0]
    assert step(cat, [[1.0]], array) == pytest.approx([0.25 / 1.95])
    assert cat.peak.tolist() == pytest.approx([1.95])


@pytest.mark.parametrize("p_max", [0.25, 1.0])
def test_a_yes_or_no_constraint_gives_p_max_exactly_and_none_where_it_holds(p_max: float) -> None:
    one = np.array([[0.0], [1.0]])
    assert probability(one, follow(None, one, 0.95), np.array([p_max])).ravel().tolist() == [0.0, p_max]
    assert step(cat_of(p_max), [[0.0], [-3.0]]) == [0.0, 0.0]


def test_the_running_maximum_never_falls_below_its_floor() -> None:
    cat = cat_of(0.25, tau=0.0)
    step(cat, [[-5.0]])
    assert cat.peak is not None and cat.peak.tolist() == [FLOOR]
    assert step(cat, [[0.1]]) == [0.25]  # the first small violation is the worst of its population


def test_delta_is_the_largest_over_columns_and_terms() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(32, 5))
    parts = {f"c{i}": Constraint(lambda o, i=i: o.margin[:, [i]], 0.1 * (i + 1)) for i in range(5)}

    def delta(terms: dict[str, Constraint]) -> np.ndarray:
        cat = Cat(Constraints(terms, ramp_steps=0))
        cat.peak = np.ones(5)
        o = outcome(32)
        o.margin = margin
        return cat.chance(o)

    whole = delta(parts)
    expected = np.maximum(0, np.clip(margin / (0.95 + 0.05 * margin.max(0)), 0, 1) * 0.1 * np.arange(1, 6)).max(1)
    np.testing.assert_allclose(whole, expected)
    assert ((whole >= 0) & (whole <= 0.5)).all()


def test_delta_does_not_depend_on_the_order_of_terms_and_grows_with_p_max() -> None:
    rng = np.random.default_rng(1)
    margin = rng.normal(size=(64, 3))
    terms = {f"c{i}": Constraint(lambda o, i=i: o.margin[:, [i]], 0.2 * (i + 1)) for i in range(3)}

    def delta(constraints: Constraints) -> np.ndarray:
        o = outcome(64)
        o.margin = margin
        return Cat(constraints).chance(o)

    one = delta(Constraints(terms, ramp_steps=0))
    np.testing.assert_array_equal(one, delta(Constraints(dict(reversed(terms.items())), ramp_steps=0)))
    more = delta(Constraints(terms | {"c0": dataclasses.replace(terms["c0"], p_max=0.9)}, ramp_steps=0))
    assert (more >= one).all() and more.max() > one.max()


def test_a_margin_that_is_not_a_number_is_the_worst_violation_and_spoils_no_maximum() -> None:
    cat = cat_of(0.25)
    assert step(cat, [[float("nan")], [2.0], [float("inf")], [1.0]]) == [0.25, 0.25, 0.25, 0.125]
    assert cat.peak is not None and cat.peak.tolist() == [2.0]
    assert cat.log["violation/speed"] == 1.0


def test_the_chance_rises_linearly_in_the_expected_lifetime() -> None:
    """From 20 steps to 4: half way it is 12."""
    paper = Constraints({"speed": Constraint(read)}, ramp_steps=10)
    path = [scheduled(0.25, paper, steps) for steps in range(12)]
    assert (path[0], path[5], path[10], path[11]) == pytest.approx((0.05, 1 / 12, 0.25, 0.25))
    assert path == sorted(path)
    assert scheduled(1.0, paper, 0) == 1.0  # hard
    assert scheduled(0.02, paper, 0) == pytest.approx(0.02)  # softer than the start
    assert scheduled(0.0, paper, 5) == 0.0


@pytest.mark.parametrize(("violating", "way"), [(1, -1.0), (2, 0.0), (4, 1.0)])
def test_a_chance_falls_while_fewer_violate_than_are_allowed_and_rises_while_more_do(
    violating: int, way: float
) -> None:
    """With 4 environments 2 may: 1 is half too few, 4 are twice too many."""
    cat = Cat(Constraints({"speed": Constraint(read, 0.4, allowed=0.5), "other": Constraint(read, 0.4)}, ramp_steps=0))
    cat.share[:] = 0.5
    margins = [[1.0]] * violating + [[-1.0]] * (4 - violating)
    assert step(cat, margins)[0] == pytest.approx(0.2)
    for _ in range(99):
        step(cat, margins)
    gap = violating / 4 / 0.5 - 1.0
    assert cat.share.tolist() == pytest.approx([0.5 * np.exp(100 * gap / PATIENCE), 0.5])
    assert np.sign(cat.share[0] - 0.5) == way
    assert cat.log["cat/share_speed"] == pytest.approx(cat.share[0]) and "cat/share_other" not in cat.log


def test_shares_have_bounds_and_hard_constraints_none() -> None:
    cat = Cat(Constraints({"a": Constraint(read, 0.4, allowed=0.5), "b": Constraint(read, 1.0, allowed=0.5)}))
    cat.share[:] = LEAST_SHARE + 1e-9, 1.0
    for _ in range(3):
        step(cat, [[-1.0]])
    assert cat.share.tolist() == [LEAST_SHARE, 1.0]


def test_steps_move_the_curriculum() -> None:
    cat = Cat(Constraints({"speed": Constraint(read, 0.25)}, ramp_steps=4))
    deltas = [step(cat, [[1.0]])[0] for _ in range(6)]
    assert deltas == pytest.approx([0.05, 1 / 16, 1 / 12, 1 / 8, 0.25, 0.25])
    assert cat.log["cat/p_max_soft"] == pytest.approx(0.25)


def test_the_state_survives_a_checkpoint(tmp_path: Path) -> None:
    cat, again = cat_of(), cat_of()
    step(cat, [[2.0], [0.3]])
    checkpoint.save(tmp_path / "0.npz", cat.snapshot())
    again.restore(checkpoint.load(tmp_path / "0.npz"))
    assert (again.steps, again.peak.tolist()) == (1, [2.0])  # type: ignore[union-attr]
    assert step(again, [[1.0]]) == step(cat, [[1.0]])
    other = Cat(Constraints({"torque": Constraint(read)}))
    with pytest.raises(ValueError, match=r"has the constraints \['speed'\]; the task has \['torque'\]"):
        other.restore(cat.snapshot())


def test_counting_violations_needs_and_moves_no_maximum() -> None:
    cat = cat_of()
    step(cat, [[2.0], [-1.0]])
    before = cat.snapshot()
    o = outcome(3)
    o.margin = np.array([[9.0], [0.0], [-1.0]])
    assert violations(cat.constraints, o)["speed"].tolist() == [True, False, False]
    assert cat.snapshot() == before


def of(term: Constraint, **settings: Any) -> Constraints:
    return Constraints({"a": term}, **settings)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: of(Constraint(read, 1.2)), r"constraint 'a': p_max is 1\.2; it must lie in \[0, 1\]"),
        (lambda: of(Constraint(read, -0.1)), r"p_max is -0\.1"),
        (lambda: of(Constraint(read, float("nan"))), "p_max is nan"),
        (lambda: Constraints({}), "no term"),
        (lambda: of(Constraint(read), tau=1.0), r"tau is 1\.0"),
        (lambda: of(Constraint(read), p_start=0.0), r"p_start is 0\.0"),
        (lambda: of(Constraint(read), ramp_steps=-1), "ramp_steps is -1"),
        (
            lambda: of(Constraint(read, allowed=0.0)),
            r"constraint 'a': allowed is 0\.0; it must lie in \(0, 1\), or be None",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


# -- the incentive --


def future(reward: float, penalty: float, delta: float, value: float, *, split: bool) -> float:
    """What a violating step is worth: its reward and 0.99 of the value that survives."""
    now = reward * (1 - delta) + penalty if split else (reward + penalty) * (1 - delta)
    return now + 0.99 * (1 - delta) * value


def test_scaling_only_gains_never_pays_for_a_violation_and_scaling_the_sum_does() -> None:
    grid = [(n, v, d) for n in (0.0, -8.0, -10.0) for v in (0.0, 2.0, 60.0) for d in (0.5, 1.0)]
    gain = {
        split: [future(1.0, n, d, v, split=split) - future(1.0, n, 0.0, v, split=split) for n, v, d in grid]
        for split in (True, False)
    }
    assert max(gain[True]) <= 0.0
    assert max(gain[False]) > 0.0


# -- the world --


def leg_low(o: Outcome) -> Any:
    """Violated by 1 wherever the action is positive, for the second of two copies."""
    return np.where(o.action > 0.0, 1.0, -1.0)


def world_of(hopper: Robot, n: int = 2, *, p_max: float = 0.25, **changes: Any) -> World:
    task = dataclasses.replace(
        hopper_task(), constraints=Constraints({"push": Constraint(leg_low, p_max)}, ramp_steps=0), **changes
    )
    return World(task, MujocoCpu(hopper, n, threads=1), seed=0)


PENALISED = {"alive": Reward(t.alive, 1.0), "tax": Reward(t.alive, -0.5)}


def test_only_gains_of_a_violating_step_shrink_and_the_chance_is_handed_on(hopper: Robot) -> None:
    """A gain of 1 and a penalty of 0.5 per second for 0.02 s, delta 0.25: (0.75 - 0.5) * 0.02."""
    world = world_of(hopper, rewards=PENALISED)
    world.reset()
    s = world.step(np.array([[-0.1], [0.1]]))
    assert s.terminated.tolist() == [0.0, 0.25] and s.terminated.dtype == np.float32
    assert s.reward.tolist() == pytest.approx([0.5 * 0.02, 0.25 * 0.02])
    assert s.log["violation/push"] == 0.5 and s.log["cat/chance"] == 0.125


def test_constraints_change_no_episode_not_even_hard_ones(hopper: Robot) -> None:
    """The clock truncates at step 25 as ever; a hard violation leaves no more than one float of the future."""
    world = world_of(hopper, p_max=1.0)
    world.reset()
    steps = [world.step(np.array([[-0.1], [0.1]])) for _ in range(25)]
    assert [s.truncated.tolist() for s in steps] == [[False, False]] * 24 + [[True, True]]
    assert all(s.terminated.tolist() == [0.0, np.float32(BELOW_ONE)] for s in steps)
    assert steps[-1].log["episode/length_s"] == pytest.approx(0.5)
    assert 1.0 - BELOW_ONE < 1e-7


def test_a_real_end_overrides_the_chance(hopper: Robot) -> None:
    world = world_of(hopper, dones={"end": lambda o: np.array([0.0, 1.0])})
    world.reset()
    s = world.step(np.array([[0.1], [0.1]]))
    assert s.terminated.tolist() == [0.25, 1.0] and not s.truncated.any()


def test_without_violation_nothing_changes(hopper: Robot) -> None:
    free, bound = World(hopper_task(), MujocoCpu(hopper, 2, threads=1), seed=0), world_of(hopper)
    free.reset()
    bound.reset()
    for _ in range(30):
        a, b = free.step(np.full((2, 1), -0.3)), bound.step(np.full((2, 1), -0.3))
        np.testing.assert_array_equal(a.reward, b.reward)
        np.testing.assert_array_equal(a.terminated, b.terminated)
    assert free.cat is None


def test_a_constraint_that_does_not_fit_the_robot_is_refused_when_the_world_is_built(hopper: Robot) -> None:
    def build(margin: Any) -> World:
        task = dataclasses.replace(hopper_task(), constraints=Constraints({"x": Constraint(margin)}))
        return World(task, MujocoCpu(hopper, 2, threads=1), seed=0)

    with pytest.raises(ValueError, match=r"joint 'FR_\*', which fits none of the robot's joints \['leg'\]"):
        build(c.joint_velocity(1.0, ("FR_*",)))
    with pytest.raises(ValueError, match=r"'x' gives shape \(2,\); a margin is \(environments, columns\)"):
        build(t.alive)
