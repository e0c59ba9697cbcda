"""Fine-tune a released policy from the robot's own recordings, while it moves.

Joins the store, the task's reward and, where asked, a wire; Ctrl-C stops after a last checkpoint and a last policy.

Knows: recipes, tasks, what an offer looks like on the wire.
Does not know: how learning works (``learn.learner``), how the robot takes a policy in.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from robot_rl import zoo
from robot_rl.contract.golden import Bundle, read_bundle
from robot_rl.data.atomic import write_whole
from robot_rl.data.follow import EpisodeReader, Rows
from robot_rl.hardware.robot import Robot, load_robot

if TYPE_CHECKING:
    from robot_rl.data.feeder import Reward
    from robot_rl.learn.learner import FineTuning, Offer, Progress
    from robot_rl.sim.task import Task

JOB_FILE = "job.json"
_FIRST_ROWS = 20


@dataclass(frozen=True)
class Args:
    """Fine-tune a policy from episodes; started again with the same --out, it goes on where it was."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a file in policies/recipes, e.g. go2_tune_rlpd."""
    policy: Path
    """The released .onnx to start from."""
    episodes: Path
    """The robot's episode store; followed while it grows."""
    inbox: Path
    """Folder that gets the improved policies."""
    out: Path | None = None
    """Folder of checkpoints and metrics; <inbox>/run by default."""
    prior: Path | None = None
    """A store of earlier episodes, half of every minibatch."""
    critics: Path | None = None
    """The run that the policy was exported from (rlpd, iql, rlif, aprl, pixels), or its checkpoint: its critics learn
    on. A policy that sees needs it."""
    wire: str = ""
    """dds or ros: announce policies there. Empty announces nothing."""
    namespace: str = ""
    """Namespace of the robot on the wire."""
    max_minutes: float | None = None
    """Stop after this much learning [min]; the recipe's own by default, 0 never."""
    max_updates: int | None = None
    """Stop after this many critic updates; the recipe's own by default, 0 never."""
    updates_per_s: float | None = None
    """Most critic updates per second; the recipe's own by default, 0 is no limit."""
    start_event: str | None = None
    """Ignore what was recorded before an event of this name, e.g. explore; the recipe's own by default."""
    seed: int | None = None
    """Of networks and minibatches; the recipe's own by default."""
    reward: str | None = None
    """task, intervention, operator (labels given by keys or by run --judge), or a judge's .onnx file; the recipe's own
    by default."""
    progress: bool = True
    """Show progress on the terminal."""


def run(args: Args) -> int:
    """Learn until time is up or Ctrl-C; the exit code is 0 where a final policy stands in the inbox."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    from robot_rl.learn import learner
    from robot_rl.sim.recorded import make_features, measured_terms

    torch.set_num_threads(1)  # beside the robot's process a second one waits at barriers more than it computes
    tuning = vary(zoo.load("policies", f"recipes/{args.recipe}").recipe(), args)
    bundle = read_bundle(args.policy)
    task: Task = zoo.load("sim", f"tasks/{tuning.task}").task()
    _check(bundle, task, args.policy)
    out = args.out or args.inbox / "run"
    _check_goes_on(out, tuning.reward)
    robot = load_robot(bundle.contract.robot)
    stop = _Stop()
    rows = first_rows(args.episodes, bundle, stop=stop)
    if rows is None:
        print("stopped before the robot recorded anything", file=sys.stderr)
        return 1
    names = () if bundle.contract.images else measured_terms(task, bundle.contract, robot, rows)
    features = make_features(task, bundle.contract, robot, names)
    with _Announcer(args, robot) as announcer:
        job = learner.Job(
            released=args.policy, robot=robot, episodes=args.episodes, inbox=args.inbox,
            out=out, reward=_reward(tuning, task, bundle, robot), recipe=args.recipe,
            features=features, num_features=features(rows).shape[1], prior=args.prior, announce=announcer.offer,
            critics=_critics(args, tuning, bundle),
        )  # fmt: skip
        write_whole(out / JOB_FILE, json.dumps({"reward": tuning.reward}))
        end = learner.learn(job, tuning.config, stop=stop, watch=_watcher(args, tuning, announcer))
    print(
        f"{end.updates} updates from {end.transitions} transitions, {end.offers} policies in {args.inbox}",
        file=sys.stderr,
    )
    return 0 if end.offers else 1


def vary(tuning: object, args: Args) -> FineTuning:
    """Return the recipe with the command line's numbers in place of its own.

    Raises:
        ValueError: The recipe trains from scratch.
    """
    from robot_rl.learn.learner import FineTuning

    if not isinstance(tuning, FineTuning):
        raise ValueError(f"recipe {args.recipe!r} trains from scratch: robot-rl train {args.recipe}")
    cfg = tuning.config
    if args.seed is not None:
        cfg = dataclasses.replace(cfg, rlpd=dataclasses.replace(cfg.rlpd, seed=args.seed))
    wanted = {name: getattr(args, name) for name in ("max_minutes", "max_updates", "updates_per_s", "start_event")}
    cfg = dataclasses.replace(cfg, **{name: value for name, value in wanted.items() if value is not None})
    return dataclasses.replace(tuning, config=cfg, reward=args.reward or tuning.reward)


def first_rows(store: Path, bundle: Bundle, *, stop: Callable[[], bool]) -> np.ndarray | None:
    """Wait until the store holds rows of the policy's contract and return some; None where stopped before."""
    said = False
    while not stop():
        reader = EpisodeReader.follow(store, contract=bundle.contract)
        rows = [item.rows for item in reader.poll(_FIRST_ROWS) if isinstance(item, Rows)]
        reader.close()
        if rows:
            return np.concatenate(rows)
        if not said:
            print(f"waiting for episodes of contract {bundle.contract.fingerprint[:12]}… in {store}", file=sys.stderr)
            said = True
        time.sleep(0.2)
    return None


def _reward(tuning: FineTuning, task: Task, bundle: Bundle, robot: Robot) -> Reward:
    from robot_rl.contract.judge import Judge
    from robot_rl.data.interventions import intervention_reward
    from robot_rl.data.rewards import judged_reward, operator_reward
    from robot_rl.sim.recorded import make_reward

    if tuning.reward == "intervention":
        return intervention_reward(tuning.labelling)
    if tuning.reward == "operator":
        return operator_reward()
    if tuning.reward != "task":
        return judged_reward(Judge(Path(tuning.reward)), bundle.contract)
    return make_reward(task, bundle.contract, robot)


def _critics(args: Args, tuning: FineTuning, bundle: Bundle) -> Path | None:
    """Return the checkpoint whose critics are taken over; raise ValueError where they value another reward."""
    if args.critics is None:
        return None
    from robot_rl.cli.learning import find_checkpoint, same
    from robot_rl.learn.warm_start import read_critics

    path = find_checkpoint(args.critics)[1]
    if bundle.contract.images:  # ``pupil_seeing`` reads all of it
        return path
    learnt = read_critics(path).reward
    if not same(learnt, tuning.reward):
        raise ValueError(f"{path} values the reward {learnt!r}; the recipe {args.recipe!r} has {tuning.reward!r}")
    return path


def _check_goes_on(out: Path, reward: str) -> None:
    """Raise ValueError where the job in ``out`` has learnt from another reward so far, which its replay keeps."""
    from robot_rl.cli.learning import same
    from robot_rl.learn import checkpoint

    path = out / JOB_FILE
    if checkpoint.latest(out / "checkpoints") is None or not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))["reward"]
    if not same(before, reward):
        raise ValueError(
            f"{out} holds a job of reward {before!r}, not of {reward!r}; repeat --reward {before}, "
            "or choose another --out"
        )


def _check(bundle: Bundle, task: Task, policy: Path) -> None:
    if bundle.contract.task != task.name:
        raise ValueError(f"{policy} was trained for task {bundle.contract.task!r}; the recipe rewards {task.name!r}")
    if bundle.memory is not None:
        raise ValueError(
            f"{policy} has memory {bundle.memory.kind!r}; fine-tuning learns from single transitions and needs memory "
            "'none': robot-rl train RECIPE --memory none"
        )


class _Stop:
    """True after Ctrl-C or SIGTERM, so that the last checkpoint and policy are still written."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:  # twice: at once
            raise KeyboardInterrupt
        self.asked = True


class _Announcer:
    """Tells the robot of offers and the operator of progress, over a wire or not at all."""

    def __init__(self, args: Args, robot: Robot) -> None:
        self._recipe, self._wire = args.recipe, None
        self._offered = ""
        if args.wire:
            from robot_rl.wire import messages
            from robot_rl.wire.transport import open_transport

            self._wire = open_transport(args.wire, node=f"learner_{robot.name}", namespace=args.namespace)
            for topic in (messages.OFFER, messages.LEARNER):
                self._wire.advertise(topic)

    def __enter__(self) -> _Announcer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._wire is not None:
            self._wire.close()

    def offer(self, offer: Offer) -> None:
        """Publish an offer."""
        self._offered = offer.sha256
        if self._wire is not None:
            from robot_rl.wire import messages
            from robot_rl.wire.standard import stamped

            uri = f"file://{offer.path.resolve()}"
            message = messages.PolicyOffer(
                header=stamped(), uri=uri, sha256=offer.sha256, parent=offer.parent, recipe=offer.recipe,
                updates=offer.updates,
            )  # fmt: skip
            self._wire.publish(messages.OFFER, message)

    def status(self, progress: Progress, updates_per_s: float) -> None:
        """Publish where the learner stands."""
        if self._wire is not None:
            from robot_rl.wire import messages
            from robot_rl.wire.standard import KeyValue, stamped

            metrics = tuple(KeyValue(name, f"{value:.6g}") for name, value in progress.metrics.items())
            message = messages.LearnerStatus(
                header=stamped(), recipe=self._recipe, phase="learning" if progress.updates else "waiting",
                transitions=progress.transitions, updates=progress.updates, updates_per_s=updates_per_s,
                offers=progress.offers, policy=self._offered, metrics=metrics,
            )  # fmt: skip
            self._wire.publish(messages.LEARNER, message)


def _watcher(args: Args, tuning: FineTuning, announcer: _Announcer) -> Callable[[Progress], None]:
    """Return what shows progress, once a second: a line on a terminal, a message on the wire."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    minutes = tuning.config.max_minutes
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    bar = Bar(*columns, console=Console(stderr=True), disable=not (args.progress and sys.stderr.isatty()))
    task = bar.add_task("fine-tune", total=minutes * 60.0 or None, note="")
    bar.start()
    last: dict[str, Any] = {"s": time.monotonic(), "updates": 0}

    def watch(progress: Progress) -> None:
        now = time.monotonic()
        if now - last["s"] < 1.0:
            return
        rate = (progress.updates - last["updates"]) / (now - last["s"])
        last.update(s=now, updates=progress.updates)
        m = progress.metrics
        done = (f"{progress.transitions:,} transitions", f"{progress.updates:,} updates ({rate:.0f}/s)")
        note = " · ".join((*done, f"{progress.offers} offers"))
        if m:
            note += f" · reward {m['reward']:.4f} · Q {m['q']:.2f} · moved {m.get('moved', 0.0):.3f}"
        bar.update(task, completed=progress.learning_s, note=note)
        announcer.status(progress, rate)

    return watch
