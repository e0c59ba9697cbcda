"""Episodes in a backend whose engine is installed in another environment: the same verb runs there and saves them.

Isaac Lab pins a MuJoCo that is older than the one our CPU backend needs, so no environment holds both.

Knows: which Python a backend runs in, the words of ``robot-rl eval``. Does not know: what the episodes are for.
"""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from robot_rl import zoo
from robot_rl.sim.backends import check_physics
from robot_rl.sim.episode_file import read_episodes
from robot_rl.sim.evaluation import Episodes, run_episodes
from robot_rl.sim.gate import Run

ISAAC = ("isaac", "isaac_physx")
ISAAC_PYTHON = Path(".venv-isaac/bin/python")
"""Where `make test-isaac` and docs/isaac.md put Isaac Lab."""
REFUSED = 2
"""Exit code of a verb that names its reason on stderr."""


def find_pythons(words: Sequence[str], physics: Sequence[str]) -> dict[str, Path]:
    """Return the Python of each backend of ``physics`` that does not run in this process.

    Args:
        words: ``backend=python`` each; an empty python is this process.
        physics: The backends asked for. Isaac Lab, where it is not installed here, is looked for in ``ISAAC_PYTHON``
            below the current folder and below the checkout.

    Raises:
        ValueError: A word is none of these, or its Python does not exist.
        ImportError: There is no Isaac Lab here and no other Python to find it in; the cure is named.
    """
    named: dict[str, str] = {}
    for word in words:
        name, equals, python = word.partition("=")
        if not equals:
            raise ValueError(f"python {word!r} is not backend=python, e.g. isaac={ISAAC_PYTHON}")
        check_physics(name)
        if name not in physics:
            raise ValueError(f"python {word!r} is for a backend that is not asked for; --physics is {list(physics)}")
        named[name] = python
    found = {name: _existing(name, Path(python)) for name, python in named.items() if python}
    for name in physics:
        if name in ISAAC and name not in named and importlib.util.find_spec("isaaclab") is None:
            found[name] = _isaac_python(name)
    return found


def run_with(pythons: Mapping[str, Path]) -> Run:
    """Return a ``run_episodes`` that runs each backend of ``pythons`` in its own Python, the others here."""

    def run(policy: Path | str, *, physics: str, **options: Any) -> Episodes:
        here = partial(run_episodes, physics=physics)
        run_it = partial(run_elsewhere, pythons[physics], physics=physics) if physics in pythons else here
        return run_it(policy, **options)

    return run


def run_elsewhere(
    python: Path,
    policy: Path | str,
    *,
    physics: str,
    episodes: int,
    task: str = "",
    robot: str = "",
    seed: int = 0,
    disturbed: bool = False,
    changes: Mapping[str, Any] | None = None,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Episodes:
    """Run the episodes in another Python; arguments as ``run_episodes`` has them.

    Raises:
        ValueError: That Python refuses them, fails, or has another version of robot_rl; its reason is given.
        FileNotFoundError: There is no such policy.
    """
    file = zoo.find_policy(policy).absolute()
    if not file.exists():
        raise FileNotFoundError(f"no policy {file}")
    if progress is not None:
        progress(0, 1)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "episodes.npz"
        words = [str(python), "-m", "robot_rl.cli.main", "eval", str(file), "--json", "--save", str(saved)]
        words += ["--physics", physics, "--python", f"{physics}=", "--episodes", str(episodes)]
        words += ["--seed", str(seed), "--threads", str(threads)]
        words += [word for name, value in (("task", task), ("robot", robot)) if value for word in (f"--{name}", value)]
        words += ["--disturbed"] * disturbed
        words += ["--change", *_as_words(changes)] if changes else []
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise ValueError(f"physics {physics!r} in {python}: {_reason(done.returncode, done.stderr)}")
        found = read_episodes(saved)
    if progress is not None:
        progress(1, 1)
    return found


def _existing(name: str, python: Path) -> Path:
    if not python.is_file():
        raise ValueError(f"the Python of physics {name!r} is {str(python)!r}, which is no file")
    return python.absolute()  # not resolved: the link is what makes a Python one of its environment


def _isaac_python(name: str) -> Path:
    for folder in (Path.cwd(), zoo.home()):
        if (folder / ISAAC_PYTHON).is_file():
            return folder / ISAAC_PYTHON
    raise ImportError(
        f"physics {name!r} needs Isaac Lab 3.0, in an environment of its own: `make test-isaac` makes one, which is "
        f"found by itself; or name the Python that has it, --python {name}=PYTHON (docs/isaac.md)"
    )


def _as_words(changes: Mapping[str, Any]) -> list[str]:
    """Return what ``eval.parse_changes`` reads."""
    words: list[str] = []
    for name, value in changes.items():
        parts = value.items() if isinstance(value, Mapping) else ((None, value),)
        words += [f"{name}={x!r}" if joint is None else f"{name}:{joint}={x!r}" for joint, x in parts]
    return words


def _reason(code: int, said: str) -> str:
    """Return why a verb failed, from its exit code and its stderr."""
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it said nothing"
    if code == REFUSED and last.startswith("error: "):
        return last.removeprefix("error: ")
    if "No module named 'robot_rl'" in last or last.endswith("No module named robot_rl"):
        return "it has no robot_rl; install this one there, pip install --editable . (docs/isaac.md)"
    return f"it failed with exit code {code}; the end of what it said:\n" + "\n".join(lines[-8:])
