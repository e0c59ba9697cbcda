"""Compare recipes over seeds: train what is missing, measure all on one task, write a table, a plot and the numbers.

Knows: where the runs of a comparison live. Does not know: how they are trained (``train``), measured
(``sim.evaluation``) or shown (``measured.cards``).
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from robot_rl import zoo
from robot_rl.cli import train
from robot_rl.cli.learning import RUN_FILE, find_teacher, read_about, sees_privileged
from robot_rl.cli.main import INTERRUPTED
from robot_rl.cli.measured import cards, curves
from robot_rl.sim.display import choose_gl
from robot_rl.sim.evaluation import evaluate


@dataclass(frozen=True)
class Args:
    """Train recipes with several seeds, or reuse what is there; write compare.md, .json, .svg and curves.svg.

    For example: robot-rl compare go2_walk_ppo go2_walk_cat --task go2_velocity_cat --out runs/cat_vs_ppo
    """

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Names of files in policies/recipes, the reference first."""
    task: str = ""
    """The task all are measured on; the last recipe's own by default. Its constraints are counted, not enforced."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""
    use: tuple[str, ...] = ()
    """Policies that need no training, recipe:seed=file or recipe:seed=name of a released policy; curves are drawn where
    the run's metrics lie beside the file."""
    episodes: int = 200
    """Episodes per policy, undisturbed, over the grid of commands."""
    total_steps: int | None = None
    """Environment steps of each training; the recipe's own by default."""
    out: Path = Path("runs/compare")
    """Folder of the result and, under <recipe>/seed<n>, of the runs; a run that is there is reused or resumed, one of
    other --total-steps refused."""
    threads: int = 0
    """Physics threads of the evaluation, 0 is one per CPU."""
    progress: bool = True
    """Show progress bars of the trainings."""


def run(args: Args) -> int:
    """Write the result and print where; the exit code is that of a training that failed, else 0."""
    if not args.recipes or not args.seeds:
        raise ValueError(f"recipes are {list(args.recipes)} and seeds {list(args.seeds)}; at least one of each")
    recipes = {name: zoo.load("policies", f"recipes/{name}").recipe() for name in args.recipes}
    task = args.task or recipes[args.recipes[-1]].task
    check_robots(recipes, task)  # what is wrong fails before hours of training
    ready = parse_use(args.use, args.recipes, args.seeds)
    for name, recipe in recipes.items():
        folders = [args.out / name / f"seed{seed}" for seed in args.seeds if (name, seed) not in ready]
        for out in folders:
            check_trains(name, recipe, out)
            check_steps(recipe.config.total_steps if args.total_steps is None else args.total_steps, out)
    rows: list[dict[str, Any]] = []
    runs: dict[str, list[curves.Curves]] = {recipe: [] for recipe in args.recipes}
    for seed in args.seeds:
        for recipe in args.recipes:
            policy = ready.get((recipe, seed)) or args.out / recipe / f"seed{seed}" / train.POLICY_FILE
            if not policy.is_file() and (code := _train(args, recipe, seed, policy.parent)):
                return code
            print(f"measuring {policy}", file=sys.stderr)
            runs[recipe].append(curves.read_curves(policy.parent))
            rows.append(
                {
                    "recipe": recipe,
                    "seed": seed,
                    "policy": str(policy),
                    "sha256": hashlib.sha256(policy.read_bytes()).hexdigest(),
                    "training_cost": curves.mean_cost(runs[recipe][-1]),
                    **evaluate(policy, episodes=args.episodes, task=task, threads=args.threads),
                }
            )
    about = {"task": task, "episodes": args.episodes, "command": shlex.join(["robot-rl", *sys.argv[1:]])}
    for path in cards.write(args.out, about, rows, runs):
        print(path)
    return 0


def parse_use(words: tuple[str, ...], recipes: tuple[str, ...], seeds: tuple[int, ...]) -> dict[tuple[str, int], Path]:
    """Read ``recipe:seed=policy``.

    Raises:
        ValueError: A word is none of that, or names a recipe or a seed that is not compared.
        FileNotFoundError: There is no such policy.
    """
    found: dict[tuple[str, int], Path] = {}
    for word in words:
        left, equals, policy = word.partition("=")
        recipe, colon, seed = left.partition(":")
        if not (equals and colon and seed.lstrip("-").isdigit()):
            raise ValueError(f"--use {word!r} is not recipe:seed=policy")
        if recipe not in recipes or int(seed) not in seeds:
            raise ValueError(f"--use {word!r}: the recipes are {list(recipes)}, the seeds {list(seeds)}")
        path = zoo.find_policy(policy)
        if not path.is_file():
            raise FileNotFoundError(f"--use {word!r}: there is no file {path}")
        found[recipe, int(seed)] = path
    return found


def check_robots(recipes: dict[str, Any], task: str) -> None:
    """Raise ValueError where a recipe's robot is not that of ``task``; choose a GL where a policy sees pictures."""
    robot = zoo.load("sim", f"tasks/{task}").task().robot
    tasks = {name: zoo.load("sim", f"tasks/{recipe.task}").task() for name, recipe in recipes.items()}
    for name, own in tasks.items():
        if own.robot != robot:
            raise ValueError(f"recipe {name!r} is for robot {own.robot!r}; the task {task!r} for {robot!r}")
    if any(own.cameras for own in tasks.values()):
        choose_gl()


def check_steps(wanted: int, out: Path) -> None:
    """Raise ValueError where the policy in ``out`` was trained for another number of steps than ``wanted``."""
    if not ((out / train.POLICY_FILE).is_file() and (out / RUN_FILE).is_file()):
        return
    had = read_about(out)["config"].get("total_steps", wanted)
    if had != wanted:
        raise ValueError(
            f"{out} holds a run of {had} total steps, not of {wanted}: ask for --total-steps {had}, choose another "
            "--out, or delete that run"
        )


def check_trains(name: str, recipe: Any, out: Path) -> None:
    """Raise ValueError where training ``recipe`` in ``out`` does not end in a policy that can be measured."""
    from robot_rl.learn.recipe import Recipe

    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe {name!r} fine-tunes a policy: robot-rl finetune {name}, then compare it by --use")
    if sees_privileged({"config": asdict(recipe.config)}):
        raise ValueError(f"recipe {name!r} trains a teacher, which no robot can run; compare its student")
    if not (out / train.POLICY_FILE).is_file():
        find_teacher(recipe, None, out)  # a student needs one


def _train(args: Args, recipe: str, seed: int, out: Path) -> int:
    from robot_rl.learn import checkpoint

    begun = checkpoint.latest(out / "checkpoints") is not None
    code = train.run(
        train.Args(recipe, seed=seed, total_steps=args.total_steps, out=out, resume=begun, progress=args.progress)
    )
    if code == INTERRUPTED:  # what was learnt so far must not pass for the result; the next call goes on from there
        (out / train.POLICY_FILE).unlink(missing_ok=True)
    return code
