"""Options of ``robot-rl bench``: lists as people type them, choices and counts that the docstring tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from robot_rl.cli import bench, main

KINDS = {"fast": 1, "slow": 2}


def study(
    *, kinds: Sequence[str] = tuple(KINDS), tasks: Sequence[str] = ("Hopper-v5",), intervals: Sequence[int] = (0, 8),
    seeds: int = 3, more: int = 10, width: float = 1.0, out: str = "runs",
) -> dict[str, Any]:  # fmt: skip
    """Train.

    Args:
        kinds: Keys of ``KINDS``.
        tasks: Registered environments.
        intervals: Control steps between draws.
        seeds: Runs per kind, seeds 0, 1, ...
        more: Further steps on a changed
            robot; 0 leaves them out.
        out: Where runs are kept.
    """
    return dict(locals())


def test_one_entry_is_a_list_of_one_and_commas_make_more() -> None:
    assert bench.parse(("kinds=fast", "intervals=8"), study) == {"kinds": ("fast",), "intervals": (8,)}
    assert bench.parse(("kinds=slow,fast", "intervals=8,16"), study) == {
        "kinds": ("slow", "fast"),
        "intervals": (8, 16),
    }
    assert bench.parse(("tasks=('Ant-v5',)", "intervals=[4]"), study) == {"tasks": ("Ant-v5",), "intervals": (4,)}
    assert bench.parse(("tasks=Hopper-v5",), study) == {"tasks": ("Hopper-v5",)}


def test_a_text_stays_a_text() -> None:
    assert bench.parse(("out=2026",), study) == {"out": "2026"}


def test_zero_is_a_count_where_the_docstring_says_what_it_means() -> None:
    assert bench.parse(("more=0", "width=0"), study) == {"more": 0, "width": 0}


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("kinds=foo", r"'kinds=foo': no 'foo'; the choices are \['fast', 'slow'\]"),
        ("kinds=fast,foo", "no 'foo'"),
        ("kinds=5", "must be a list such as kinds=fast,slow"),
        ("intervals=eight", "must be a list such as intervals=0,8"),
        ("intervals=()", "must be a list"),
        ("seeds=0", "'seeds=0' must be at least 1"),
        ("seeds=1.5", "must be a whole number, such as seeds=3"),
        ("more=-1", "must not be negative"),
        ("width=-0.5", "must not be negative"),
    ],
)
def test_what_a_benchmark_cannot_run_with_is_refused_with_the_rule(pair: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        bench.parse((pair,), study)


def test_the_listing_shows_defaults_that_are_names_of_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "named.py").write_text(
        '"""About."""\nKINDS = {"fast": 1, "slow": 2}\n'
        "def run(*, kinds: tuple = tuple(KINDS), seeds: int = 3) -> dict:\n    return {}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    assert main.main(["bench"]) == 0
    assert "named\n    About.\n    kinds=fast,slow seeds=3\n" in capsys.readouterr().out
