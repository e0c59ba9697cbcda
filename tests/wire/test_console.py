"""The operator's page against a running robot, through textual's pilot: what it shows, what the keys do."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("textual")
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import RichLog, Static

from robot_rl.cli.console_page import ConsoleApp
from robot_rl.data.transition import Mode, Who
from robot_rl.wire import messages as msg
from robot_rl.wire import standard as std
from robot_rl.wire.transport import Hub, Loopback

if TYPE_CHECKING:
    from conftest import Site  # pyright: ignore[reportMissingImports]

    Script = Callable[[ConsoleApp, Pilot[None]], Coroutine[Any, Any, None]]


def play(transport: Loopback, script: Script) -> None:
    """Open the page without a terminal and press keys."""

    async def go() -> None:
        app = ConsoleApp(transport, robot="go2")
        async with app.run_test(size=(120, 40)) as pilot:
            await script(app, pilot)

    asyncio.run(go())


async def until(pilot: Pilot[None], condition: Callable[[], Any], *, timeout_s: float = 10.0) -> None:
    """Wait for a truthy value while the page goes on."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"never came true within {timeout_s} s"
        await pilot.pause(0.02)


def text(app: ConsoleApp, name: str) -> str:
    """What a panel was told to show, as plain text; empty before it is there."""
    if not app.query(f"#{name}"):
        return ""
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(app.query_one(f"#{name}", Static).content)
    return capture.get()


def log(app: ConsoleApp) -> str:
    """What the log shows."""
    return "\n".join(line.text for line in app.query_one("#log", RichLog).lines)


def test_a_robot_is_driven_from_the_keyboard(site: Site) -> None:
    """damp, stand, policy, arrows: the mode and the command follow, and releasing ends in DAMP."""

    async def script(app: ConsoleApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.operator.status is not None and app.hand.contract is not None)
        for key, mode in (("d", Mode.DAMP), ("s", Mode.STAND)):
            await pilot.press(key)
            await until(pilot, lambda mode=mode: site.mode() == mode)
        await until(pilot, lambda: app.operator.status.stood_up)
        await pilot.press("p")
        await until(pilot, lambda: site.mode() == Mode.POLICY)
        await pilot.press("up", "up", "up", "left", "comma")
        await until(pilot, lambda: np.allclose(site.newest(msg.STATUS).command, [0.3, 0.1, 0.1]))
        await until(pilot, lambda: "POLICY" in text(app, "mode") and "+0.30" in text(app, "hand"))
        assert "50 Hz" in text(app, "robot")
        await pilot.press("x")
        await until(pilot, lambda: not site.newest(msg.STATUS).command.any())
        await pilot.press("c")
        await until(pilot, lambda: site.mode() == Mode.DAMP)
        await until(pilot, lambda: "COMMANDER_LOST" in text(app, "mode"))

    play(site.operator, script)


def test_space_stops_at_once_and_only_rearming_and_standing_moves_again(site: Site) -> None:
    """The e-stop is one key away whatever the page does; r lets go; stand is a second act."""
    site.drive()

    async def script(app: ConsoleApp, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        await until(pilot, lambda: site.loop.latest.mode is Mode.DAMP)
        await until(pilot, lambda: "E-STOP" in text(app, "mode"))
        await pilot.press("s")
        await until(pilot, lambda: "refused" in log(app))
        await pilot.press("r")
        await until(pilot, lambda: not site.newest(msg.STATUS).estop)
        assert site.mode() == Mode.DAMP
        await pilot.press("s")
        await until(pilot, lambda: site.mode() == Mode.STAND)

    play(site.operator, script)


def test_a_person_takes_over_joint_by_joint_without_a_jump(site: Site) -> None:
    """Taking over begins at the pose in force; keys choose and bend a joint; then the policy drives again."""
    site.drive()

    async def script(app: ConsoleApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.hand.contract is not None and app.hand.targets is not None)
        before = site.loop.latest.sent.pos.copy()
        await pilot.press("t")
        await until(pilot, lambda: site.newest(msg.STATUS).who == Who.HUMAN)
        await pilot.pause(0.5)
        assert np.abs(site.loop.latest.sent.pos - before).max() < 0.15
        start = app.hand.action.copy()
        await pilot.press("down", "right", "right")
        await until(pilot, lambda: np.isclose(site.loop.latest.action[1], min(1.0, start[1] + 0.2), atol=1e-5))
        assert app.hand.contract.joints[1] in text(app, "hand")
        await pilot.press("t")
        await until(pilot, lambda: site.newest(msg.STATUS).who == Who.POLICY and site.mode() == Mode.POLICY)
        assert app.hand.action is None

    play(site.operator, script)


def test_labels_and_refusals_reach_the_log(site: Site) -> None:
    """Success and failure are recorded as events; what the robot refuses is written out."""

    async def script(app: ConsoleApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.operator.status is not None)
        await pilot.press("y", "n")
        await until(pilot, lambda: len([e for e in site.heard[msg.EVENT.name] if e.kind == "label"]) == 2)
        await pilot.press("p")
        await until(pilot, lambda: "cannot follow OFF" in log(app))

    play(site.operator, script)


def test_the_learner_and_a_silent_robot_are_shown() -> None:
    """Learner progress appears with its metrics; a robot that falls silent is said to be."""
    hub = Hub()
    robot, here = Loopback(hub), Loopback(hub)
    metrics = (std.KeyValue("reward", "1.25"),)
    robot.publish(msg.LEARNER, msg.LearnerStatus(recipe="go2_tune", phase="learning", updates=1234, metrics=metrics))

    async def script(app: ConsoleApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "waiting for go2" in text(app, "mode"))
        await until(pilot, lambda: "1234" in text(app, "learner") and "1.25" in text(app, "learner"))
        robot.publish(msg.STATUS, msg.PolicyStatus(mode=3, who=1))
        await until(pilot, lambda: "POLICY" in text(app, "mode"))
        await until(pilot, lambda: "NO SIGNAL" in text(app, "mode"))
        await app.query_one("#mode").remove()
        app.draw()  # a page that closes loses its panes one by one while it is drawn

    play(here, script)
    robot.close()
    here.close()


def test_the_page_opens_in_a_real_terminal_and_quits() -> None:
    """`robot-rl console` in a pseudo-terminal draws over DDS and ends with q; without a terminal it says so."""
    pytest.importorskip("cyclonedds")
    domain = {"ROS_DOMAIN_ID": str(100 + os.getpid() % 100), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    env = {**os.environ, **domain, "TERM": "screen-256color"}
    command = [sys.executable, "-m", "robot_rl.cli.main", "console"]
    plain = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert plain.returncode == 2
    assert "needs a terminal" in plain.stderr
    controller, terminal = pty.openpty()
    page = subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen, end = b"", time.monotonic() + 30.0
    while b"waiting for" not in seen and time.monotonic() < end:
        if select.select([controller], [], [], 0.2)[0]:
            seen += os.read(controller, 65536)
    assert b"waiting for" in seen
    os.write(controller, b"q")
    while page.poll() is None and time.monotonic() < end:
        if select.select([controller], [], [], 0.1)[0]:
            try:
                os.read(controller, 65536)
            except OSError:
                break  # the other side is gone
    assert page.wait(10.0) == 0
    os.close(controller)
