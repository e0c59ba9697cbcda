"""Run a policy on a robot or its twin: control loop, recorder and a wire, until Ctrl-C.

The last thing that happens, whatever ends it, is DAMP and a sealed store.

Knows: how driver, policy, loop, recorder and station are joined.
Does not know: what any of them does.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from robot_rl.cli.robot_site import DRIVERS, Site, load, make_site
from robot_rl.data.blocks import Compactor
from robot_rl.runtime import run as runner
from robot_rl.runtime.explorer import Explorer
from robot_rl.runtime.loop import ControlLoop, LoopConfig
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy

if TYPE_CHECKING:
    from robot_rl.runtime.verdict import Verdict
    from robot_rl.wire.messages import PolicyEvent

__all__ = ["DRIVERS", "Args", "Site", "load", "make_site", "run"]

STATUS_LINE_S = 0.5


@dataclass(frozen=True)
class Args:
    """Run a policy on a robot. It starts in OFF: a console or another program brings it to its feet."""

    policy: Annotated[str, tyro.conf.Positional]
    """A policy file, or the name of a released policy."""
    robot: str = ""
    """Name of a folder in hardware; the policy's own robot by default."""
    driver: Literal["twin", "mirror", "hardware"] = "twin"
    """twin: simulated; mirror: no physics, joints follow; hardware: the real one."""
    wire: Literal["dds", "ros", "loopback"] = "dds"
    """dds: ROS 2's wire without ROS; ros: rclpy; loopback: nobody hears."""
    namespace: str = ""
    """Namespace of every topic, e.g. go2."""
    record: Path | None = None
    """Folder of the episode store; nothing is recorded without."""
    start: Literal["off", "policy"] = "off"
    """policy: stand up and let the policy drive without being asked, at zero command."""
    duration_s: float | None = None
    """Stop after this time [s of the loop's clock]; by default only on Ctrl-C."""
    stamped: bool = False
    """Whether cmd_vel is a TwistStamped."""
    on_command_loss: Literal["damp", "zero"] = "damp"
    """What the policy does when a source of commands falls silent."""
    episode_s: float = 60.0
    """Longest episode [s]."""
    priority: int | None = None
    """SCHED_FIFO priority of the control thread, 1 to 99."""
    scene: str = "flat"
    """Scene of the twin."""
    task: str = ""
    """Task whose objects, terrain and scene the twin has; the policy's own where its contract names objects."""
    speed: float = 1.0
    """Simulated seconds per second of the twin and the mirror."""
    seed: int = 0
    """Seed of exploration noise and of the twin's sensor noise."""
    explore: bool = False
    """Explore with the policy's own gSDE noise, for policies trained with --exploration gsde; the shield stays on."""
    explore_seed: int | None = None
    """Seed of that noise, by default --seed; with the record's observations and ticks it repeats every action."""
    explore_every: int | None = None
    """Ticks between two draws of that noise; as in training by default."""
    judge: Path | None = None
    """A judge of success, which looks at the robot's state a few times a second and labels episodes."""
    json: bool = False
    """Print one JSON object per event, and one at the end, instead of a status line."""


def run(args: Args) -> int:
    """Run until Ctrl-C, SIGTERM or ``duration_s``; 0 where the robot was damped and the store sealed."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    from robot_rl.wire.station import Station
    from robot_rl.wire.transport import open_transport

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    robot, policy = load(args.policy, args.robot)
    config = _loop_config(args, policy)
    transport = open_transport(args.wire, node=f"robot_rl_{robot.name}", namespace=args.namespace)
    site = make_site(
        policy, robot, driver=args.driver, record=args.record, config=config,
        speed=args.speed, scene=args.scene, seed=args.seed, task=args.task,
    )  # fmt: skip
    out = _Printer(site.loop, as_json=args.json)
    compactor = None if args.record is None else Compactor(args.record)
    verdict = _verdict(args.judge, site.loop)
    station = Station(site.loop, transport, stamped_command=args.stamped, handlers=site.handlers, on_event=out.event)
    try:
        station.start()
        if verdict is not None:
            verdict.start()
        out.start(f"{robot.title}: {policy.path} on {args.driver} over {args.wire}{_exploring(site.loop)}")
        if args.start == "policy":
            threading.Thread(target=_stand_and_go, args=(site.loop, stop), name="starter", daemon=True).start()
        runner.run(site.loop, _until(site.loop, stop, args.duration_s), priority=args.priority)
    finally:
        if verdict is not None:
            verdict.close()
        station.close()
        transport.close()
        if compactor is not None:
            compactor.close()
        out.close()
    return 0


def _verdict(path: Path | None, loop: ControlLoop) -> Verdict | None:
    from robot_rl.contract.judge import Judge
    from robot_rl.runtime.verdict import Verdict, look_at

    judge = None if path is None else Judge(path)
    return None if judge is None else Verdict(loop, judge, look_at(loop, judge))


def _loop_config(args: Args, policy: Policy) -> LoopConfig:
    """Return how the loop behaves; raise ValueError where the policy cannot explore as asked, before anything opens."""
    config = LoopConfig(
        episode_s=args.episode_s,
        on_command_loss=args.on_command_loss,
        explore_seed=args.seed if args.explore_seed is None else args.explore_seed,
        gsde=args.explore,
        gsde_every=args.explore_every,
    )
    if args.explore:
        Explorer(policy, seed=config.explore_seed, every=config.gsde_every)
    elif args.explore_seed is not None or args.explore_every is not None:
        raise ValueError("--explore-seed and --explore-every say how to explore; add --explore to do it")
    return config


def _exploring(loop: ControlLoop) -> str:
    explorer = loop.explorer
    return "" if explorer is None else f", exploring with seed {explorer.seed}, drawing every {explorer.every} ticks"


def _until(loop: ControlLoop, stop: threading.Event, duration_s: float | None) -> Callable[[], bool]:
    """Return what the loop asks after every tick."""
    if duration_s is None:
        return stop.is_set
    last = round(duration_s / loop.clock.period_s)
    return lambda: stop.is_set() or loop.latest.tick + 1 >= last


def _stand_and_go(loop: ControlLoop, stop: threading.Event) -> None:
    """Ask for DAMP, STAND and POLICY, each when it may follow; a robot that was stopped meanwhile is left alone."""
    for request in (Request.DAMP, Request.STAND):
        loop.requests.ask(request, "start")
        stop.wait(4 * loop.clock.period_s)
    while not stop.is_set():
        status = loop.status()
        if status.estopped or status.mode.name not in ("STAND", "DAMP", "OFF"):
            return
        if status.stood_up:
            loop.requests.ask(Request.POLICY, "start")
            return
        stop.wait(0.05)


class _Printer:
    """What a person or a program sees: a status line on a terminal, or JSON lines."""

    def __init__(self, loop: ControlLoop, *, as_json: bool) -> None:
        self._loop, self._json = loop, as_json
        self._live = not as_json and sys.stdout.isatty()
        self._clear = "\r\x1b[K" if self._live else ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="status-line", daemon=True)

    def start(self, title: str) -> None:
        if self._json:
            self._line({"event": "start", "title": title})
        else:
            print(f"{title}\nCtrl-C damps the robot and ends", flush=True)
        if self._live:
            self._thread.start()

    def event(self, event: PolicyEvent) -> None:
        if self._json:
            self._line(json.loads(event.detail))
        else:
            print(f"{self._clear}{time.strftime('%H:%M:%S')} {event.kind}: {event.reason}", flush=True)

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._json:
            self._line({"event": "end", **_summary(self._loop)})
        else:
            print(self._clear + _line(self._loop), flush=True)

    def _refresh(self) -> None:
        while not self._stop.wait(STATUS_LINE_S):
            print(f"{self._clear}{_line(self._loop)}", end="", flush=True)

    def _line(self, content: Mapping[str, Any]) -> None:
        print(json.dumps({"wall_s": round(time.time(), 3), **content}), flush=True)


def _summary(loop: ControlLoop) -> dict[str, Any]:
    status = loop.status()
    latency = {k: round(v, 6) for k, v in dataclasses.asdict(status.latency).items()}
    return {
        "tick": status.tick,
        "mode": status.mode.name,
        "policy": status.policy,
        "overruns": status.overruns,
        "drops": status.drops,
        "latency": latency,
    }


def _line(loop: ControlLoop) -> str:
    status = loop.status()
    latency, command = status.latency, " ".join(f"{value:+.2f}" for value in status.command)
    parts = (
        status.mode.name + (" E-STOP" if status.estopped else ""),
        f"tick {status.tick} at {1.0 / status.period_s:g} Hz",
        f"work {latency.work_p50_s * 1e3:.2f}/{latency.work_p99_s * 1e3:.2f} ms",
        f"late {latency.late_p99_s * 1e3:.2f} ms",
        f"overruns {status.overruns}",
        f"drops {status.drops}",
        f"command {command}",
        f"policy {status.policy[:8]}",
    )
    return "  ".join(parts)
