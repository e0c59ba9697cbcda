"""Train a recipe from scratch: world, learner, report, exported policy.

Knows: recipes, tasks, where runs live; the one place where a world and a learner meet for training.
Does not know: what the learner or the world do.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from robot_rl import zoo
from robot_rl.cli.guide import make_guide
from robot_rl.cli.learning import (
    RUN_FILE,
    Learnt,
    check_goes_on,
    check_senses,
    check_teacher,
    contract_of,
    find_teacher,
    learn,
    load_learnt,
    sees_privileged,
)
from robot_rl.cli.main import INTERRUPTED
from robot_rl.cli.prior import gather
from robot_rl.cli.reward import judged, rewarded
from robot_rl.data.atomic import write_whole

if TYPE_CHECKING:
    from robot_rl.hardware.symmetry import Reflections
    from robot_rl.learn.ranks import Ranks
    from robot_rl.learn.recipe import Recipe
    from robot_rl.sim.env import Env

POLICY_FILE = "policy.onnx"
GOLDEN_STEPS = 8
_PARITY_STEPS = 4


def _together(prior: tyro.conf.UseAppendAction[tuple[tuple[Path, ...], ...]] = ()) -> tuple[Path, ...]:
    """Return the paths of every ``--prior``, which may be given several times.

    Args:
        prior: rlpd, iql: earlier experiments to learn from beside those of the recipe: runs with a replay, or stores of
            episodes that robot-rl run recorded.
    """
    return tuple(chain.from_iterable(prior))


@dataclass(frozen=True)
class Args:
    """Ctrl-C stops early, exports what was learnt and exits with 130. Example: robot-rl train go2_walk_ppo --seed 1"""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a file in policies/recipes; robot-rl list shows them."""
    seed: int | None = None
    """Seed of worlds and learner; the recipe's own by default."""
    total_steps: int | None = None
    """Environment steps; the recipe's own by default."""
    max_minutes: float | None = None
    """Stop after this much training time [min]; the recipe's own by default."""
    num_envs: int | None = None
    """Environments that step together; the recipe's own by default."""
    exploration: str | None = None
    """gaussian or gsde; the recipe's own by default."""
    memory: str | None = None
    """none, gru or lstm: what the policy remembers with, where symmetry is none; the recipe's own by default."""
    symmetry: str | None = None
    """none, augment, loss or both: what is learnt from mirror images; the recipe's own by default."""
    teacher: Path | None = None
    """Whom a student learns from: a run's folder or a checkpoint; the newest run of the recipe's teacher by default."""
    prior: Annotated[tuple[Path, ...], tyro.conf.arg(constructor=_together, name="")] = ()
    """Earlier experiments to learn from beside those of the recipe."""
    guide: str | None = None
    """rlpd: who acts first in every episode and hands over sooner and sooner (Jump-Start), an expert of sim/experts or
    a policy; the recipe's own by default."""
    reward: str | None = None
    """task, sparse (1 where the task is solved), or the .onnx file of a judge; the recipe's own by default."""
    out: Path | None = None
    """Folder of the run; runs/<recipe>/<time> by default."""
    resume: bool = False
    """Go on with the newest checkpoint in --out, or in the recipe's newest run."""
    progress: bool = True
    """Show a progress bar."""
    device: str = "cpu"
    """Where the networks learn: cpu or cuda; worlds stay where the recipe says. Several processes learn one policy with
    torchrun --standalone --nproc-per-node 2 -m robot_rl.cli.main train RECIPE, with cuda on a card each."""


def run(args: Args) -> int:
    """Train, then write ``policy.onnx`` and ``report.html`` into the run's folder.

    Several processes learn one policy under torchrun, each with the recipe's number of environments:
    ``torchrun --standalone --nproc-per-node 2 -m robot_rl.cli.main train go2_walk_ppo``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin starve the physics
    from robot_rl.learn.ranks import RankLostError, joined

    try:
        with joined(args.device) as ranks:
            return _train(args, ranks)
    except (FloatingPointError, RankLostError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _train(args: Args, ranks: Ranks) -> int:
    from robot_rl.learn.on_device import OnDevice
    from robot_rl.sim.env import make_env
    from robot_rl.sim.recovery import attach

    recipe = _recipe(args)
    out = Path(ranks.agreed_text(str(_folder(args))))
    _check_folder(args, recipe, out)
    teacher = find_teacher(recipe, args.teacher, out)
    task = rewarded(zoo.load("sim", f"tasks/{recipe.task}").task(), recipe.reward)
    check_senses(recipe, task)
    env = make_env(
        task,
        num_envs=recipe.num_envs,
        seed=ranks.seed(recipe.config.seed),
        physics=recipe.physics,
        threads=ranks.threads(recipe.threads),
    )
    if recipe.recover:
        attach(env.world, recipe.recover)
    guide = make_guide(recipe.guide, env) if recipe.guide else None
    reflections = _reflections(recipe, env)
    if teacher is not None:
        check_teacher(teacher, task)
    prior = gather(recipe, env, args.prior, out, resume=args.resume)
    about = _about(args, recipe, env, ranks) | {
        "teacher": str(teacher) if teacher else None, "prior": prior.sources if prior else None
    }  # fmt: skip
    if ranks.first:
        print(f"training {args.recipe} in {out}, {ranks.size} rank(s)", file=sys.stderr)
    world, code = judged(env, recipe.reward, prior.replay if prior else None), 0
    world = world if ranks.device == "cpu" else OnDevice(world, ranks.device)
    try:
        with _described(out, about, ranks):
            agent = learn(
                recipe, world, out, resume=args.resume, progress=args.progress, reflections=reflections, ranks=ranks,
                teacher=teacher, prior=prior.replay if prior else None, pictures=prior.pictures if prior else None,
                guide=guide,
            )  # fmt: skip
    except KeyboardInterrupt:
        agent, code = _learnt_so_far(out), INTERRUPTED
    if ranks.first:
        _write_up(agent, env, about, out)
    env.close()
    return code


def _learnt_so_far(out: Path) -> Learnt:
    """Return what a run that was stopped has kept; raise KeyboardInterrupt where that is nothing."""
    from robot_rl.learn.offline_online import newest

    path = newest(out)
    if path is None:
        print(f"\nstopped; no checkpoint yet in {out}, nothing kept", file=sys.stderr)
        raise KeyboardInterrupt
    print(f"\nstopped; exporting {path}", file=sys.stderr)
    return load_learnt(path)


@contextmanager
def _described(out: Path, about: dict[str, Any], ranks: Ranks) -> Generator[None]:
    """Write what identifies the run; where it is refused, what was written of the run before stays."""
    path = out / RUN_FILE
    before = path.read_bytes() if path.is_file() else None
    if ranks.first:
        write_whole(path, json.dumps(about, indent=2))
    try:
        yield
    except ValueError:
        if ranks.first and before is not None:
            write_whole(path, before)
        raise


def _write_up(agent: Learnt, env: Env, about: dict[str, Any], out: Path) -> None:
    """Write the policy, where a robot can run it, and the report."""
    from robot_rl.learn.metrics import METRICS_FILE, read_metrics
    from robot_rl.learn.offline_online import OFFLINE
    from robot_rl.learn.report import write_report

    if sees_privileged(about):
        print(f"no policy file: a teacher sees privileged terms; a student learns from it, --teacher {out}")
    else:
        print(f"policy: {export_agent(agent, env, about, out / POLICY_FILE)}", file=sys.stderr)
    metrics = [folder / METRICS_FILE for folder in (out, out / OFFLINE)]
    told = [path.parent for path in metrics if path.is_file() and read_metrics(path)]
    report = write_report(told[0]) if told else "none, for no iteration was finished"
    print(f"report: {report}", file=sys.stderr)


def _recipe(args: Args) -> Recipe:
    from robot_rl.learn.recipe import Recipe, vary

    if args.seed is not None and args.seed < 0:
        raise ValueError(f"seed is {args.seed}; it must be at least 0")
    recipe = zoo.load("policies", f"recipes/{args.recipe}").recipe()
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe {args.recipe!r} fine-tunes a policy: robot-rl finetune {args.recipe} --help")
    return vary(
        recipe,
        seed=args.seed,
        total_steps=args.total_steps,
        max_minutes=args.max_minutes,
        num_envs=args.num_envs,
        exploration=args.exploration,
        memory=args.memory,
        symmetry=args.symmetry,
        reward=args.reward,
        guide=args.guide,
    )


def _reflections(recipe: Recipe, env: Env) -> Reflections | None:
    """Return how the recipe's world is mirrored, where it learns from that."""
    from robot_rl.hardware.symmetry import make_reflections
    from robot_rl.learn import ppo

    if not isinstance(recipe.config, ppo.Config) or recipe.config.symmetry == "none":
        return None
    return make_reflections(env.robot, env.contract, tuple(env.task.privileged), env.task.reflections)


def _folder(args: Args) -> Path:
    """Return the run's folder; runs/<recipe>/<time> unless one is named."""
    home = Path("runs") / args.recipe
    if args.out is not None:
        return args.out
    if not args.resume:
        return home / time.strftime("%Y-%m-%d_%H-%M-%S")
    runs = sorted(p for p in home.glob("*") if any((p / at / "checkpoints").is_dir() for at in (".", "offline")))
    if not runs:
        raise ValueError(f"nothing to resume in {home}; name a folder with --out")
    return runs[-1]


def _check_folder(args: Args, recipe: Recipe, out: Path) -> None:
    """Raise ValueError, before anything is written, where this run can neither begin nor go on in ``out``."""
    from robot_rl.learn.offline_online import newest

    begun = newest(out) is not None
    if args.resume and not begun:
        raise ValueError(f"nothing to resume: no checkpoint in {out / 'checkpoints'}")
    if not args.resume and begun:
        raise ValueError(f"{out / 'checkpoints'} already holds checkpoints; --resume the run or choose another --out")
    if args.resume and (out / RUN_FILE).is_file():
        check_goes_on(out, args.recipe, recipe, args.teacher)


def _about(args: Args, recipe: Recipe, env: Env, ranks: Ranks) -> dict[str, Any]:
    """Return what identifies the run: provenance and settings."""
    from robot_rl.learn.export import current_commit

    return {
        "recipe": args.recipe,
        "algorithm": recipe.algorithm,
        "seed": recipe.config.seed,
        "commit": current_commit(),
        "command": shlex.join(["robot-rl", *sys.argv[1:]]),
        "cpus": os.cpu_count(),
        "num_envs": recipe.num_envs,
        "ranks": ranks.size,
        "task": recipe.task,
        "robot": env.contract.robot,
        "contract": env.contract.fingerprint,
        "reward": recipe.reward,
        "recover": recipe.recover,
        "guide": recipe.guide,
        "config": dataclasses.asdict(recipe.config),
    }


def export_agent(agent: Learnt, env: Env, about: dict[str, Any], path: Path) -> Path:
    """Let the policy act, and export it with states and observations from that recording."""
    import numpy as np
    import torch

    from robot_rl.learn.export import Provenance, export_policy
    from robot_rl.learn.recurrent import RecurrentActor

    actor = agent.actor.cpu()
    if isinstance(actor, RecurrentActor):
        actor.clear()  # of other episodes, perhaps on another device
    cameras = [term.group for term in env.contract.images]
    obs, seen = env.reset(), []
    shown: dict[str, list[np.ndarray]] = {group: [] for group in cameras}
    with torch.no_grad():
        for _ in range(round(2.0 / env.dt_s)):
            seen.append(obs["policy"].numpy()[:_PARITY_STEPS])
            for group, pictures in shown.items():
                pictures.append(obs[group].numpy()[:_PARITY_STEPS])
            step = env.step(actor(obs["policy"], *(obs[group] for group in cameras)))
            if isinstance(actor, RecurrentActor):
                actor.forget((step.terminated >= 1.0) | step.truncated)
            obs = step.obs
    provenance = Provenance(
        recipe=about["recipe"],
        seed=about["seed"],
        steps=agent.steps,
        algorithm=about["algorithm"],
        commit=about["commit"],
        command=about["command"],
    )
    export_policy(
        actor,
        contract_of(agent, env.contract),
        path,
        provenance=provenance,
        joints=env.robot.joints,
        states=env.recorded_states(min(GOLDEN_STEPS, env.num_envs)),
        observations=np.concatenate(np.stack(seen, 1)),  # one copy after the other
        pictures={group: np.concatenate(np.stack(x, 1)) for group, x in shown.items()},
        sde_every=_sde_every(about["config"]),
    )
    return path


def _sde_every(config: dict[str, Any]) -> int:
    """Return after how many control steps gSDE drew anew; 0 in the settings is once per rollout."""
    learner = config.get("online") or config.get("rlpd") or config
    return learner.get("sde_every") or learner.get("num_steps", 8)
