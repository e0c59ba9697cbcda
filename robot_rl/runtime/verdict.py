"""A judge of success beside the policy: it looks a few times a second and labels the running episode.

It does what an operator does with a key: the label is an event, rows carry it, and whoever learns from the recording
is paid by it (``data.rewards.operator_reward``). It never runs in the control thread.

Knows: a judge, what it is shown, a loop's label. Does not know: cameras, files, rewards.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from robot_rl.contract.apply import Observer
from robot_rl.contract.judge import STATE, Judge
from robot_rl.data.transition import Mode
from robot_rl.runtime.loop import ControlLoop

Look = Callable[[], "np.ndarray | None"]
"""Returns what the judge looks at now, one input without a batch; None where there is nothing new to see."""
_DRIVING = (Mode.POLICY, Mode.TAKEOVER)
_log = logging.getLogger(__name__)


class Verdict:
    """Watches one loop. ``poll`` is for one thread; ``start`` makes it."""

    def __init__(self, loop: ControlLoop, judge: Judge, look: Look, *, rate_hz: float = 5.0, patience: int = 2) -> None:
        """Prepare.

        Args:
            loop: Whose episodes are labelled.
            judge: Who says so.
            look: What it is shown.
            rate_hz: Looks per second.
            patience: Looks in a row that must show success, so that a flicker is none; and as many that must show
                none before it may say so again.

        Raises:
            ValueError: ``rate_hz`` or ``patience`` makes no sense.
        """
        if rate_hz <= 0.0 or patience < 1:
            raise ValueError(f"verdict: rate_hz is {rate_hz} and patience {patience}; above 0 and at least 1")
        self._loop, self._judge, self._look = loop, judge, look
        self._period_s, self._patience = 1.0 / rate_hz, patience
        self._streak, self._armed = 0, True  # looks in a row with success, or, negative, without
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verdict", daemon=True)

    def poll(self) -> bool:
        """Look once; return whether the running episode was labelled a success just now."""
        if self._loop.latest.mode not in _DRIVING:
            self._streak, self._armed = 0, True
            return False
        seen = self._look()
        if seen is None:
            return False
        yes = bool(self._judge.success(seen[None])[0])
        self._streak = max(self._streak, 0) + 1 if yes else min(self._streak, 0) - 1
        if self._streak <= -self._patience:
            self._armed = True
        if not self._armed or self._streak < self._patience:
            return False
        self._armed = False
        self._loop.requests.label(1)
        return True

    def start(self) -> None:
        """Look in a thread of its own, until ``close``."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self.poll()
            except ValueError:  # a judge that cannot judge must not leave a robot without its operator's label
                _log.exception("the judge %s stops", self._judge.path)
                return


def look_at(loop: ControlLoop, judge: Judge) -> Look:
    """Return what shows a judge the loop's newest state, or what the policy's cameras last saw.

    Raises:
        ValueError: The judge looks through a camera that the policy has not, or at pictures of another size; it was
            taught under another contract, or the contract has a history, which nobody but the policy keeps.
    """
    return _look_at_state(loop, judge) if judge.spec.source == STATE else _look_at_pictures(loop, judge)


def _look_at_pictures(loop: ControlLoop, judge: Judge) -> Look:
    eyes, source = loop.eyes, judge.spec.source
    shapes = {group: picture.shape[1:] for group, picture in eyes.pictures.items()}
    if shapes.get(source) != judge.spec.shape:
        raise ValueError(f"{judge.path} looks at {source!r}, {judge.spec.shape}; the policy's cameras show {shapes}")
    return lambda: None if eyes.lost else eyes.pictures[source][0]


def _look_at_state(loop: ControlLoop, judge: Judge) -> Look:
    contract = loop.swap.live.contract
    if judge.spec.contract not in ("", contract.fingerprint):
        raise ValueError(
            f"{judge.path} was taught under contract {judge.spec.contract[:12]}…; the policy has "
            f"{contract.fingerprint[:12]}…"
        )
    if any(term.history > 1 for term in contract.obs):
        raise ValueError(f"{judge.path} cannot look at a contract with a history of observations")
    observer = Observer(contract, loop.driver.robot.joints)
    return lambda: observer(loop.latest.state).astype(np.float32)
