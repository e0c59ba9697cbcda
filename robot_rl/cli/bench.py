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
    """Run one benchmark and print one JSON line; without a name, list the benchmarks with their options."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A file of benchmarks/, e.g. env, ppo, tick, learner, gsde_mountaincar. Empty lists them and what they take."""
    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Options of the benchmark, e.g. robot-rl bench env num_envs=64 rounds=5."""


def run(args: Args) -> int:
    """Print the result of the benchmark, or those that exist with their options."""
    if not args.name:
        print("\n".join(f"{name}\n    {line}\n    {options}" for name, (line, options) in sorted(known().items())))
        return 0
    bench = load(args.name)
    result = bench(**parse(args.options, bench))
    if set(result) != set(KEYS):
        raise RuntimeError(f"benchmark {args.name!r} returned the keys {sorted(result)}; they must be {sorted(KEYS)}")
    print(json.dumps({key: result[key] for key in KEYS}, allow_nan=False))
    return 0


def names() -> list[str]:
    """List the benchmarks of the checkout and of ``ROBOT_RL_PATH``; a wheel has none."""
    return sorted(known())


def known() -> dict[str, tuple[str, str]]:
    """Return for each benchmark the first line of its docstring and its options with their defaults, read as text."""
    paths = [path for folder in reversed(_folders()) for path in folder.glob("[!_]*.py")]  # the first folder wins
    return {path.stem: about for path in paths if (about := _read(path)) is not None}


def load(name: str) -> Callable[..., dict[str, Any]]:
    """Return ``run`` of the benchmark called ``name``.

    Raises:
        ValueError: There is no such benchmark; the error lists those that exist.
    """
    choices = names()
    if not choices:
        raise ValueError("benchmarks ship with the source checkout only; run robot-rl bench from a git clone")
    if name not in choices:
        raise ValueError(f"no benchmark {name!r}; the choices are {choices}")
    zoo.refresh()
    return importlib.import_module(f"robot_rl.zoo.benchmarks.{name}").run


def parse(pairs: tuple[str, ...], bench: Callable[..., Any]) -> dict[str, Any]:
    """Parse ``name=value`` pairs for ``bench``; values are Python literals, else strings.

    Raises:
        ValueError: A pair has no '=', the benchmark takes no such option, or it wants a number.
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
        default = next((p.default for p in parameters if p.name == name), None)
        if isinstance(default, int | float) and not isinstance(values[name], int | float):
            raise ValueError(f"option {pair!r} must be a number, such as {name}={default}")
    return values


def _folders() -> list[Path]:
    return [root / "benchmarks" for root in zoo.roots()]


def _read(path: Path) -> tuple[str, str] | None:
    """Return what ``known`` says of a file; None where it is no benchmark."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "run":
            break
    else:
        return None
    named = [*node.args.args, *node.args.kwonlyargs]
    values = [*node.args.defaults, *node.args.kw_defaults]
    pairs = zip(named[len(named) - len(values) :], values, strict=True)
    options = " ".join(f"{name.arg}={ast.unparse(value)}" for name, value in pairs if value is not None)
    return (ast.get_docstring(tree) or "").partition("\n")[0], options.replace("'", "") or "no options"
