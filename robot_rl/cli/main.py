"""The command ``robot-rl``: find the verb, hand it its arguments, turn errors of the border into one clean line.

A verb is a file in this folder with a frozen dataclass ``Args`` (its docstrings are the help) and a function
``run(args) -> int``, the exit code. Nothing else registers it. Verbs are read as text until one is called, so that
``robot-rl --help`` loads no torch.

Knows: where verbs live, which extra brings which package.
Does not know: what any verb does.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

EXTRAS: dict[str, str] = {
    "cyclonedds": "dds",
    "rosbags": "dds",
    "textual": "console",
    "mujoco": "sim",
    "imageio": "sim",
    "imageio_ffmpeg": "sim",
    "mujoco_warp": "gpu",
    "isaaclab": "isaac",
    "torch": "train",
    "gymnasium": "train",
    "onnx": "train",
    "onnxscript": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "stable_baselines3": "dev",
}
"""Which extra of robot-rl brings an optional package, by the name it is imported under."""

USAGE_ERROR = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 refused or failed, 2 wrong use, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        from robot_rl import __version__

        print(f"robot-rl {__version__}")
        return 0
    try:
        return call(words[0], words[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `robot-rl list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        return USAGE_ERROR


def call(verb: str, argv: Sequence[str]) -> int:
    """Parse ``argv`` into the verb's ``Args`` and run it.

    Raises:
        ValueError: There is no such verb; the error lists those that exist.
        SystemExit: The arguments do not parse, or ask for help.
    """
    known = verbs()
    if verb not in known:
        near = get_close_matches(verb, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no verb {verb!r}; the verbs are {sorted(known)}{hint}")
    module = importlib.import_module(f"robot_rl.cli.{verb}")
    import tyro

    about = "\n\n".join(dict.fromkeys((known[verb], inspect.getdoc(module.Args) or known[verb])))
    args = tyro.cli(module.Args, prog=f"robot-rl {verb}", description=about, args=argv)
    return int(module.run(args))


def verbs() -> dict[str, str]:
    """Return the verbs with the first line of their docstrings, without importing them."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        if {"Args", "run"} <= names:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def overview() -> str:
    """Return the help page: one line per verb."""
    known = verbs()
    width = max(map(len, known), default=0)
    lines = [f"  {verb:<{width}}  {line}" for verb, line in known.items()]
    return "\n".join(
        [
            "usage: robot-rl VERB [arguments] [--debug]",
            "",
            "One policy's whole life: train, export, check, run on a robot, fine-tune, swap.",
            "",
            "verbs:",
            *lines,
            "",
            "robot-rl VERB --help explains a verb; --debug shows the whole traceback of an error.",
        ]
    )


def explain(error: Exception) -> str:
    """Return one line for an error of the border; a missing optional package names its cure."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing in EXTRAS:
        return f'this needs the package {missing!r}: pip install "robot-rl[{EXTRAS[missing]}]"'
    if missing == "rclpy":
        return "this needs ROS 2 (rclpy): source /opt/ros/<distribution>/setup.bash, or use --wire dds"
    text = str(error) or type(error).__name__
    ours = isinstance(error, ValueError) or (isinstance(error, ImportError) and error.name is None)
    return text if ours else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
