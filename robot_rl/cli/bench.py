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
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from robot_rl import zoo

KEYS = ("bench", "value", "unit", "floor", "ratio", "p50_us", "p99_us", "setup")
_SAYS_ZERO = re.compile(r"[;,.] 0 \w")
"""How the docstring of a benchmark tells what a count of 0 means, e.g. ``Further steps; 0 leaves them out.``"""


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
        for name, tree in sorted(known().items()):
            line = (ast.get_docstring(tree) or "").partition("\n")[0]
            print(f"{name}\n    {line}\n    {_options(name, tree)}")
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


def known() -> dict[str, ast.Module]:
    """Return the benchmarks, read as text."""
    paths = [path for folder in reversed(_folders()) for path in folder.glob("[!_]*.py")]  # the first folder wins
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8"), filename=str(path)) for path in paths}
    return {name: tree for name, tree in trees.items() if _run_of(tree) is not None}


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
    """Parse ``name=value`` pairs for ``bench``; values are Python literals, else strings, and with commas lists.

    Raises:
        ValueError: A pair has no '=', the benchmark takes no such option, or not this value.
    """
    parameters = inspect.signature(bench).parameters
    takes = [p.name for p in parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"option {pair!r} is not name=value")
        if name not in takes and not open_ended:
            raise ValueError(f"the benchmark takes no option {name!r}; the choices are {takes}")
        values[name] = _literal(text)
        default = parameters[name].default if name in takes else None
        if isinstance(default, tuple):
            values[name] = _listed(pair, values[name], default, _choices(bench, name))
        elif isinstance(default, int | float):
            _check_number(pair, values[name], default, _told(bench, name))
        elif isinstance(default, str) and not isinstance(values[name], str | tuple):
            values[name] = text  # a name that happens to be a number
    return values


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _listed(pair: str, value: Any, default: tuple[Any, ...], choices: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """Return the entries that were named, of the default's kinds and of the choices, where these are known."""
    if isinstance(value, str):
        value = tuple(value.split(","))
    entries = tuple(value) if isinstance(value, list | tuple) else (value,)
    name, kinds = pair.partition("=")[0], {type(entry) for entry in default}
    example = f"{name}={','.join(map(str, default))}"
    if kinds and (not entries or any(type(entry) not in kinds for entry in entries)):
        raise ValueError(f"option {pair!r} must be a list such as {example}")
    if choices is not None and (unknown := [entry for entry in entries if entry not in choices]):
        raise ValueError(f"option {pair!r}: no {unknown[0]!r}; the choices are {list(choices)}")
    return entries


def _check_number(pair: str, value: Any, default: float, told: str | None) -> None:
    """Raise ValueError for what is no number, no count, or a count of nothing that the docstring gives no meaning."""
    name = pair.partition("=")[0]
    if not isinstance(value, int | float):
        raise ValueError(f"option {pair!r} must be a number, such as {name}={default}")
    if isinstance(default, int) and not isinstance(value, int):
        raise ValueError(f"option {pair!r} must be a whole number, such as {name}={default}")
    if value < 0 <= default:
        raise ValueError(f"option {pair!r} must not be negative")
    counts = type(default) is int and default > 0 and told is not None
    if counts and value == 0 and not _SAYS_ZERO.search(told or ""):
        raise ValueError(f"option {pair!r} must be at least 1")


def _told(bench: Callable[..., Any], name: str) -> str | None:
    """Return what the docstring of ``bench`` says of an option, on one line; None where it says nothing."""
    found = re.search(rf"^    {name}: (.+(?:\n {{8}}.+)*)", inspect.getdoc(bench) or "", re.MULTILINE)
    return " ".join(found[1].split()) if found else None


def _choices(bench: Callable[..., Any], name: str) -> tuple[Any, ...] | None:
    """Return the choices of an option that the docstring calls keys of, or entries of, a name of the benchmark."""
    found = re.match(r"(?:Keys of|Of) ``(\w+)``", _told(bench, name) or "")
    held = getattr(inspect.getmodule(bench), found[1], None) if found else None
    return tuple(held) if isinstance(held, dict | tuple | list) else None


def _folders() -> list[Path]:
    return [root / "benchmarks" for root in zoo.roots()]


def _run_of(tree: ast.Module) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"), None)


def _options(name: str, tree: ast.Module) -> str:
    """Return the options of a benchmark with their defaults, each as it may be typed."""
    run = _run_of(tree)
    assert run is not None, "only such are known"
    named = [*run.args.args, *run.args.kwonlyargs]
    values = [*run.args.defaults, *run.args.kw_defaults]
    pairs = zip(named[len(named) - len(values) :], values, strict=True)
    texts = {option.arg: value for option, value in pairs if value is not None}
    try:
        defaults = {option: ast.literal_eval(value) for option, value in texts.items()}
    except ValueError:  # one is a name of the module, which nobody can choose from unseen
        defaults = _imported(name) or {option: ast.unparse(value) for option, value in texts.items()}
    return " ".join(f"{option}={_shown(value)}" for option, value in defaults.items()) or "no options"


def _imported(name: str) -> dict[str, Any]:
    """Return the defaults of a benchmark as it has them; none where a package that it needs is missing."""
    try:
        parameters = inspect.signature(load(name)).parameters.values()
    except ImportError:
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
