"""Run one benchmark of the checkout and print its result as one JSON object on one line.

A benchmark is ``benchmarks/<name>.py`` with ``def run(**options) -> dict`` that returns exactly the keys of
``KEYS``; those that do not apply are None. Larger ratios are better.

Knows: where benchmarks live, the shape of a result.
Does not know: what is measured.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from robot_rl import zoo

KEYS = ("bench", "value", "unit", "floor", "ratio", "p50_us", "p99_us", "setup")


@dataclass(frozen=True)
class Args:
    """Run one benchmark and print one JSON line."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A file of benchmarks/, e.g. env, tick, replay, learner, wire. Empty lists them."""
    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Options of the benchmark, e.g. robot-rl bench env num_envs=64 rounds=5."""


def run(args: Args) -> int:
    """Print the result of the benchmark, or the names of those that exist."""
    if not args.name:
        print("\n".join(names()))
        return 0
    bench = load(args.name)
    result = bench(**parse(args.options, bench))
    if set(result) != set(KEYS):
        raise RuntimeError(f"benchmark {args.name!r} returned the keys {sorted(result)}; they must be {sorted(KEYS)}")
    print(json.dumps({key: result[key] for key in KEYS}, allow_nan=False))
    return 0


def names() -> list[str]:
    """List the benchmarks of the checkout and of ``ROBOT_RL_PATH``; a wheel has none."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("[!_]*.py") if _is_bench(path)})


def load(name: str) -> Callable[..., dict[str, Any]]:
    """Return ``run`` of the benchmark called ``name``.

    Raises:
        ValueError: There is no such benchmark; the error lists those that exist.
    """
    known = names()
    if not known:
        raise ValueError("benchmarks ship with the source checkout only; run robot-rl bench from a git clone")
    if name not in known:
        raise ValueError(f"no benchmark {name!r}; the choices are {known}")
    zoo.refresh()
    return importlib.import_module(f"robot_rl.zoo.benchmarks.{name}").run


def parse(pairs: tuple[str, ...], bench: Callable[..., Any]) -> dict[str, Any]:
    """Parse ``name=value`` pairs for ``bench``; values are Python literals, else strings.

    Raises:
        ValueError: A pair has no '=', or the benchmark takes no such option.
    """
    parameters = inspect.signature(bench).parameters.values()
    takes = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"option {pair!r} is not name=value")
        if name not in takes and not open_ended:
            raise ValueError(f"the benchmark takes no option {name!r}; the choices are {takes}")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def _folders() -> list[Path]:
    return [root / "benchmarks" for root in zoo.roots()]


def _is_bench(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body)
