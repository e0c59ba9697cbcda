"""Robust evaluation: every cell of the grid is run with its own disturbance, and the worst one is found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.cli.eval import Args
from robot_rl.cli.eval import run as run_eval
from robot_rl.sim import robustness
from robot_rl.sim.robustness import Cell, Grid, Robustness, run_grid
from robot_rl.sim.task import Task
from robot_rl.sim.world import World

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
GO2, CARTPOLE = POLICIES / "go2_tiny.onnx", POLICIES / "cartpole_tiny.onnx"
SMALL = Grid(friction=(0.4, 0.8), payload_kg=(0.0, 60.0), push=(0.0, 2.0), delay_s=(0.0, 0.01))


@pytest.fixture(autouse=True)
def short(shorten: Callable[[float], None]) -> None:
    shorten(0.6)


def cell(friction: float, falls: float, error: float | None, value: float = 1.0) -> Cell:
    return Cell(friction, 0.0, 0.0, 0.0, {"fall_rate": falls, "lin_vel_error": error, "return_mean": value})


def test_the_worst_cell_falls_most_then_errs_most_then_earns_least() -> None:
    fallen, lost, slow, poor = cell(1, 0.5, 0.1), cell(2, 0.2, 0.4), cell(3, 0.2, 0.3), cell(4, 0.2, 0.4, 0.5)
    assert Robustness((lost, fallen, slow), {}).worst is fallen
    assert Robustness((slow, lost), {}).worst is lost
    assert Robustness((lost, poor), {}).worst is poor
    level, mean, worst = Robustness((fallen, cell(1, 0.1, 0.9), lost), {}).along("friction")[0]
    assert (level, mean, worst) == (1, pytest.approx(0.3), fallen)


def test_every_cell_is_run_and_a_crushing_payload_is_found() -> None:
    """60 kg are four times the robot's own weight."""
    told: list[tuple[int, int]] = []
    found = run_grid(GO2, grid=SMALL, episodes=2, threads=1, progress=lambda done, total: told.append((done, total)))
    assert len(found.cells) == 16 and found.whole["episodes"] == 32
    assert all(c.result["episodes"] == 2 for c in found.cells)
    assert len({(c.friction, c.payload_kg, c.push, c.delay_s) for c in found.cells}) == 16
    assert found.worst.payload_kg == 60.0 and found.worst.result["fall_rate"] == 1.0
    (_, light, _), (_, heavy, _) = found.along("payload_kg")
    assert light < 0.5 and heavy > 0.9
    assert told[-1] == (4 * 30, 4 * 30) and told == sorted(told)


def test_each_copy_gets_the_friction_and_payload_of_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, np.ndarray] = {}
    tasks: list[Task] = []
    run_world = robustness.run_world

    def spy(world: World, *rest: Any) -> Any:
        model = world.physics.batch  # type: ignore[attr-defined]  # the CPU backend
        seen["mass"] = model.expand("body_mass")[:, 1].copy()
        seen["friction"] = model.expand("geom_friction")[:, 0, 0].copy()
        tasks.append(world.task)
        return run_world(world, *rest)

    monkeypatch.setattr(robustness, "run_world", spy)
    grid = Grid(friction=(0.4, 0.8), payload_kg=(0.0, 3.0), push=(0.0, 0.7), delay_s=(0.01,))
    run_grid(GO2, grid=grid, episodes=2, threads=1)
    np.testing.assert_allclose(seen["mass"] - seen["mass"][0], [0, 0, 3, 3, 0, 0, 3, 3], atol=1e-9)
    np.testing.assert_allclose(seen["friction"], [0.4] * 4 + [0.8] * 4)
    assert [task.push.lin_vel if task.push else 0.0 for task in tasks] == [0.0, 0.7]
    assert {task.delay_substeps for task in tasks} == {(2, 2)} and not any(task.noise for task in tasks)


@pytest.mark.parametrize(
    ("policy", "options", "why"),
    [
        (CARTPOLE, {}, "robot 'cartpole' has a fixed base"),
        (GO2, {"episodes": 0}, "episodes is 0"),
        (GO2, {"physics": "bullet"}, "no physics backend 'bullet'; the choices are"),
        (GO2, {"grid": Grid(delay_s=(0.005,))}, r"delay_s 0\.005 in the grid; the choices are 0, 0\.01 and 0\.02"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(policy: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        run_grid(policy, **{"episodes": 1, "threads": 1, **options})


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ({"push": ()}, "no levels of push"),
        ({"friction": (-0.1,)}, r"friction \[-0\.1\]"),
        ({"payload_kg": (float("nan"),)}, "must be finite"),
    ],
)
def test_a_grid_without_sense_is_refused(levels: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Grid(**levels)


def test_the_verb_writes_json_tables_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out" / "robust.html"
    grid = Grid(friction=(0.4, 0.8), payload_kg=(0.0, 60.0), push=(0.0,), delay_s=(0.0,))
    args = Args(GO2, robust=True, grid=grid, episodes=1, threads=1, json=True, html=page)
    assert run_eval(args) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["worst"]["payload_kg"] == 60.0 and len(said["cells"]) == 4 and said["mean"]["episodes"] == 4
    text = page.read_text(encoding="utf-8")
    assert text.count("<td") == 4 and text.count('class="worst"') == 1 and "http" not in text
    assert run_eval(dataclasses.replace(args, json=False, html=None)) == 0
    out = capsys.readouterr().out
    assert "payload kg 60" in out and "worst of 4 cells" in out


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"change": ("payload_kg=1",)}, "leave --change and --disturbed away"),
        ({"physics": "mujoco_cpu,mujoco_gpu"}, "--robust runs in one backend"),
        ({"robust": False, "html": Path("x.html")}, "add --robust"),
    ],
)
def test_options_that_do_not_go_together_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        run_eval(dataclasses.replace(Args(GO2, robust=True), **change))
