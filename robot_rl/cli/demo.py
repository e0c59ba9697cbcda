"""The whole loop on a laptop: walk, change the robot, fine-tune from its own recording, swap while it moves.

Three operating system processes talk over DDS: the robot (twin, runtime, recorder), the learner and this operator.

Knows: how to start the two others, the course that the robot is driven over, what to compare.
Does not know: how any of it works; everything said to the robot goes over the wire.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from robot_rl import zoo
from robot_rl.data.atomic import write_whole

if TYPE_CHECKING:
    from robot_rl.cli.demonstration.course import Story
    from robot_rl.wire.messages import PolicyEvent

Process: TypeAlias = "subprocess.Popen[bytes]"

CHANGES: dict[str, dict[str, Any]] = {
    "weak_leg": {"motor_strength": {"RR_hip_joint": 0.3, "RR_thigh_joint": 0.3, "RR_calf_joint": 0.3}},
    "payload": {"payload_kg": 5.0},
    "slippery": {"friction": 0.25},
}
"""What may happen to the robot; see RANDOMIZABLE for what each number means."""


@dataclass(frozen=True)
class Args:
    """Fine-tune the released go2 policy on a robot that changed, live; prints a table and writes report.html."""

    policy: str = "go2_walk_ppo"
    """A released policy or a path."""
    change: str = "weak_leg"
    """What happens to the robot: weak_leg, payload or slippery."""
    seed: int = 0
    """Seed of the course, the exploration and the learner."""
    minutes: float = 5.0
    """Wall time of the fine-tuning [min]."""
    speed: float = 4.0
    """Simulated seconds per second of wall time."""
    explore: float = 0.1
    """Deviation of the exploration noise on the action while fine-tuning."""
    measure_s: float = 100.0
    """Simulated time of each measurement [s]."""
    recipe: str = "go2_tune_rlpd"
    """Recipe of the learner."""
    out: Path | None = None
    """Folder of the run; runs/demo/<time> by default."""
    json: bool = False
    """Print one JSON object instead of the table."""


def run(args: Args) -> int:
    """Run the demo; 0 where the fine-tuned policy is better than the released one on the changed robot."""
    if args.change not in CHANGES:
        raise ValueError(f"no change {args.change!r}; the choices are {sorted(CHANGES)}")
    from robot_rl.cli.demonstration.measure import summarise
    from robot_rl.cli.demonstration.page import print_table, render

    out = args.out or Path("runs/demo") / time.strftime("%Y-%m-%d_%H-%M-%S")
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("ROS_DOMAIN_ID", str(20 + os.getpid() % 80))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    policy = Path(args.policy) if args.policy.endswith(".onnx") else zoo.find("policies", f"released/{args.policy}")
    say(args, f"demo in {out}")
    processes = {"robot": _start("robot", out, _robot_command(args, policy, out))}
    try:
        story = _operate(args, processes, lambda: _start("learner", out, _learner_command(args, policy, out)))
    finally:
        for process in reversed(processes.values()):
            _stop(process)
    result = summarise(out / "episodes", story.windows, story.events, about=_about(args, policy))
    write_whole(out / "result.json", json.dumps(result, indent=2))
    write_whole(out / "report.html", render(result))
    if args.json:
        print(json.dumps(result["summary"]))
    else:
        print_table(result)
        print(f"report: {out / 'report.html'}")
    return 0 if result["summary"]["improvement"] > 0.0 else 1


def _robot_command(args: Args, policy: Path, out: Path) -> list[str]:
    return [
        "run", str(policy), "--robot", "go2", "--driver", "twin", "--wire", "dds",
        "--record", str(out / "episodes"), "--speed", str(args.speed), "--seed", str(args.seed),
    ]  # fmt: skip


def _learner_command(args: Args, policy: Path, out: Path) -> list[str]:
    return [
        "finetune", args.recipe, "--policy", str(policy), "--episodes", str(out / "episodes"),
        "--inbox", str(out / "inbox"), "--out", str(out / "learner"), "--wire", "dds", "--seed", str(args.seed),
        "--max-minutes", str(args.minutes + 5.0), "--no-progress",
    ]  # fmt: skip


def _start(name: str, out: Path, command: list[str]) -> Process:
    """Start ``robot-rl`` with ``command``; its output goes to ``out/<name>.log``."""
    log = (out / f"{name}.log").open("wb")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "robot_rl.cli.main", *command], stdout=log, stderr=subprocess.STDOUT, env=env
    )


def _stop(process: Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _operate(args: Args, processes: dict[str, Process], start_learner: Callable[[], Process]) -> Story:
    """Drive the robot through the story; the part that a person would play. The learner joins ``processes``."""
    from robot_rl.cli.demonstration.course import Driver, Story
    from robot_rl.wire.operator import Operator
    from robot_rl.wire.transport import open_transport

    story = Story()
    transport = open_transport("dds", node="demo_operator")

    def note(event: PolicyEvent) -> None:
        story.events.append({"kind": event.kind, "tick": event.tick, "policy": event.policy, "reason": event.reason})
        if event.kind.startswith("swap"):
            say(args, f"  {event.kind} {event.policy[:12]} {event.reason}".rstrip())

    def alive() -> None:
        for name, process in processes.items():
            if process.poll() is not None:
                raise ChildProcessError(f"the {name} process ended with code {process.returncode}; see {name}.log")

    operator = Operator(transport, on_event=note)
    driver = Driver(operator, story, say=lambda text: say(args, text), alive=alive)
    try:
        say(args, "the robot stands up and the released policy walks")
        driver.begin()
        driver.course("released, robot as trained", args.measure_s / 2, seed=1000 + args.seed)
        say(args, f"the robot changes: {args.change} {CHANGES[args.change]}")
        operator.ask("change", json.dumps(CHANGES[args.change]))
        driver.course("released, robot changed", args.measure_s, seed=2000 + args.seed)
        say(args, f"the learner fine-tunes for {args.minutes:g} min while the robot walks")
        processes["learner"] = start_learner()
        operator.ask("explore", str(args.explore))
        driver.course("fine-tuning", args.minutes * 60.0 * args.speed, seed=3000 + args.seed)
        operator.ask("explore", "0")
        say(args, "the learner ends and offers its last policy")
        swaps = operator.status.swaps if operator.status else 0
        _stop(processes.pop("learner"))
        operator.wait(lambda s: s.swaps > swaps and s.stage == "idle", timeout_s=30.0, what="the last policy to drive")
        driver.course("fine-tuned, robot changed", args.measure_s, seed=2000 + args.seed)
        operator.drive(None)
        operator.ask("mode", "damp")
    finally:
        operator.close()
        transport.close()
    return story


def _about(args: Args, policy: Path) -> dict[str, Any]:
    return {
        "policy": str(policy.name), "change": {args.change: CHANGES[args.change]}, "seed": args.seed,
        "minutes": args.minutes, "speed": args.speed, "explore": args.explore, "cpus": os.cpu_count(),
        "command": "robot-rl " + " ".join(sys.argv[1:]),
    }  # fmt: skip


def say(args: Args, text: str) -> None:
    """Tell a person what happens; on stderr where stdout is for JSON."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr if args.json else sys.stdout, flush=True)
