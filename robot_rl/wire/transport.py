"""What every middleware offers, and the one that needs none: ``Loopback`` inside a process.

Knows: publish, subscribe, namespaces, latching, keep-last queues.
Does not know: bytes, networks, ROS.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from robot_rl.wire.layout import frozen_copy
from robot_rl.wire.messages import Topic

log = logging.getLogger(__name__)
M = TypeVar("M")

WIRES = ("loopback", "dds", "ros")


class Transport(Protocol):
    """One participant on the wire. Every method may be called from any thread, ``close`` twice."""

    def advertise(self, topic: Topic[Any]) -> None:
        """Announce that this participant will publish, so that readers are found before the first message."""
        ...

    def publish(self, topic: Topic[M], message: M) -> None:
        """Send a message; advertises the topic where that was not done.

        Raises:
            TypeError: The message is not of the topic's type.
            ConnectionError: The transport is closed, or the middleware refused the message.
        """
        ...

    def subscribe(self, topic: Topic[M], on_message: Callable[[M], None]) -> Callable[[], None]:
        """Call ``on_message`` with every message, on the transport's own thread; the result ends it.

        What ``on_message`` raises is logged and does not end the subscription. Arrays in messages are read-only.
        """
        ...

    def readers(self, topic: Topic[Any]) -> int:
        """Return how many subscriptions this participant's publisher of ``topic`` has found."""
        ...

    def close(self) -> None:
        """Leave; callbacks have ended when this returns, unless it is called from one."""
        ...


def open_transport(wire: str, *, node: str, namespace: str = "") -> Transport:
    """Join the wire called ``wire`` as ``node``.

    Raises:
        ValueError: There is no such wire; the error lists those that exist.
        ImportError: The middleware is not installed; the error says what to install.
    """
    if wire == "loopback":
        return Loopback(DEFAULT_HUB, namespace=namespace)
    if wire == "dds":
        from robot_rl.wire.dds import DdsTransport

        return DdsTransport(node=node, namespace=namespace)
    if wire == "ros":
        from robot_rl.wire.ros import RosTransport

        return RosTransport(node=node, namespace=namespace)
    raise ValueError(f"no wire {wire!r}; the choices are {list(WIRES)}")


def resolve(name: str, namespace: str) -> str:
    """Return the absolute name of a topic: names that begin with a slash are absolute already."""
    if name.startswith("/"):
        return name
    return "/" + "/".join(part for part in (namespace.strip("/"), name) if part)


def check_type(topic: Topic[Any], message: Any) -> None:
    """Raise TypeError unless ``message`` is what ``topic`` carries."""
    if type(message) is not topic.type:
        wanted = topic.type.__name__
        raise TypeError(f"topic {topic.name!r} carries {wanted}, got {type(message).__name__}")


def deliver(on_message: Callable[[Any], None], message: Any, topic: str) -> None:
    """Call a subscriber; what it raises is logged, because nobody above could handle it."""
    try:
        on_message(message)
    except Exception:
        log.exception("a subscriber of %s failed", topic)


@dataclass(slots=True)
class Hub:
    """The place where Loopback participants meet."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    readers: dict[str, list[_Reader]] = field(default_factory=dict)
    latched: dict[str, list[tuple[object, Any]]] = field(default_factory=dict)
    """Newest messages of every latched topic with their writer, oldest first."""


@dataclass(slots=True, eq=False)
class _Reader:
    """One subscription: its keep-last queue and the participant that empties it."""

    owner: Loopback
    topic: Topic[Any]
    name: str
    on_message: Callable[[Any], None]
    queue: deque[Any]


class Loopback:
    """A transport inside one process: frozen copies through keep-last queues, one delivery thread each."""

    def __init__(self, hub: Hub | None = None, *, namespace: str = "") -> None:
        """Join ``hub``; a new one without it."""
        self.hub = hub if hub is not None else Hub()
        self.namespace = namespace
        self._wake = threading.Condition()
        self._pending: deque[_Reader] = deque()
        self._closed = False
        self._advertised: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="loopback", daemon=True)
        self._thread.start()

    def advertise(self, topic: Topic[Any]) -> None:
        """See ``Transport``."""
        self._check_open()
        self._advertised.add(resolve(topic.name, self.namespace))

    def publish(self, topic: Topic[M], message: M) -> None:
        """See ``Transport``."""
        self._check_open()
        check_type(topic, message)
        name = resolve(topic.name, self.namespace)
        copy = frozen_copy(message)
        with self.hub.lock:
            self._advertised.add(name)
            if topic.offered.latched:
                kept = self.hub.latched.setdefault(name, [])
                kept.append((self, copy))
                mine = [entry for entry in kept if entry[0] is self]
                if len(mine) > topic.offered.depth:
                    kept.remove(mine[0])
            readers = [r for r in self.hub.readers.get(name, []) if r.topic.type is topic.type]
        for reader in readers:
            reader.owner._offer(reader, copy)

    def subscribe(self, topic: Topic[M], on_message: Callable[[M], None]) -> Callable[[], None]:
        """See ``Transport``."""
        self._check_open()
        name = resolve(topic.name, self.namespace)
        reader = _Reader(self, topic, name, on_message, deque(maxlen=topic.reader_qos.depth))
        with self.hub.lock:
            self.hub.readers.setdefault(name, []).append(reader)
            past = list(self.hub.latched.get(name, [])) if topic.reader_qos.latched else []
            for _, message in past:
                if type(message) is topic.type:
                    self._offer(reader, message)
        return lambda: self._forget(reader)

    def readers(self, topic: Topic[Any]) -> int:
        """See ``Transport``."""
        name = resolve(topic.name, self.namespace)
        if name not in self._advertised:
            return 0
        with self.hub.lock:
            return sum(r.topic.type is topic.type for r in self.hub.readers.get(name, []))

    def close(self) -> None:
        """See ``Transport``. What this participant latched is gone with it."""
        with self.hub.lock:
            for readers in self.hub.readers.values():
                readers[:] = [r for r in readers if r.owner is not self]
            for kept in self.hub.latched.values():
                kept[:] = [entry for entry in kept if entry[0] is not self]
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionError("this Loopback is closed")

    def _forget(self, reader: _Reader) -> None:
        with self.hub.lock:
            readers = self.hub.readers.get(reader.name, [])
            if reader in readers:
                readers.remove(reader)
        with self._wake:
            reader.queue.clear()

    def _offer(self, reader: _Reader, message: Any) -> None:
        with self._wake:
            reader.queue.append(message)
            self._pending.append(reader)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    return
                reader = self._pending.popleft()
                if not reader.queue:  # overwritten by a newer message, or cancelled
                    continue
                message = reader.queue.popleft()
            deliver(reader.on_message, message, reader.name)


DEFAULT_HUB = Hub()
"""Where ``open_transport("loopback")`` joins: one per process."""
