"""The operator's terminal page: what the robot and the learner do, and the keys that steer them.

Knows: keys, layout, how a person's hand becomes commands and actions.
Does not know: middleware; everything goes through ``wire.operator``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, RichLog, Static

from robot_rl.contract.spec import Contract
from robot_rl.data.transition import Mode, Who
from robot_rl.wire import messages as msg
from robot_rl.wire.operator import Operator, RefusedError
from robot_rl.wire.standard import String
from robot_rl.wire.transport import Transport

SILENT_S = 1.0
"""A status older than this means that the robot is not heard."""
REFRESH_S = 0.1
STEP = 0.1
"""What one key press adds to a velocity [m/s, rad/s] or, in takeover, to a raw action."""
COLOURS = {Mode.OFF: "grey50", Mode.DAMP: "yellow", Mode.STAND: "cyan", Mode.POLICY: "green", Mode.TAKEOVER: "magenta"}
_PANES = ("mode", "robot", "hand", "learner")


class Hand:
    """What a person commands: a velocity, or in takeover one joint's action at a time."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.command: np.ndarray | None = None
        """(v_x, v_y, yaw rate) [m/s, m/s, rad/s]; None: this console commands nothing."""
        self.action: np.ndarray | None = None
        """Raw action, shape (A,); None outside of takeover."""
        self.joint = 0
        self.contract: Contract | None = None
        self.targets: msg.JointTargetArray | None = None

    def move(self, axis: int, sign: float) -> None:
        """Add a step to the velocity of ``axis``, within what the policy was trained on."""
        now = np.zeros(3) if self.command is None else self.command.copy()
        now[axis] = round(now[axis] + sign * STEP, 3)
        if self.contract is not None and len(self.contract.command.low) == len(now):
            now = np.clip(now, self.contract.command.low, self.contract.command.high)
        self.command = now
        self.operator.drive(now.tolist())

    def halt(self) -> None:
        """Command to stand still, and stay the commander."""
        self.command = np.zeros(3)
        self.operator.drive(self.command.tolist())

    def release(self) -> None:
        """Command nothing any more."""
        self.command = None
        self.operator.drive(None)

    def grasp(self) -> None:
        """Begin a takeover from the pose that the joints are sent to, so that nothing jumps.

        Raises:
            ValueError: The robot has not told its contract yet.
        """
        contract = self.contract
        if contract is None:
            raise ValueError("the robot has not told its contract yet; takeover needs it")
        action = np.zeros(contract.num_actions)
        if self.targets is not None and contract.action.kind == "joint_position":
            sent = dict(zip(self.targets.name, self.targets.position, strict=True))
            wanted = np.array([sent[name] for name in contract.joints])
            gap, law = wanted - np.array(contract.action.offset), contract.action
            action = gap / np.where(gap < 0.0, law.scale_below or law.scale, law.scale)
        self.joint, self.action = 0, np.clip(action, *contract.action.clip)
        self.operator.act(self.action)

    def bend(self, sign: float) -> None:
        """Add a step to the action of the chosen joint."""
        if self.action is not None and self.contract is not None:
            low, high = self.contract.action.clip
            self.action[self.joint] = min(high, max(low, self.action[self.joint] + sign * STEP))
            self.operator.act(self.action)

    def choose(self, step: int) -> None:
        """Choose another joint."""
        if self.action is not None:
            self.joint = (self.joint + step) % len(self.action)

    def let_go(self) -> None:
        """End the takeover on this side."""
        self.action = None
        self.operator.act(None)


class ConsoleApp(App[None]):
    """The page; one robot per page."""

    TITLE = "robot-rl console"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #mode { height: 3; content-align: center middle; text-style: bold; }
    #panels { height: auto; max-height: 14; }
    #panels > Static { width: 1fr; border: round $primary; padding: 0 1; height: 100%; }
    #log { border: round $primary; min-height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "estop", "E-STOP", priority=True),
        Binding("r", "rearm", "re-arm"),
        Binding("d", "ask('mode', 'damp')", "damp"),
        Binding("s", "ask('mode', 'stand')", "stand"),
        Binding("p", "ask('mode', 'policy')", "policy"),
        Binding("o", "ask('mode', 'off')", "off"),
        Binding("t", "takeover", "take over"),
        Binding("up", "arrow('up')", "faster/joint", priority=True, show=False),
        Binding("down", "arrow('down')", "slower/joint", priority=True, show=False),
        Binding("left", "arrow('left')", "left/less", priority=True, show=False),
        Binding("right", "arrow('right')", "right/more", priority=True, show=False),
        Binding("comma", "move(1, 1)", "left", show=False),
        Binding("full_stop", "move(1, -1)", "right", show=False),
        Binding("x", "halt", "stand still"),
        Binding("c", "release", "let go"),
        Binding("y", "ask('label', 'success')", "success"),
        Binding("n", "ask('label', 'failure')", "failure"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, transport: Transport, *, robot: str = "robot") -> None:
        """Listen on ``transport``; ``robot`` is only shown."""
        super().__init__()
        self.robot = robot
        self._events: list[msg.PolicyEvent] = []  # appended by the transport's thread, emptied by draw
        self.operator = Operator(transport, on_event=self._hear_event)
        self.hand = Hand(self.operator)
        self._cancels = [
            transport.subscribe(msg.CONTRACT, self._hear_contract),
            transport.subscribe(msg.JOINT_TARGETS, lambda m: setattr(self.hand, "targets", m)),
        ]

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        yield Static(id="mode")
        with Horizontal(id="panels"):
            yield Static(id="robot")
            yield Static(id="hand")
            yield Static(id="learner")
        yield RichLog(id="log", markup=False, wrap=True, max_lines=500)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to refresh."""
        self.set_interval(REFRESH_S, self.draw)

    def on_unmount(self) -> None:
        """Fall silent: a robot that this console drove damps by itself."""
        for cancel in self._cancels:
            cancel()
        self.operator.close()

    # -- keys ---------------------------------------------------------------------------------------------------------

    def action_estop(self) -> None:
        """Press the e-stop, at once and latched."""
        try:
            self.operator.estop()
            self.note("E-STOP pressed; r lets go and re-arms")
        except ConnectionError as error:
            self.note(f"E-STOP NOT SENT: {error}")
        self.hand.release()
        self.hand.let_go()

    def action_rearm(self) -> None:
        """Let go of the e-stop and re-arm; the robot stays damped."""

        def rearm() -> None:
            self.operator.estop(False)
            time.sleep(0.1)
            self.operator.ask("rearm")

        self._try("rearm", rearm)

    def action_ask(self, kind: str, value: str = "") -> None:
        """Ask the robot for something; the answer goes to the log."""
        self._try(f"{kind} {value}", lambda: self.operator.ask(kind, value))

    def action_takeover(self) -> None:
        """Take over, or hand back."""
        if self.hand.action is not None:
            self._try("hand back", self._hand_back)
            return
        try:
            self.hand.grasp()
        except ValueError as error:
            self.note(str(error))
            return
        self._try("take over", self._take_over)

    def action_arrow(self, key: str) -> None:
        """Steer; in takeover choose a joint (up, down) and move it (left, right)."""
        if self.hand.action is not None:
            if key in ("up", "down"):
                self.hand.choose(-1 if key == "up" else 1)
            else:
                self.hand.bend(1.0 if key == "right" else -1.0)
            return
        axis, sign = {"up": (0, 1.0), "down": (0, -1.0), "left": (2, 1.0), "right": (2, -1.0)}[key]
        self.hand.move(axis, sign)

    def action_move(self, axis: int, sign: int) -> None:
        """Steer along one axis."""
        self.hand.move(axis, float(sign))

    def action_halt(self) -> None:
        """Stand still."""
        self.hand.halt()

    def action_release(self) -> None:
        """Command nothing."""
        self.hand.release()

    def _take_over(self) -> None:
        try:
            self.operator.ask("takeover", "on")
        except (RefusedError, TimeoutError):
            self.hand.let_go()
            raise

    def _hand_back(self) -> None:
        self.operator.ask("takeover", "off")
        self.hand.let_go()

    def _try(self, what: str, call: Callable[[], None]) -> None:
        """Do something that waits for an answer, beside the page."""

        def work() -> None:
            try:
                call()
                text = f"{what.strip()}: done"
            except (RefusedError, TimeoutError, ConnectionError) as error:
                text = str(error)
            self.call_from_thread(self.note, text)

        self.run_worker(work, thread=True)

    # -- the transport's thread ---------------------------------------------------------------------------------------

    def _hear_event(self, event: msg.PolicyEvent) -> None:
        self._events.append(event)

    def _hear_contract(self, text: String) -> None:
        self.hand.contract = Contract.from_json(text.data)

    # -- the page -----------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Add a line to the log."""
        self.query_one("#log", RichLog).write(f"{time.strftime('%H:%M:%S')} {text}")

    def draw(self) -> None:
        """Show what is known now; nothing while the page opens or closes."""
        if not all(self.query(f"#{name}") for name in ("log", *_PANES)):
            return  # a page that closes loses them one by one
        while self._events:
            event = self._events.pop(0)
            self.note(f"tick {event.tick} {event.kind} {event.reason}".rstrip())
        for name, shown in zip(_PANES, (self._mode(), self._robot(), self._hand(), self._learner()), strict=True):
            self.query_one(f"#{name}", Static).update(shown)

    def _mode(self) -> Text:
        status, age_s = self.operator.status, time.monotonic() - self.operator.status_at_s
        if status is None:
            return Text(f"waiting for {self.robot} on the wire", "bold")
        if age_s > SILENT_S:
            return Text(f"NO SIGNAL for {age_s:.0f} s", "bold white on red")
        mode = Mode(status.mode)
        if status.estop:
            return Text(f"E-STOP  {mode.name}", "bold white on red")
        fault = f"  after {', '.join(status.fault)}" if status.fault else ""
        stood = "  standing" if status.stood_up else ""
        return Text(f"{mode.name}  by {Who(status.who).name}{stood}{fault}", f"bold {COLOURS[mode]}")

    def _robot(self) -> Table:
        s = self.operator.status
        if s is None:
            return _table({"robot": "not heard yet"})
        return _table(
            {
                "tick": f"{s.tick} at {s.rate_hz:g} Hz",
                "work p50/p99": f"{s.work_p50_s * 1e3:.2f} / {s.work_p99_s * 1e3:.2f} ms",
                "late p99/max": f"{s.late_p99_s * 1e3:.2f} / {s.late_max_s * 1e3:.2f} ms",
                "overruns": str(s.overruns),
                "lost rows": str(s.drops),
                "shield": ", ".join(s.reasons) or "-",
                "policy": f"{s.policy[:12]} {s.stage}",
                "swaps": f"{s.swaps}, {s.rollbacks} rolled back, {s.refusals} refused",
            }
        )

    def _hand(self) -> Table:
        hand = self.hand
        if hand.action is not None and hand.contract is not None:
            joints = hand.contract.joints
            names = [joints[(hand.joint + k) % len(joints)] for k in range(min(5, len(joints)))]
            rows = {
                f"{'>' if k == 0 else ' '} {n}": f"{hand.action[joints.index(n)]:+.2f}" for k, n in enumerate(names)
            }
            return _table({"takeover": "up/down joint, left/right move", **rows})
        status = self.operator.status
        force = "-" if status is None else " ".join(f"{v:+.2f}" for v in status.command)
        mine = "nothing (arrows begin)" if hand.command is None else " ".join(f"{v:+.2f}" for v in hand.command)
        return _table({"I command": mine, "in force": force, "arrows": "forward, turn", ", .": "sideways"})

    def _learner(self) -> Table:
        status = self.operator.learner
        if status is None:
            return _table({"learner": "not heard yet"})
        metrics = {pair.key: pair.value for pair in status.metrics[:5]}
        return _table(
            {
                "learner": f"{status.recipe} {status.phase}",
                "transitions": str(status.transitions),
                "updates": f"{status.updates} at {status.updates_per_s:.0f}/s",
                "offers": f"{status.offers} {status.policy[:12]}",
                **metrics,
            }
        )


def _table(rows: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    return table
