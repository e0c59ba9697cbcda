"""The terrain curriculum: who moves up and down by hand-made walks, where copies start, what a snapshot keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.contract.state import RobotState
from robot_rl.sim.backends import make_physics
from robot_rl.sim.curriculum import Course, Curriculum, Walks, by_distance, held
from robot_rl.sim.events import check_events
from robot_rl.sim.terrain import Terrain
from robot_rl.sim.world import World

NAMES = ("lin_vel_x", "lin_vel_y", "ang_vel_z")
MAP = Terrain(kinds=("flat", "stairs_up", "slope_down"), levels=4, cell_m=0.1, tile_m=4.0, platform_m=1.2)


def course(n: int = 6, *, seed: int = 0, **changes: object) -> Course:
    return Course(MAP, Curriculum(**changes), n, 0.1, np.random.default_rng(seed))  # type: ignore[arg-type]


def state(pos: np.ndarray, command: np.ndarray) -> RobotState:
    n = len(pos)
    blank = np.zeros((n, 0))
    quat = np.tile([0.0, 0.0, 0.0, 1.0], (n, 1))
    zeros = np.zeros((n, 3))
    return RobotState(np.zeros(n), blank, blank, blank, quat, zeros, zeros, command, blank, base_pos_w=pos)


def test_the_rule_moves_up_who_left_and_down_who_fell_or_lagged() -> None:
    walks = Walks(
        walked_m=np.array([2.1, 2.1, 1.0, 0.9, 1.0, 0.0]),
        asked_m=np.array([9.0, 1.0, 2.0, 2.0, 1.0, 0.0]),
        fell=np.array([False, True, False, False, True, False]),
        leave_m=2.0,
    )
    np.testing.assert_array_equal(by_distance(walks), [1, 1, 0, -1, -1, 0])


def test_copies_move_between_levels_and_beyond_the_last_anywhere() -> None:
    """Copies walk 3, 0.5, 0 and 3 m under a command of 0.4 m/s for 10 s; the tile's rim is 2 m away."""
    made = course(4, spread_m=0.0)
    made.level[:] = [1, 1, 0, 3]
    start: dict[str, np.ndarray] = {}
    made.place(np.arange(4), start, 0.3)
    goal = start["base_pos_w"] + np.array([[3.0, 0, 0], [0, 0.5, 0], [0, 0, 0], [0, -3.0, 0]])
    for k in range(1, 101):
        pos = start["base_pos_w"] + (goal - start["base_pos_w"]) * k / 100
        made.follow(state(pos, np.tile([0.4, 0.0, 0.0], (4, 1))), NAMES)
    before = made.column.copy()
    made.move_on(np.arange(4), np.zeros(4, bool))
    np.testing.assert_array_equal(made.level[:3], [2, 0, 0])
    assert 0 <= made.level[3] < 4
    np.testing.assert_array_equal(made.column, before)
    again = {int(_top(seed)) for seed in range(40)}
    assert again == {0, 1, 2, 3}  # all levels follow the last


def _top(seed: int) -> int:
    made = course(1, seed=seed, start=(3, 3))
    made.follow(state(np.array([[100.0, 0.0, 0.0]]), np.zeros((1, 3))), NAMES)
    made.move_on(np.array([0]), np.array([False]))
    return int(made.level[0])


def test_who_is_told_to_turn_on_the_spot_is_not_expected_to_leave() -> None:
    """1 m/s with 1 rad/s is a circle 2 m wide, 0.5 m/s askew one of 1 m: after 20 s 2 and 1 m are asked, not 20."""
    made = course(3, spread_m=0.0)
    made.level[:] = 1
    at: dict[str, np.ndarray] = {}
    made.place(np.arange(3), at, 0.3)
    commands = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.3, 0.4, 1.0]])
    still = state(at["base_pos_w"] + [[0.9, 0.0, 0.0]], commands)
    for _ in range(200):
        made.follow(still, NAMES)
    np.testing.assert_allclose(made.snapshot()["asked"], [2.0, 20.0, 1.0], atol=0.01)
    np.testing.assert_allclose(made.snapshot()["walked"], 0.9)
    made.move_on(np.arange(3), np.zeros(3, bool))
    np.testing.assert_array_equal(made.level, [0, 0, 1])  # 0.9 m is less than half of 2 and of 20
    made.place(np.arange(3), at, 0.3)
    for name in ("asked", "walked", "led"):
        np.testing.assert_array_equal(made.snapshot()[name], 0.0)  # a new episode begins at nought


def test_starts_lie_on_the_platform_of_the_copys_own_tile() -> None:
    made = course(60, start=(0, 3))
    assert set(made.level) == {0, 1, 2, 3}
    np.testing.assert_array_equal(np.bincount(made.column), [20, 20, 20])  # equal shares
    at: dict[str, np.ndarray] = {}
    made.place(np.arange(60), at, 0.3)
    middle = made.relief.centre(made.level, made.column)
    assert abs(at["base_pos_w"][:, :2] - middle[:, :2]).max() <= 0.3
    np.testing.assert_allclose(at["base_pos_w"][:, 2], middle[:, 2] + 0.3, atol=1e-9)
    drawn = {"base_pos_w": np.array([[0.0, 0.0, 0.5]])}
    made.place(np.array([7]), drawn, 0.3)
    assert drawn["base_pos_w"][0, 2] == pytest.approx(middle[7, 2] + 0.5)


def test_a_held_curriculum_keeps_its_level_and_kinds() -> None:
    made = Course(MAP, held(MAP, level=2, kinds=("slope_down",)), 5, 0.1, np.random.default_rng(0))
    made.follow(state(np.full((5, 3), 100.0), np.zeros((5, 3))), NAMES)
    made.move_on(np.arange(5), np.zeros(5, bool))
    np.testing.assert_array_equal(made.level, 2)
    np.testing.assert_array_equal(made.column, 2)
    assert made.log == {"curriculum/level": 2.0, "curriculum/slope_down": 2.0}
    spread = Course(MAP, None, 200, 0.1, np.random.default_rng(0))
    assert set(spread.level) == {0, 1, 2, 3} and spread.curriculum.rule is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"start": (0, 4)}, r"levels \(0, 4\); the terrain has 0 to 3"),
        ({"start": (2, 1)}, "the first must be 0 or more"),
        ({"kinds": ("gaps",)}, r"no tile of kind 'gaps' here; the choices are \['flat', 'slope_down', 'stairs_up'\]"),
        ({"spread_m": -1.0}, "must not be negative"),
    ],
)
def test_a_curriculum_that_does_not_fit_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        course(**changes)  # type: ignore[arg-type]


# -- in a world --


def world(n: int, seed: int = 0) -> World:
    task = zoo.load("sim", "tasks/go2_velocity").task()
    task = dataclasses.replace(task, terrain=MAP, curriculum=Curriculum(start=(0, 1)), episode_s=0.4)
    return World(task, make_physics(task, num_envs=n, threads=1), seed=seed)


def test_the_world_tells_who_fell_and_how_far_the_others_came() -> None:
    """In steps of 0.02 s copy 0 falls in the third; copy 1 is cut off by the clock in the fifth."""
    ended: list[Walks] = []

    def note(walks: Walks) -> np.ndarray:
        if len(walks.fell):
            ended.append(walks)
        return np.ones(len(walks.fell), dtype=int)

    steps = iter(range(5))
    task = zoo.load("sim", "tasks/go2_velocity").task()
    falls = {"trap": lambda o: np.array([float(next(steps) == 2), 0.0])}
    map_ = Curriculum(start=(1, 1), rule=note, spread_m=0.0)
    task = dataclasses.replace(task, terrain=MAP, curriculum=map_, episode_s=0.1, dones=falls, push=None)
    made = World(task, make_physics(task, num_envs=2, threads=1), seed=0)
    made.commands.fixed = np.array([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0]])
    made.reset()
    assert made.course is not None
    for _ in range(5):
        made.step(np.zeros((2, 12)))
    assert [walks.fell.tolist() for walks in ended] == [[True], [False]]
    assert [walks.leave_m for walks in ended] == [2.0, 2.0]
    np.testing.assert_allclose([walks.asked_m[0] for walks in ended], [3 * 0.02 * 0.5, 5 * 0.02 * 1.0])
    assert all(0.0 < walks.walked_m[0] < 0.1 for walks in ended)
    assert made.course.level.tolist() == [2, 2]
    made.close()


def test_a_curriculum_without_terrain_is_refused() -> None:
    task = zoo.load("sim", "tasks/go2_velocity").task()
    with pytest.raises(ValueError, match="has a curriculum but no terrain"):
        check_events(dataclasses.replace(task, curriculum=Curriculum()))


def test_a_world_restored_on_terrain_goes_on_bit_for_bit() -> None:
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (60, 6, 12))
    first, second = world(6), world(6, seed=9)
    first.reset()
    second.reset()
    for action in actions[:25]:
        first.step(action)
    second.restore(first.snapshot())
    assert first.course is not None and second.course is not None
    logs = 0
    for action in actions[25:]:
        a, b = first.step(action), second.step(action)
        np.testing.assert_array_equal(a.obs["critic"], b.obs["critic"])
        assert a.log == b.log
        logs += "curriculum/level" in a.log
    assert logs > 0  # episodes ended and copies moved
    np.testing.assert_array_equal(first.course.level, second.course.level)
    first.close()
    second.close()
