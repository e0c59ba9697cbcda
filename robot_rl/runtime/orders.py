"""What people and programs ask of a running loop: requests, commands, a person's actions, labels, new policies.

The first half of the class is for any thread, checks what it is given there and never blocks the loop; the second
half is the control thread's view, which also knows how long a commander has been silent.

Knows: sizes and ranges of a contract. Does not know: transports, modes.

Shapes: K command · A action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from robot_rl.contract.spec import Contract
from robot_rl.runtime.mailbox import Inbox, Mailbox
from robot_rl.runtime.modes import Request
from robot_rl.runtime.probe import check_std

NEVER = math.inf


class Orders:
    """The letter box of one control loop."""

    def __init__(self, contract: Contract, offer: Callable[[Path | str], None]) -> None:
        """Accept orders for a policy of ``contract``; ``offer`` takes in policy files."""
        self.offer = offer
        """``offer(path)``: propose a new policy file."""
        self.command_now = np.zeros(len(contract.command.names))
        """The command in force, shape (K,); zeros until a source speaks. Control thread."""
        self.human_now: np.ndarray | None = None
        """The person's newest action, shape (A,). Control thread."""
        self.command_since_s, self.human_since_s = NEVER, NEVER
        """When the newest of each came; ``inf`` before any."""
        self._low, self._high = np.array(contract.command.low), np.array(contract.command.high)
        self._names, self._num_actions = contract.command.names, contract.num_actions
        self._estop: Mailbox[str] = Mailbox()
        self._requests: Inbox[tuple[Request, str]] = Inbox()
        self._command: Mailbox[np.ndarray] = Mailbox()
        self._human: Mailbox[np.ndarray] = Mailbox()
        self._label: Mailbox[int] = Mailbox()
        self._explore: Mailbox[float] = Mailbox()

    # -- any thread ---------------------------------------------------------------------------------------------------

    def estop(self, why: str = "operator") -> None:
        """Stop: DAMP in the next tick, whatever else is asked. Never lost."""
        self._estop.put(why)

    def ask(self, request: Request, why: str = "operator") -> None:
        """Ask for a mode or for re-arming; what came of it is an event.

        Raises:
            ValueError: Too many requests wait already.
        """
        if request is Request.ESTOP:
            self.estop(why)
        elif not self._requests.put((request, why)):
            raise ValueError(f"request {request.name} refused: {self._requests.capacity} others still wait")

    def command(self, values: Sequence[float] | np.ndarray) -> None:
        """Command the policy, K numbers, clipped to what it was trained on; repeat it to stay the commander.

        Raises:
            ValueError: The count is wrong or a number is not finite.
        """
        array = _checked("command", values, len(self._names), list(self._names))
        self._command.put(np.clip(array, self._low, self._high))

    def human(self, action: Sequence[float] | np.ndarray) -> None:
        """Give a person's raw action, A numbers, used in TAKEOVER; repeat it to stay the commander.

        Raises:
            ValueError: The count is wrong or a number is not finite.
        """
        self._human.put(_checked("human action", action, self._num_actions, "one per joint").astype(np.float32))

    def label(self, label: int) -> None:
        """Label the episode: 1 success, -1 failure, 0 none.

        Raises:
            ValueError: Another number.
        """
        if label not in (-1, 0, 1):
            raise ValueError(f"label is {label}; the choices are 1 (success), -1 (failure), 0 (none)")
        self._label.put(label)

    def explore(self, std: float) -> None:
        """Set the deviation of the exploration noise, 0 for none.

        Raises:
            ValueError: It is out of its range.
        """
        self._explore.put(check_std(std))

    # -- control thread -----------------------------------------------------------------------------------------------

    def listen(self, now_s: float) -> None:
        """Take in the newest command and action."""
        command = self._command.take()
        if command is not None:
            self.command_now, self.command_since_s = command, now_s
        human = self._human.take()
        if human is not None:
            self.human_now, self.human_since_s = human, now_s

    def forget_command(self) -> None:
        """Return to the zero command and no source; a robot that stands up anew waits for a new one."""
        self.command_now, self.command_since_s = np.zeros_like(self.command_now), NEVER

    def expect_human(self, now_s: float) -> None:
        """Begin to wait for a person's actions; one given before does not count."""
        self.human_now, self.human_since_s = None, now_s

    def next_request(self) -> tuple[Request, str] | None:
        """Return the oldest request, an e-stop before all others; None where nobody asks."""
        why = self._estop.take()
        return self._requests.take() if why is None else (Request.ESTOP, why)

    def next_label(self) -> int | None:
        """Return a label that was given, else None."""
        return self._label.take()

    def next_explore(self) -> float | None:
        """Return a new deviation of the exploration noise, else None."""
        return self._explore.take()


def _checked(name: str, values: Sequence[float] | np.ndarray, count: int, names: object) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"{name} has shape {array.shape}; expected ({count},): {names}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is {array.tolist()}; every number must be finite")
    return array
