"""Maps of rough ground: heights of each kind by hand, the surface that MuJoCo collides with, the height scan."""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np
import pytest
import torch

from robot_rl.contract.state import RobotState
from robot_rl.hardware.robot import load_robot
from robot_rl.sim.scene import build_model, lay_terrain
from robot_rl.sim.terrain import Relief, Terrain, height_scan, make_relief, scan_reflection
from robot_rl.sim.terrain_kinds import KINDS

HARD = Terrain(kinds=("flat",), levels=1, difficulty=(1.0, 1.0))
SMALL = Terrain(
    kinds=("stairs_up", "slope_down", "rough", "blocks"), levels=2, tile_m=3.0, platform_m=1.0, difficulty=(0.2, 1.0)
)


def one(kind: str, **changes: object) -> Relief:
    """A map of one tile at full difficulty, its middle at the origin: 5 m, platform 1.6 m."""
    return make_relief(dataclasses.replace(HARD, kinds=(kind,), **changes))


def along(relief: Relief, *x: float, y: float = 0.0) -> np.ndarray:
    return relief.height(np.stack((np.array(x), np.full(len(x), y)), axis=-1))


def test_a_slope_rises_by_its_grade_between_platform_and_rim() -> None:
    """0.4 of grade over 2.5 - 0.8 = 1.7 m: the platform is 0.68 m from the rim's height."""
    np.testing.assert_allclose(
        along(one("slope_down"), 0.0, 0.8, 1.8, 2.3, 2.5), [0.68, 0.68, 0.28, 0.08, 0], atol=1e-6
    )
    np.testing.assert_allclose(along(one("slope_up"), 0.0, -1.8, -2.5, y=1.0), [-0.6, -0.28, 0.0], atol=1e-6)


def test_stairs_have_equal_steps_and_treads() -> None:
    """1.7 m of run hold 5 treads of 0.3 m; risers of 0.16 m stand at 0.8, 1.1, 1.4, 1.7, 2.0 m and end at 0."""
    treads = (0.0, 0.8, 0.9, 1.05, 1.2, 1.5, 1.8, 2.1, 2.4)
    down = np.array([5, 5, 4, 4, 3, 2, 1, 0, 0]) * 0.16
    np.testing.assert_allclose(along(one("stairs_down"), *treads), down, atol=1e-6)
    np.testing.assert_allclose(along(one("stairs_up"), *treads), -down, atol=1e-6)
    assert along(one("stairs_down"), 0.825)[0] == pytest.approx(0.72)  # half way down a riser that is one cell wide


def test_difficulty_scales_from_the_first_level_to_the_last() -> None:
    relief = make_relief(Terrain(kinds=("stairs_down",), levels=3))
    middles = relief.centre(np.arange(3), np.zeros(3, int))
    np.testing.assert_allclose(middles, [[-5, 0, 0.15], [0, 0, 0.475], [5, 0, 0.8]], atol=1e-6)  # 5 x 0.03, 0.095, 0.16


def test_trenches_are_as_wide_as_said_and_stones_stand_between_pits() -> None:
    """A trench begins 0.3 m beyond the platform and is 0.4 m wide from rim to rim."""
    gaps, pit = one("gaps"), -0.5
    np.testing.assert_allclose(along(gaps, 0.8, 1.1, 1.15, 1.3, 1.45, 1.5, 1.9), [0, 0, pit, pit, pit, 0, 0], atol=1e-6)
    stones = one("stones").heights
    assert set(np.unique(stones)) == {np.float32(-0.5), np.float32(0.0)}
    row = stones[10] if (stones[10] == 0.0).mean() > 0.3 else stones[14]  # one of two rows 0.2 m apart crosses stones
    runs = np.diff(np.flatnonzero(np.diff(row) != 0.0))
    assert set(runs[1:-1]) == {4, 7}  # 4 samples of pit make a gap of 5 cells, 0.25 m; 7 samples make a stone of 0.3 m


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_tile_of_any_kind_has_a_level_platform_and_a_rim_at_zero(kind: str) -> None:
    heights = one(kind).heights
    assert np.all(heights[[0, -1]] == 0.0) and np.all(heights[:, [0, -1]] == 0.0)
    assert np.ptp(heights[34:67, 34:67]) == 0.0
    assert np.isfinite(heights).all() and abs(heights).max() < 1.0
    assert (np.ptp(heights) > 0.04) == (kind != "flat")


def test_equal_terrains_make_equal_maps_and_seeds_other_ones() -> None:
    again = make_relief.__wrapped__(SMALL)
    np.testing.assert_array_equal(again.heights, make_relief(SMALL).heights)
    other = make_relief(dataclasses.replace(SMALL, seed=1)).heights
    n = SMALL.cells
    np.testing.assert_array_equal(other[:n], again.heights[:n])  # stairs are not drawn
    assert (other[2 * n : 3 * n] != again.heights[2 * n : 3 * n]).mean() > 0.5
    more = make_relief(dataclasses.replace(SMALL, kinds=(*SMALL.kinds, "gaps")))
    np.testing.assert_array_equal(more.heights[: 4 * n], again.heights[: 4 * n])  # a tile depends on its own place


def test_ground_under_a_body_closes_gaps_and_levels_stairs() -> None:
    gaps, stairs = one("gaps"), one("stairs_down")
    points = np.stack((np.linspace(-2.4, 2.4, 200), np.zeros(200)), -1)
    assert gaps.height(points).min() == pytest.approx(-0.5) and abs(gaps.ground(points)).max() < 1e-6
    x = np.linspace(1.1, 1.8, 50)
    trend = 0.8 - 0.16 * ((x - 0.8) / 0.3 + 0.5)
    assert abs(stairs.ground(np.stack((x, 0 * x), -1)) - trend).max() < 0.06  # steps alone deviate by 0.08
    assert stairs.ground(np.array([0.0, 0.0])) == pytest.approx(0.8, abs=1e-6)


def test_beyond_the_map_it_is_level_and_a_lost_copy_does_not_break_the_look_up() -> None:
    far = np.array([[100.0, 0.0], [0.0, -9.0], [np.nan, np.inf]])
    np.testing.assert_allclose(one("stairs_up").height(far)[:2], 0.0, atol=1e-6)
    assert np.isfinite(one("stairs_up").height(far)).all()


def test_numpy_and_torch_look_up_the_same_heights() -> None:
    points = np.random.default_rng(0).uniform(-4, 4, (50, 3, 2))
    relief = make_relief(SMALL)
    for look_up in (relief.height, relief.ground):
        expected = look_up(points)
        assert expected.shape == (50, 3) and np.ptp(expected) > 0.1
        np.testing.assert_allclose(look_up(torch.tensor(points)).numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(look_up(torch.tensor(points).float()).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kinds": ("lava",)}, r"\['lava'\]; the choices are \['flat', 'rough'.*'gaps'\]"),
        ({"kinds": ()}, "none; the choices are"),
        ({"levels": 0}, "0 levels; it must have at least 1"),
        ({"tile_m": 5.02}, "even number of cells"),
        ({"cell_m": 0.0}, "even number of cells"),
        ({"platform_m": 5.0}, "between 0 and tile_m 5.0"),
        ({"difficulty": (0.0, 1.5)}, r"must lie in \[0, 1\]"),
        ({"levels": 500, "kinds": ("flat",) * 100}, "more than 4000000; take larger cells"),
    ],
)
def test_a_terrain_that_cannot_be_is_refused_with_the_choices(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(HARD, **changes)


# -- the surface in MuJoCo --


@pytest.fixture(scope="module")
def field() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = build_model(load_robot("go2"), terrain=SMALL)
    data = mujoco.MjData(model)
    data.qpos[2] = 50.0
    mujoco.mj_forward(model, data)
    return model, data


def test_the_look_up_is_the_surface_that_a_ray_hits(field: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    """Float32 heights and MuJoCo's own scaling of them: 1e-5 m, also on steep faces and beyond the map."""
    points = np.random.default_rng(3).uniform(-7.0, 7.0, (400, 2))
    seen = [_ray(*field, point) for point in points]
    np.testing.assert_allclose(make_relief(SMALL).height(points), seen, atol=2e-5)


def test_a_ball_rests_on_the_surface_of_every_tile() -> None:
    """A ball that can only fall comes to rest with its lowest point on the platform, at most 2 mm off."""
    relief = make_relief(SMALL)
    spec = mujoco.MjSpec.from_string("<mujoco><worldbody/></mujoco>")
    lay_terrain(spec, relief)
    ball = spec.worldbody.add_body(name="ball")
    ball.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 0, 1])
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.022, 0, 0], density=5000)
    model = spec.compile()
    data = mujoco.MjData(model)
    centres = relief.centre(*np.divmod(np.arange(8), 4)).reshape(-1, 3)
    for x, y, z in [*centres, [20.0, 0.0, 0.0]]:
        model.body_pos[1] = x + 0.3, y - 0.2, z + 0.1
        mujoco.mj_resetData(model, data)
        mujoco.mj_step(model, data, 500)
        assert abs(data.qvel[0]) < 1e-3
        assert data.xpos[1, 2] - 0.022 == pytest.approx(z, abs=2e-3)


def _ray(model: mujoco.MjModel, data: mujoco.MjData, point: np.ndarray) -> float:
    hit = np.zeros(1, dtype=np.int32)
    start = np.array([point[0], point[1], 10.0])
    return 10.0 - mujoco.mj_ray(model, data, start, np.array([0.0, 0.0, -1.0]), None, 1, -1, hit)


# -- the scan --


def state_at(x: float, y: float, z: float, yaw: float, pitch: float = 0.0) -> RobotState:
    cy, sy, cp, sp = np.cos(yaw / 2), np.sin(yaw / 2), np.cos(pitch / 2), np.sin(pitch / 2)
    quat = np.array([[-sy * sp, cy * sp, sy * cp, cy * cp]])
    blank = np.zeros((1, 0))
    return RobotState(
        np.zeros(1), blank, blank, blank, quat, np.zeros((1, 3)), np.zeros((1, 3)), blank, blank,
        base_pos_w=np.array([[x, y, z]]),
    )  # fmt: skip


def test_the_scan_sees_the_stair_ahead_and_turns_with_the_yaw() -> None:
    """At x = 0.5 the points 0.8 m behind, below and 0.8 m ahead are over heights of 0.8, 0.8 and 0.48 m."""
    scan = height_scan(one("stairs_down"), length_m=1.6, width_m=0.0, points=(3, 1), above_m=0.3)
    contract = None
    base = 0.8 + 0.3
    read = lambda **at: scan(state_at(z=base, **at), contract)[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(read(x=0.5, y=0.0, yaw=0.0), [0.0, 0.0, 0.32], atol=1e-6)  # 1.3 m: two risers down
    np.testing.assert_allclose(read(x=0.5, y=0.0, yaw=np.pi), [0.32, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(read(x=0.0, y=0.5, yaw=np.pi / 2), [0.0, 0.0, 0.32], atol=1e-6)
    np.testing.assert_allclose(read(x=0.5, y=0.0, yaw=np.pi / 2), [0.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(read(x=0.5, y=0.0, yaw=0.0, pitch=0.4), read(x=0.5, y=0.0, yaw=0.0), atol=1e-6)


def test_the_scan_lists_points_from_rear_right_to_front_left_and_is_clipped() -> None:
    relief = one("stairs_down")
    scan = height_scan(relief, length_m=2.0, width_m=1.0, points=(3, 3), above_m=0.0)
    found = scan(state_at(1.2, 0.3, 0.9, 0.0), None)  # type: ignore[arg-type]
    by_hand = [
        [0.9 - float(relief.height(np.array([1.2 + dx, 0.3 + dy]))) for dy in (-0.5, 0, 0.5)] for dx in (-1, 0, 1)
    ]
    np.testing.assert_allclose(found, np.array(by_hand).reshape(1, 9), atol=1e-9)
    turned = (1.2 + 0.3j) + np.exp(0.7j) * np.array([[dx + 1j * dy for dy in (-0.5, 0, 0.5)] for dx in (-1, 0, 1)])
    under = relief.height(np.stack((turned.real, turned.imag), -1)).reshape(1, 9)
    np.testing.assert_allclose(scan(state_at(1.2, 0.3, 0.9, 0.7), None), 0.9 - under, atol=1e-9)  # type: ignore[arg-type]
    assert np.abs(found - (0.9 - under)).max() > 0.1
    assert np.all(scan(state_at(0.0, 0.0, 9.0, 0.0), None) == 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one point"):
        height_scan(relief, points=(0, 3))


def test_a_mirrored_scan_is_that_of_the_mirrored_robot_on_mirrored_ground() -> None:
    """Ground that is steeper on the left than on the right, with a bend that lies on a line of the map."""
    relief = one("stairs_down")
    y = np.linspace(-1.0, 1.0, relief.heights.shape[0])[:, None]
    ground = np.broadcast_to(np.where(y > 0.0, 0.9 * y, 0.2 * y), relief.heights.shape).astype(np.float32)
    left = dataclasses.replace(relief, heights=ground, _on_device={})
    right = dataclasses.replace(relief, heights=ground[::-1].copy(), _on_device={})
    seen = height_scan(left)(state_at(0.3, 0.2, 0.5, 0.6), None)  # type: ignore[arg-type]
    image = height_scan(right)(state_at(0.3, -0.2, 0.5, -0.6), None)  # type: ignore[arg-type]
    assert np.abs(seen - image).max() > 0.05
    np.testing.assert_allclose(scan_reflection()(seen), image, atol=1e-6)
