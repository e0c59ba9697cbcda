"""Which learner a recipe means: it learns here, and its checkpoints are read here, for ``train`` and ``export``.

Knows: algorithms by name, the layout of a run's folder, where a student finds its teacher.
Does not know: worlds, how the algorithms learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from robot_rl import zoo

if TYPE_CHECKING:
    from torch import nn

    from robot_rl.contract.spec import Contract
    from robot_rl.data.pictures import PictureReplay
    from robot_rl.data.replay import Replay
    from robot_rl.hardware.symmetry import Reflections
    from robot_rl.learn import distill, imitation, practice, rlif
    from robot_rl.learn.env import VecEnv
    from robot_rl.learn.jump_start import Guide
    from robot_rl.learn.ranks import Ranks
    from robot_rl.learn.recipe import Recipe
    from robot_rl.sim.task import Task

    Student = distill.Config | rlif.Config | imitation.Config

RUN_FILE = "run.json"


class Learnt(Protocol):
    """What every algorithm comes back with."""

    @property
    def actor(self) -> nn.Module:
        """The policy, from raw observations to actions."""
        ...

    @property
    def steps(self) -> int:
        """Environment steps behind it, or updates where it was learnt from data alone."""
        ...


def learn(
    recipe: Recipe,
    world: VecEnv,
    out: Path,
    *,
    resume: bool,
    progress: bool,
    reflections: Reflections | None,
    ranks: Ranks,
    teacher: Path | None,
    prior: Replay | None,
    pictures: PictureReplay | None = None,
    guide: Guide | None = None,
) -> Learnt:
    """Let the recipe's algorithm learn in ``world``.

    ``teacher`` is the checkpoint that a student learns from, ``prior`` what others did, ``pictures`` what they saw,
    ``guide`` who acts first.
    """
    from robot_rl.learn import aprl, aprl_loop, offline_online, pixels, pixels_loop, ppo, ppo_loop, practice
    from robot_rl.learn import distill, rlpd, rlpd_loop  # isort: skip
    from robot_rl.learn.jump_start import JumpStart

    cfg = recipe.config
    if isinstance(cfg, ppo.Config):
        return ppo_loop.train(
            cfg, world, out, resume=resume, progress=progress, reflections=reflections, ranks=ranks
        )  # fmt: skip
    if ranks.size > 1:
        raise ValueError(f"{recipe.algorithm!r} learns in one process, not in {ranks.size}; start it without torchrun")
    if ranks.device != "cpu" and not isinstance(cfg, rlpd.Config | distill.Config):
        raise ValueError(f"{recipe.algorithm!r} learns on the CPU; --device cuda is for ppo, rlpd and distillation")
    if isinstance(cfg, rlpd.Config):
        led = None if guide is None else JumpStart(recipe.jump_start, guide, num_envs=world.num_envs, seed=cfg.seed)
        rlpd_loop.train(cfg, world, out, prior=prior, jump_start=led, resume=resume, progress=progress)
        return load_learnt(find_checkpoint(out)[1])
    if isinstance(cfg, offline_online.Config):
        assert prior is not None, "IQL has data"
        if resume and cfg.total_steps:
            _leave_data(out)
        offline_online.train(cfg, world, prior, out, resume=resume, progress=progress)
        return load_learnt(find_checkpoint(out)[1])
    if isinstance(cfg, pixels.Config):
        return pixels_loop.train(cfg, world, out, prior=pictures, resume=resume, progress=progress)
    if isinstance(cfg, aprl.Config):
        return cast("Learnt", aprl_loop.train(cfg, world, out, resume=resume, watch=speed_of(world), progress=progress))
    if isinstance(cfg, practice.Config):
        return _practise(recipe.task, cfg, out, resume=resume, progress=progress)
    assert teacher is not None, "a student has a teacher"
    return _learn_from(teacher, cfg, world, out, device=ranks.device, resume=resume, progress=progress)


def _leave_data(out: Path) -> None:
    """Where a run of IQL stayed with the data so far, make that the first of two stages, so that it goes online."""
    from robot_rl.learn import checkpoint
    from robot_rl.learn.metrics import METRICS_FILE
    from robot_rl.learn.offline_online import OFFLINE

    path = checkpoint.latest(out / "checkpoints")
    if path is None or checkpoint.load(path).get("algorithm") != "iql":
        return
    (out / OFFLINE).mkdir(exist_ok=True)
    for old in (*out.glob(METRICS_FILE), *out.glob("*tfevents*"), out / "checkpoints"):  # what is asked for, last
        old.rename(out / OFFLINE / old.name)


def _practise(task: str, cfg: practice.Config, out: Path, *, resume: bool, progress: bool) -> Learnt:
    """Let policies take turns in a world of ``task`` that nobody resets."""
    from robot_rl.learn import practice_loop
    from robot_rl.sim.practice import make_practice

    room = make_practice(zoo.load("sim", f"tasks/{task}").task(), seed=cfg.seed)
    try:
        return practice_loop.train(
            cfg, cast("practice_loop.PracticeWorld", room), out, resume=resume, progress=progress
        )  # fmt: skip
    finally:
        room.close()


def _learn_from(
    teacher: Path, cfg: Student, world: VecEnv, out: Path, *, device: str, resume: bool, progress: bool
) -> Learnt:
    """Let a student learn from the policy of the checkpoint ``teacher``, which says what it would do or takes over."""
    from robot_rl.learn import distill, distill_loop, imitation_loop, rlif, rlif_loop
    from robot_rl.learn.overseer import Overseer
    from robot_rl.learn.teacher import load_teacher

    master = load_teacher(teacher, {**world.obs_sizes, "action": world.num_actions}, device)
    if isinstance(cfg, distill.Config):
        return distill_loop.train(cfg, world, out, master, resume=resume, progress=progress)
    boss = Overseer(cfg.strategy, world.num_envs, expert=master.label, judge=master.judge, seed=cfg.seed)
    if isinstance(cfg, rlif.Config):
        return cast("Learnt", rlif_loop.train(cfg, world, out, boss, resume=resume, progress=progress))
    return imitation_loop.train(cfg, world, out, boss, resume=resume, progress=progress)


def speed_of(world: VecEnv) -> Callable[[], dict[str, float]]:
    """Return what says how fast the robots of a simulated world go ahead [m/s], or nothing where they stand fast.

    Where a policy gets them up it also says whether somebody put one back after this step: ``put_back``, 0 or 1.
    """
    from robot_rl.sim.env import Env

    if not isinstance(world, Env) or not world.robot.floating_base:
        return dict
    inner, before = world.world, None

    def watched() -> dict[str, float]:
        nonlocal before
        row = {"speed": float(np.mean(inner.state.lin_vel_b[..., 0]))}  # type: ignore[index]  # it floats
        if inner.get_up is not None:
            row["put_back"] = 0.0 if before is None else float(inner.put_back - before)
            before = inner.put_back
        return row

    return watched


def contract_of(learnt: Learnt, contract: Contract) -> Contract:
    """Return the contract of an exported policy: the task's, and what the learner assumed beyond it."""
    from robot_rl.contract.box import with_box
    from robot_rl.learn import aprl

    return with_box(contract, learnt.box) if isinstance(learnt, aprl.Grown) else contract


def load_learnt(path: Path) -> Learnt:
    """Read the policy of a checkpoint, whichever algorithm wrote it.

    Raises:
        ValueError: The file is no whole checkpoint, or of no known algorithm.
    """
    from robot_rl.learn import aprl, checkpoint, distill, imitation, iql, pixels, ppo, practice, rlif, rlpd_file
    from robot_rl.learn.recipe import ALGORITHMS

    tree = checkpoint.load(path)
    readers = {
        "ppo": ppo.unpack, "distill": distill.unpack, "rlif": rlif.unpack, "imitation": imitation.unpack,
        "rlpd": rlpd_file.unpack, "iql": iql.unpack, "pixels": pixels.unpack, "aprl": aprl.unpack,
        "practice": practice.unpack,
    }  # fmt: skip
    unpack = readers.get(str(tree.get("algorithm")))
    if unpack is None:
        raise ValueError(f"{path} is a checkpoint of {tree.get('algorithm')!r}; the choices are {tuple(ALGORITHMS)}")
    return cast("Learnt", unpack(tree)[0])


def find_teacher(recipe: Recipe, named: Path | None, out: Path) -> Path | None:
    """Return the checkpoint of the teacher; None where the recipe needs none.

    Args:
        recipe: What is learnt.
        named: A run's folder or a checkpoint; else the teacher of the run in ``out``, or the recipe's newest one.
        out: Folder of the run.

    Raises:
        ValueError: There is no such teacher, or the recipe needs none but one is named.
    """
    from robot_rl.learn import distill, imitation, rlif

    cfg = recipe.config
    if not isinstance(cfg, distill.Config | rlif.Config | imitation.Config):
        if named is not None:
            raise ValueError(f"algorithm {recipe.algorithm!r} has no teacher; leave --teacher away")
        return None
    if named is not None:
        return find_checkpoint(named)[1]
    if (out / RUN_FILE).is_file() and (before := read_about(out).get("teacher")):
        return find_checkpoint(Path(before))[1]
    runs = sorted(p for p in (Path("runs") / cfg.teacher).glob("*") if (p / "checkpoints").is_dir())
    if not runs:
        raise ValueError(
            f"no teacher: runs/{cfg.teacher} holds no run; train one first, robot-rl train {cfg.teacher}, "
            "or name a run's folder or checkpoint with --teacher"
        )
    return find_checkpoint(runs[-1])[1]


def check_goes_on(out: Path, name: str, recipe: Recipe, teacher: Path | None) -> None:
    """Raise ValueError where the run in ``out`` was begun otherwise than it is to go on; it says what to repeat.

    Args:
        out: Folder of the run.
        name: Of the recipe.
        recipe: What is learnt, varied by the command line.
        teacher: Who is named on the command line, if anybody.
    """
    before = read_about(out)
    guide, reward = before.get("guide", ""), before.get("reward", "task")
    begun = [
        ("recipe", before.get("recipe", ""), name, ""),
        ("task", before.get("task", ""), recipe.task, ""),
        ("recover", before.get("recover", ""), recipe.recover, ""),
        ("guide", guide, recipe.guide, f"repeat --guide {guide}, or " if guide else "leave --guide away, or "),
        ("reward", reward, recipe.reward, f"repeat --reward {reward}, or "),
    ]
    taught = before.get("teacher") or ""
    if teacher is not None and Path(taught).is_file():  # where it is gone, another may be named
        begun.append(("teacher", taught, str(find_checkpoint(teacher)[1]), "leave --teacher away, or "))
    for what, first, now, cure in begun:
        if not same(first, now):
            raise ValueError(f"{out} holds a run of {what} {first!r}, not of {now!r}; {cure}choose another --out")


def same(one: str, other: str) -> bool:
    """Return whether two names mean the same, which may be two paths of one file."""
    return Path(one).resolve() == Path(other).resolve()


def check_teacher(checkpoint: Path, task: Task) -> None:
    """Raise ValueError where the teacher's run was on another robot, or with other senses, than ``task`` has.

    Widths alone would let a teacher pass that reads one quantity for another. A checkpoint out of its run's folder says
    nothing of its task; then widths must do.
    """
    folder, _ = find_checkpoint(checkpoint)
    if not (folder / RUN_FILE).is_file():
        return
    own = zoo.load("sim", f"tasks/{read_about(folder)['task']}").task()
    for what, theirs, ours in (
        ("robot", own.robot, task.robot),
        ("observations", list(own.obs), list(task.obs)),
        ("privileged terms", list(own.privileged), list(task.privileged)),
    ):
        if theirs != ours:
            raise ValueError(
                f"the teacher {checkpoint} was trained on task {own.name!r} with {what} {theirs}; task {task.name!r} "
                f"has {ours}; train a teacher there"
            )


def check_senses(recipe: Recipe, task: Task) -> None:
    """Raise ValueError where the task shows pictures to an algorithm that does not look at any."""
    if task.cameras and recipe.algorithm != "pixels":
        raise ValueError(
            f"task {task.name!r} shows pictures of {[term.name for term in task.cameras]}, which {recipe.algorithm!r} "
            "does not look at; learn with algorithm 'pixels', or from a task without cameras"
        )


def sees_privileged(about: dict[str, Any]) -> bool:
    """Return whether a run's actor sees what no robot measures: a teacher, which is not exported."""
    return about["config"].get("actor_obs", "policy") != "policy"


def find_checkpoint(source: Path) -> tuple[Path, Path]:
    """Return the run's folder and the checkpoint that ``source`` means.

    Raises:
        ValueError: There is no checkpoint; what was looked at is named.
    """
    from robot_rl.learn.offline_online import OFFLINE, newest

    if source.is_file():
        folder = source.resolve().parent.parent
        return folder.parent if folder.name == OFFLINE else folder, source
    path = newest(source) if source.is_dir() else None
    if path is None:
        raise ValueError(f"no checkpoint in {source}; expected a run's folder with checkpoints/*.npz, or such a file")
    return source, path


def read_about(folder: Path) -> dict[str, Any]:
    """Read what identifies the run in ``folder``; raise ValueError where that is missing or no JSON."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is no run's folder: it has no {RUN_FILE}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
