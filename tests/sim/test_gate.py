"""The sim-to-sim gate: the same episodes in every backend, gaps by hand, a verdict with an exit code."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli import eval as eval_verb
from robot_rl.cli.eval import Args
from robot_rl.cli.eval import run as run_eval
from robot_rl.cli.main import main
from robot_rl.sim.evaluation import Episodes
from robot_rl.sim.gate import Limits, compare, judge
from tests.sim.conftest import backends

GO2 = Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx"


@pytest.fixture
def short(shorten: Callable[[float], None]) -> None:
    shorten(1.2)


def made(returns: list[float], fell: list[bool], lin_vel: float) -> Episodes:
    """Episodes of 100 counted steps each, with the same error in all of them."""
    n = len(returns)
    return Episodes(
        command=np.zeros((n, 3)),
        fell=np.array(fell),
        returns=np.array(returns),
        length_s=np.full(n, 3.0),
        steps=np.full(n, 100.0),
        lin_vel=np.full(n, 100.0 * lin_vel),
        yaw_rate=np.full(n, 10.0),
        all_steps=np.full(n, 150.0),
        action_change=np.full(n, 0.1),
    )


def test_gaps_are_differences_to_the_first_backend() -> None:
    """Returns 10, 10 against 9, 8: -15 % of 10; one more of two falls; errors 0.13 against 0.10."""
    found = judge({"a": made([10, 10], [False, False], 0.10), "b": made([9, 8], [False, True], 0.13)}, Limits())
    gap = found.gaps["b"]
    assert (gap.falls, gap.returns) == (0.5, pytest.approx(-0.15))
    assert gap.lin_vel == pytest.approx(0.03) and gap.yaw_rate == pytest.approx(0.0)
    assert gap.returns_ci95 == pytest.approx(1.96 * 0.05)  # -0.1 and -0.2: deviation 0.1 / root 2, over root 2
    assert gap.broken == ("falls", "returns") and not found.passed
    wide = judge(found.episodes, Limits(falls=0.5, returns=0.2))
    assert wide.passed and wide.gaps["b"].broken == ()


def test_a_better_backend_breaks_the_gate_too() -> None:
    """A policy that does better elsewhere shows a gap between the engines just as well."""
    found = judge({"a": made([10, 10], [True, True], 0.1), "b": made([14, 14], [False, False], 0.1)}, Limits())
    assert found.gaps["b"].broken == ("falls", "returns")


def test_tasks_without_velocities_are_judged_by_falls_and_returns() -> None:
    reference = dataclasses.replace(made([10, 10], [False, False], 0.1), lin_vel=np.full(2, np.nan))
    gap = judge({"a": reference, "b": reference}, Limits(0.0, 0.0, 0.0, 0.0)).gaps["b"]
    assert (gap.lin_vel, gap.broken) == (None, ())


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "two or more different backends"),
        (["mujoco_cpu"], "two or more different backends"),
        (["mujoco_cpu", "mujoco_cpu"], "two or more different backends"),
        (["mujoco_cpu", "bullet"], r"no physics backend 'bullet'; the choices are .*mujoco_cpu.*mujoco_gpu"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(names: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        compare(GO2, names)


def test_a_limit_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gap falls is -0\.1; a limit is at least 0"):
        Limits(falls=-0.1)


def test_a_backend_that_is_not_installed_names_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "warp", None)  # what Python does where a package is not there
    ran: list[int] = []
    monkeypatch.setattr(eval_verb, "compare", lambda *_, **__: ran.append(1))
    for physics in ("mujoco_gpu", "mujoco_cpu,mujoco_gpu"):
        assert main(["eval", str(GO2), "--physics", physics, "--episodes", "1"]) == 2
        said = capsys.readouterr().err
        assert "mujoco_gpu" in said and "pip install 'robot-rl[gpu]'" in said
    assert not ran  # not after the episodes of the first


@pytest.mark.parametrize("other", backends("mujoco_gpu"))
def test_the_verb_compares_engines_and_its_exit_code_is_the_verdict(
    short: None, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    """Two engines are close over a second, and never exactly alike."""
    args = Args(GO2, episodes=3, threads=1, physics=f"mujoco_cpu,{other}", json=True)
    assert run_eval(dataclasses.replace(args, gap=Limits(0.0, 0.2, 0.2, 0.2))) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["reference"] == "mujoco_cpu" and said["passed"] is True
    assert list(said["physics"]) == ["mujoco_cpu", other] and said["physics"][other]["episodes"] == 3
    assert 0.0 < abs(said["gaps"][other]["returns"]) < 0.2
    assert run_eval(dataclasses.replace(args, json=False, gap=Limits(returns=0.0))) == 1
    out = capsys.readouterr().out
    assert f"not passed: {other} breaks returns" in out and "gap" in out
