"""The comparison of recipes: what is trained, what is reused, what the card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot_rl import zoo
from robot_rl.cli import compare, train
from robot_rl.cli.measured import cards, curves
from tests.sim.conftest import ShortTask

RELEASED = "go2_walk_ppo"


def rows() -> list[dict[str, object]]:
    plain = {"policy": "p", "sha256": "0" * 64, "yaw_rate_error": None, "return_mean": 10.0}
    return [
        {"recipe": "a", "seed": 0, "fall_rate": 0.0, "lin_vel_error": 0.1, "violations": {"x": 0.2, "y": 0.0}, **plain},
        {"recipe": "b", "seed": 0, "fall_rate": 0.5, "lin_vel_error": 0.3, "violations": {"x": 0.0, "y": 0.1}, **plain},
        {"recipe": "a", "seed": 1, "fall_rate": 0.1, "lin_vel_error": 0.3, "violations": {"x": 0.4, "y": 0.1}, **plain},
    ]


def test_means_and_spreads_are_over_seeds() -> None:
    """0.2 and 0.4 are 0.3 with a deviation of sqrt(0.02); one seed has none; what was not measured is absent."""
    means = cards.aggregate(rows())
    assert means["a"]["violation/x"] == {"mean": pytest.approx(0.3), "std": pytest.approx(0.02**0.5)}
    assert means["b"]["lin_vel_error"] == {"mean": 0.3, "std": None}
    assert "yaw_rate_error" not in means["a"]


def test_the_card_has_a_column_per_recipe(tmp_path: Path) -> None:
    about = {"task": "t", "episodes": 7, "command": "robot-rl compare a b"}
    paths = cards.write(tmp_path / "new", about, rows())
    assert [p.name for p in paths] == ["compare.json", "compare.md", "compare.svg"]
    text = paths[1].read_text(encoding="utf-8")
    assert "# b against a" in text and "| | a | b |" in text and "`robot-rl compare a b`" in text
    assert "| x violated [%] | 30.00 ± 14.14 | 0.00 |" in text
    assert "| falls [%] | 5.00 ± 7.07 | 50.00 |" in text
    assert "| mean of all limits violated [%] | 17.50 ± 10.61 | 5.00 |" in text
    assert json.loads(paths[0].read_text(encoding="utf-8"))["policies"] == rows()
    assert paths[2].read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in paths)


def test_a_recipe_is_trained_once_and_a_ready_policy_never(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = zoo.load

    def load_short(room: str, name: str) -> Any:
        return ShortTask(load(room, name), 3.0) if name.startswith("tasks/") else load(room, name)

    monkeypatch.setattr(zoo, "load", load_short)
    args = compare.Args(
        ("go2_walk_ppo", "go2_walk_cat"), seeds=(0,), use=(f"go2_walk_ppo:0={RELEASED}",), episodes=2,
        total_steps=10_000, out=tmp_path, threads=1, progress=False,
    )  # fmt: skip
    assert compare.run(args) == 0
    policy = tmp_path / "go2_walk_cat" / "seed0" / "policy.onnx"
    made = policy.stat().st_mtime_ns
    assert not (tmp_path / "go2_walk_ppo").exists()
    found = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert found["task"] == "go2_velocity_cat"
    assert [(p["recipe"], set(p["violations"]) >= {"knee_velocity", "foot_force"}) for p in found["policies"]] == [
        ("go2_walk_ppo", True),
        ("go2_walk_cat", True),
    ]
    assert 0.02 < found["policies"][0]["violations"]["knee_velocity"] < 0.5  # the walker breaks it, as its card says
    capsys.readouterr()
    assert compare.run(args) == 0 and policy.stat().st_mtime_ns == made
    assert str(tmp_path / "compare.md") in capsys.readouterr().out


def test_a_training_that_was_stopped_ends_the_comparison_and_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(args: train.Args) -> int:
        assert args.out is not None
        args.out.mkdir(parents=True)
        (args.out / "policy.onnx").touch()  # a stopped training exports what it has
        return 130

    monkeypatch.setattr(train, "run", stopped)
    assert compare.run(compare.Args(("go2_walk_cat",), seeds=(0, 1), out=tmp_path)) == 130
    assert [p.name for p in tmp_path.rglob("*")] == ["go2_walk_cat", "seed0"]


@pytest.mark.parametrize("steps", [1000, None])
def test_a_run_of_other_steps_is_not_passed_off_as_what_was_asked(tmp_path: Path, steps: int | None) -> None:
    kept = tmp_path / "go2_walk_cat" / "seed0"
    kept.mkdir(parents=True)
    (kept / "policy.onnx").touch()
    (kept / "run.json").write_text(json.dumps({"config": {"total_steps": 600}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"seed0 holds a run of 600 total steps, not of \d+: ask for"):
        compare.run(compare.Args(("go2_walk_cat",), seeds=(0,), total_steps=steps, out=tmp_path))
    compare.check_steps(600, kept)


def metrics(cost: float, steps: int) -> str:
    """A run of ten iterations whose return climbs to 10; the first has ended no episode."""
    rows = [
        {
            "iteration": i,
            "steps": steps * i // 10,
            "policy/continuity_cost": cost,
            "violation/x": 0.5,
            "violation/y": 0.1,
        }
        | ({"episode/return": float(i)} if i > 1 else {})
        for i in range(1, 11)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_curves_are_means_over_what_all_seeds_cover(tmp_path: Path) -> None:
    for name, cost, steps in (("a", 2.0, 1000), ("b", 4.0, 500)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(metrics(cost, steps), encoding="utf-8")
    a, b = (curves.read_curves(tmp_path / name) for name in "ab")
    assert curves.read_curves(tmp_path / "none") == {} and curves.mean_cost({}) is None
    assert curves.mean_cost(a) == 2.0 and a["violation/"][0] == pytest.approx(60.0)
    steps, cost = curves.common_grid([a, b], "policy/continuity_cost")
    assert steps[-1] < 500 and cost.shape == (2, 100)
    assert cost.mean(0).tolist() == [3.0] * 100
    returns = curves.common_grid([a, b], "episode/return")[1]
    assert returns[:, -1].tolist() == [5.0, 10.0]
    paths = cards.write(
        tmp_path / "new", {"task": "t", "episodes": 1, "command": "c"}, rows(), {"a": [a, b], "b": [{}]}
    )
    assert [p.name for p in paths] == ["compare.json", "compare.md", "compare.svg", "curves.svg"]
    assert "](curves.svg)" in paths[1].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"recipes": ("go2_walk_cat", "cartpole_swingup_rlpd")}, "'go2_walk_cat' is for robot 'go2'.*'cartpole'"),
        ({"task": "cartpole_swingup"}, "'go2_walk_cat' is for robot 'go2'; the task 'cartpole_swingup'"),
        ({"recipes": ("go2_moon",)}, "no 'go2_moon' in policies/recipes"),
        ({"recipes": ("go2_walk_cat", "go2_tune_rlpd")}, "recipe 'go2_tune_rlpd' fine-tunes a policy"),
        ({"recipes": ("go2_walk_teacher", "go2_walk_cat")}, "'go2_walk_teacher' trains a teacher.*compare its student"),
        ({"task": "go2_moon"}, "no 'go2_moon' in sim/tasks"),
        ({"seeds": ()}, "at least one of each"),
        ({"use": ("go2_walk_cat=x",)}, "not recipe:seed=policy"),
        ({"use": ("go2_walk_cat:7=x",)}, r"the seeds \[0, 1, 2\]"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_training(
    options: dict[str, tuple[str, ...]], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=why):
        compare.run(compare.Args(**{"recipes": ("go2_walk_cat",), "out": tmp_path, **options}))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="runs/go2_walk_teacher holds no run; train one first"):
        compare.run(compare.Args(("go2_walk_cat", "go2_walk_student"), out=tmp_path))
    with pytest.raises(FileNotFoundError, match=r"--use 'go2_walk_cat:0=none\.onnx': there is no file none\.onnx"):
        compare.run(compare.Args(("go2_walk_cat",), use=("go2_walk_cat:0=none.onnx",), out=tmp_path))
    assert not list(tmp_path.iterdir())
