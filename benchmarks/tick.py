"""Observe and infer of one tick, over one bare onnxruntime call of the same network.

Floor: ``InferenceSession.run`` of the network alone on one thread, called in turns with ours. With ``seconds`` the
whole loop also runs in real time, recorder included, beside a process that trains on every core and a bare timer of the
same rate and priority, whose lateness is the machine's own.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from robot_rl import zoo
from robot_rl.contract.apply import Observer
from robot_rl.contract.sample import sample_states
from robot_rl.contract.vectors import split
from robot_rl.data.episodes import EpisodeWriter
from robot_rl.hardware.mirror import MirrorDriver
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.nets import DenseNet
from robot_rl.runtime.clock import WallClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.recorder import Recorder
from robot_rl.runtime.run import run as run_loop
from robot_rl.runtime.ticks import TickLog

HIDDEN = (256, 128, 64)
LEARNER = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(57, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256), torch.nn.ReLU(),
                          torch.nn.Linear(256, 1))
optimizer = torch.optim.Adam(net.parameters())
print("busy", flush=True)
while True:
    optimizer.zero_grad()
    net(torch.randn(256, 57)).square().mean().backward()
    optimizer.step()
"""
"""What a critic's update costs, without end, on as many threads as there are cores."""

TIMER = """
import os, sys, time
period, priority = 1.0 / float(sys.argv[1]), int(sys.argv[2])
if priority:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
deadline = time.monotonic()
while True:
    deadline += period
    time.sleep(max(0.0, deadline - time.monotonic()))
    woke = time.monotonic() - deadline
    deadline += woke // period * period
    print(woke * 1e6, flush=True)
"""
"""Deadlines met by a process that does nothing else: what the machine itself allows."""


def run(
    *,
    task: str = "go2_velocity",
    calls: int = 5000,
    seconds: float = 0.0,
    rate: float = 200.0,
    priority: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """Time ``calls`` turns; with ``seconds``, also run the loop at ``rate`` Hz beside a busy learner."""
    with tempfile.TemporaryDirectory() as folder:
        robot, path = _make_policy(Path(folder), task, rate, seed)
        policy = Policy.load(path, robot)
        ours, floor = _measure(policy, robot, calls, seed)
        setup = f"{task}, {policy.contract.obs_size}-{'-'.join(map(str, HIDDEN))}-{policy.contract.num_actions} tanh, "
        setup += f"onnxruntime {ort.__version__}, {calls} calls in turns, {os.cpu_count()} cores"
        if seconds:
            setup += "; " + _run_beside_learner(Path(folder) / "store", policy, robot, seconds, rate, priority)
    value, bare = float(np.median(ours)), float(np.median(floor))
    return {
        "bench": "tick",
        "value": value,
        "unit": "us per observe + infer",
        "floor": bare,
        "ratio": bare / value,
        "p50_us": value,
        "p99_us": float(np.percentile(ours, 99)),
        "setup": setup,
    }


def _make_policy(folder: Path, task: str, rate: float, seed: int) -> tuple[Robot, Path]:
    """Export a random network of the size that walks, at the rate asked for."""
    built = zoo.load("sim", f"tasks/{task}").task()
    robot = load_robot(built.robot)
    contract = dataclasses.replace(built.contract(robot), rate_hz=rate, sim_rate_hz=4 * rate)
    rng = np.random.default_rng(seed)
    sizes = (contract.obs_size, *HIDDEN, contract.num_actions)
    layers = [(rng.normal(0.0, 0.5 / a**0.5, (b, a)).astype("f4"), np.zeros(b, dtype="f4")) for a, b in pairwise(sizes)]
    net = DenseNet(tuple(layers), "elu")
    path = folder / "bench.onnx"
    export_policy(net, contract, path, provenance=Provenance(recipe="bench", seed=seed, steps=0), joints=robot.joints)
    return robot, path


def _measure(policy: Policy, robot: Robot, calls: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of our calls and of bare ones, (n,) each [us]."""
    states = split(sample_states(policy.contract, robot.joints, 64, np.random.default_rng(seed)))
    observer = Observer(policy.contract, robot.joints)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(policy.path), options, providers=["CPUExecutionProvider"])
    feed = {"obs": observer(states[0])[None]}
    ours, floor = np.empty(calls), np.empty(calls)
    for i in range(-200, calls):  # the first ones warm up
        state = states[i % len(states)]
        begin = time.perf_counter_ns()
        policy.infer(observer(state))
        between = time.perf_counter_ns()
        session.run(None, feed)
        end = time.perf_counter_ns()
        ours[i], floor[i] = between - begin, end - between
    return ours / 1e3, floor / 1e3


def _run_beside_learner(store: Path, policy: Policy, robot: Robot, seconds: float, rate: float, priority: int) -> str:
    """Run the loop with a recorder for ``seconds``; return what became of its deadlines, in words."""
    contract = policy.contract
    recorder = Recorder(EpisodeWriter(store, contract, robot), contract, robot)
    clock = WallClock(rate)
    loop = ControlLoop(MirrorDriver(robot), policy, clock, recorder)
    loop.ticks = TickLog(round((seconds + 60.0) * rate))
    stop = threading.Event()
    thread = threading.Thread(target=run_loop, args=(loop, stop.is_set), kwargs={"priority": priority or None})
    with _busy_learner():
        thread.start()
        _stand_and_drive(loop)
        missed, began = clock.overruns, loop.ticks.count
        with _bare_timer(store.parent, rate, priority) as bare:
            time.sleep(seconds)
        missed, ticks = clock.overruns - missed, loop.ticks.count - began
        stop.set()
        thread.join()
    work, late = (x * 1e6 for x in loop.ticks.newest(ticks))  # [us]
    period = clock.period_s * 1e6
    over = np.maximum(work + late - period, 0.0)  # how long after the next deadline a tick ended
    scheduling = f"SCHED_FIFO {priority}" if priority else "default scheduling"
    return (
        f"{rate:g} Hz for {seconds:g} s beside a learner, {scheduling}: {ticks} ticks, {missed} deadlines missed, "
        f"{int((over > period).sum())} overruns longer than one period, longest {over.max():.0f} us; "
        f"work p50 {np.median(work):.0f} us p99 {np.percentile(work, 99):.0f} us max {work.max():.0f} us, "
        f"late p99 {np.percentile(late, 99):.0f} us max {late.max():.0f} us, {recorder.drops} rows dropped; "
        f"a bare timer beside it: {int((np.array(bare) > period).sum())} wake-ups later than one period, "
        f"late p99 {np.percentile(bare, 99):.0f} us max {max(bare):.0f} us"
    )


@contextmanager
def _busy_learner() -> Generator[None, None, None]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    learner = subprocess.Popen([sys.executable, "-c", LEARNER], stdout=subprocess.PIPE, env=environment)
    try:
        assert learner.stdout is not None, "it was asked for"
        learner.stdout.readline()
        yield
    finally:
        learner.kill()
        learner.wait()


@contextmanager
def _bare_timer(folder: Path, rate: float, priority: int) -> Generator[list[float], None, None]:
    """Run the timer; the list yielded holds its lateness [us] once it has ended."""
    late: list[float] = []
    path = folder / "timer.txt"
    with path.open("w") as log:
        timer = subprocess.Popen([sys.executable, "-c", TIMER, str(rate), str(priority)], stdout=log)
    try:
        yield late
    finally:
        timer.kill()
        timer.wait()
        late += [float(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _stand_and_drive(loop: ControlLoop) -> None:
    loop.requests.ask(Request.DAMP, "bench")
    loop.requests.ask(Request.STAND, "bench")
    while not loop.status().stood_up:
        time.sleep(0.05)
    loop.requests.ask(Request.POLICY, "bench")
