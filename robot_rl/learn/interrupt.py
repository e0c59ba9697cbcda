"""Ctrl-C while somebody learns: what was begun is finished and saved first; a second one ends it at once.

Knows: the signal. Does not know: what is learnt, how it is saved.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Interrupt:
    """Whether somebody wants to stop."""

    asked: bool = False

    def leave(self) -> None:
        """Raise KeyboardInterrupt where it was asked for; to be called when everything is saved."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def held_interrupt() -> Generator[Interrupt]:
    """Turn the first Ctrl-C into a question that a loop answers where it can save: ``asked``, then ``leave``.

    The end of the context raises what was not answered. Nothing changes outside the main thread, nor where Ctrl-C would
    not raise KeyboardInterrupt anyway: a caller has a handler of its own, or a shell runs it in the background.
    """
    held = Interrupt()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield held
        return

    def ask(number: int, frame: object) -> None:
        if held.asked:
            raise KeyboardInterrupt
        held.asked = True
        _log.warning("stopping when this iteration is learnt and saved; Ctrl-C again stops at once")

    signal.signal(signal.SIGINT, ask)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    held.leave()
