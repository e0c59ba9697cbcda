"""Watch a policy: render a video, or open a window where there is a display.

Knows: when a picture is due. Does not know: how pictures are made (``sim.display``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from robot_rl.cli.eval import parse_changes
from robot_rl.contract.sight import pictures_of
from robot_rl.contract.spec import Command
from robot_rl.runtime.policy import Policy
from robot_rl.sim.display import Viewer, choose_gl, has_display, write_video
from robot_rl.sim.evaluation import load_pair, make_world, undisturbed
from robot_rl.sim.world import World


@dataclass(frozen=True)
class Args:
    """Run one robot with a policy and show it."""

    policy: Annotated[Path, tyro.conf.Positional]
    """The .onnx file, or the name of a released policy."""
    command: tuple[float, ...] = ()
    """What is asked, e.g. 0.5 0 0 (m/s, m/s, rad/s); by default the commands of a small tour."""
    seconds: float = 8.0
    """Simulated time [s]."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write this .mp4; without it a window opens, or without a display <policy>.mp4 is written here."""
    task: str = ""
    """A task of sim/tasks; the policy's own by default."""
    robot: str = ""
    """A robot of hardware/; the policy's own by default."""
    seed: int = 0
    """Of the initial state and disturbances."""
    disturbed: bool = False
    """Keep the task's sensor noise, delays, pushes and randomised physics."""
    change: tuple[str, ...] = ()
    """Physical parameters of the robot, as in robot-rl eval."""
    fps: float = 25.0
    """Pictures per simulated second of a video."""
    size: tuple[int, int] = (640, 480)
    """Width and height of a video, even numbers."""


def run(args: Args) -> int:
    """Write the video or show the window; print where the video is."""
    if args.seconds <= 0 or args.fps <= 0:
        raise ValueError(f"seconds is {args.seconds} and fps {args.fps}; both must be positive")
    choose_gl()
    policy, task = load_pair(args.policy, task=args.task, robot=args.robot)
    commands = tour(policy.contract.command, args.command)
    task = task if args.disturbed else undisturbed(task)
    world = make_world(policy, task, 1, seed=args.seed, changes=parse_changes(args.change), threads=1)
    steps = round(args.seconds * task.rate_hz)
    try:
        if args.out is None and has_display():
            _watch(world, policy, commands, steps)
        else:
            out = args.out or Path(f"{args.policy.stem}.mp4")
            pictures = _pictures(world, policy, commands, steps, args)
            print(f"{out}: {write_video(out, pictures, fps=args.fps)} pictures, {args.seconds:g} s")
    finally:
        world.close()
    return 0


def tour(command: Command, asked: tuple[float, ...]) -> np.ndarray:
    """Return the commands to show one after the other, (n, K): ``asked``, or each one up and down, then rest.

    Raises:
        ValueError: ``asked`` has another count of numbers than the policy has commands.
    """
    k = len(command.names)
    if asked:
        if len(asked) != k:
            raise ValueError(f"--command has {len(asked)} numbers; this policy takes {k}: {list(command.names)}")
        return np.array([asked])
    ends = [np.eye(k)[i] * end[i] for i in range(k) for end in (command.high, command.low)]
    return np.stack([*ends, np.zeros(k)])


def drive(world: World, policy: Policy, commands: np.ndarray, steps: int) -> Iterator[int]:
    """Run ``steps`` control steps, an equal share under each of ``commands``; yields the number of each."""
    world.commands.fixed = commands[:1].copy()
    policy.forget()
    obs = world.reset()
    for step in range(steps):
        world.commands.fixed = commands[[step * len(commands) // steps]]
        world.commands.value[:] = world.commands.fixed
        result = world.step(policy.infer(obs["policy"][0], pictures=pictures_of(policy.contract.images, obs, 0))[None])
        if result.terminated[0] >= 1.0 or result.truncated[0]:
            policy.forget()
        obs = result.obs
        yield step


def _pictures(world: World, policy: Policy, commands: np.ndarray, steps: int, args: Args) -> Iterator[np.ndarray]:
    shown = 0
    for step in drive(world, policy, commands, steps):
        if (step + 1) * world.dt_s * args.fps >= shown + 1 - 1e-9:
            shown += 1
            yield world.physics.frame(0, *args.size)


def _watch(world: World, policy: Policy, commands: np.ndarray, steps: int) -> None:
    """Show in real time until the time is over or the window is closed."""
    viewer = Viewer(world.physics)
    begin = time.monotonic()
    try:
        for step in drive(world, policy, commands, steps):
            time.sleep(max(0.0, begin + step * world.dt_s - time.monotonic()))
            if not viewer.show():
                return
    finally:
        viewer.close()
