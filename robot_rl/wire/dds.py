"""ROS 2 on the wire without ROS: pip's Cyclone DDS moves the bytes, ``cdr`` makes them.

Speaks the names, types, type hashes and discovery of rmw_cyclonedds, so that ``ros2 topic``, ``ros2 node`` and real
nodes see an ordinary node. Obeys ``ROS_DOMAIN_ID``, ``ROS_AUTOMATIC_DISCOVERY_RANGE`` (``SUBNET``, ``LOCALHOST``),
``ROS_STATIC_PEERS``, ``ROS_LOCALHOST_ONLY`` and ``CYCLONEDDS_URI``.

Knows: Cyclone DDS, its raw read and write (private: the package is pinned and a test guards them).
Does not know: rclpy, what messages mean.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from cyclonedds._clayer import ddspy_take, ddspy_write
from cyclonedds.core import (
    DDSException,
    Entity,
    GuardCondition,
    InstanceState,
    ReadCondition,
    SampleState,
    ViewState,
    WaitSet,
)
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import make_idl_struct, types
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy
from cyclonedds.qos import Qos as DdsQos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic
from cyclonedds.util import duration

from robot_rl.wire import cdr
from robot_rl.wire.messages import Qos, Topic
from robot_rl.wire.transport import check_type, deliver, resolve

log = logging.getLogger(__name__)
M = TypeVar("M")

_ANY = SampleState.Any | ViewState.Any | InstanceState.Any
_FRESH = SampleState.NotRead | ViewState.Any | InstanceState.Any
_TAKE = 64
_BLOCK_S = 0.1
_INFO_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"


class DdsTransport:
    """One node on DDS: a participant, its writers and readers, and one thread that delivers."""

    def __init__(self, *, node: str, namespace: str = "", domain_id: int | None = None) -> None:
        """Join the domain as ``/namespace/node``.

        Raises:
            ValueError: ``ROS_DOMAIN_ID`` or the discovery range is not understood.
            ConnectionError: The participant cannot be made, e.g. because no interface is up.
        """
        self.node, self.namespace = node, "/" + namespace.strip("/")
        self.domain_id = domain_id if domain_id is not None else _domain_from_environment()
        self._lock = threading.RLock()
        self._closed = False
        self._topics: dict[str, DdsTopic[Any]] = {}
        self._writers: dict[tuple[str, Qos], DataWriter[Any]] = {}
        self._readers: dict[ReadCondition, tuple[DataReader[Any], str, str, Callable[[Any], None]]] = {}
        _open_domain(self.domain_id)
        try:
            self._participant = DomainParticipant(self.domain_id, qos=DdsQos(Policy.Userdata(b"enclave=/;")))
            self._wake = GuardCondition(self._participant)
            self._waitset = WaitSet(self._participant)
            self._waitset.attach(self._wake)
        except DDSException as error:
            raise ConnectionError(f"cannot join DDS domain {self.domain_id}: {error}") from error
        self._info = self._make_writer("ros_discovery_info", _INFO_TYPE, Qos(latched=True))
        self._announce()
        self._thread = threading.Thread(target=self._run, name=f"dds-{node}", daemon=True)
        self._thread.start()

    def advertise(self, topic: Topic[Any]) -> None:
        """See ``Transport``."""
        self._writer(topic)

    def publish(self, topic: Topic[M], message: M) -> None:
        """See ``Transport``."""
        check_type(topic, message)
        self.publish_raw(topic, cdr.encode(message))

    def publish_raw(self, topic: Topic[Any], raw: bytes) -> None:
        """Send a message that is CDR already, header included."""
        code = ddspy_write(_handle(self._writer(topic)), raw)
        if code < 0:
            error = DDSException(code, f"writing {topic.name}")
            raise ConnectionError(f"DDS did not take a message of {topic.name!r}: {error}")

    def subscribe(self, topic: Topic[M], on_message: Callable[[M], None]) -> Callable[[], None]:
        """See ``Transport``."""
        ros_type = topic.type.__msgtype__  # pyright: ignore[reportAttributeAccessIssue]
        return self._subscribe(topic, lambda raw: on_message(cdr.decode(raw, ros_type)))

    def subscribe_raw(self, topic: Topic[Any], on_bytes: Callable[[bytes], None]) -> Callable[[], None]:
        """Call ``on_bytes`` with the CDR of every message, header included, on the transport's thread."""
        return self._subscribe(topic, on_bytes)

    def bare_reader(self, topic: Topic[Any]) -> DataReader[Any]:
        """Return a reader of ``topic`` that this transport neither reads nor closes before itself."""
        with self._lock:
            self._check_open()
            return self._make_reader(topic)

    def readers(self, topic: Topic[Any]) -> int:
        """See ``Transport``."""
        return int(self._writer(topic).get_publication_matched_status().current_count)

    def close(self) -> None:
        """See ``Transport``."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wake.set(True)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._lock:
            self._waitset.__del__()  # detaches, then deletes; the participant deletes everything below it
            self._readers.clear()
            self._writers.clear()
            self._topics.clear()
            self._participant.__del__()

    def _writer(self, topic: Topic[Any]) -> DataWriter[Any]:
        key = (resolve(topic.name, self.namespace), topic.offered)
        writer = self._writers.get(key)
        if writer is not None and not self._closed:
            return writer
        with self._lock:
            self._check_open()
            if key not in self._writers:
                self._writers[key] = self._make_writer("rt" + key[0], topic.type.__msgtype__, topic.offered)
                self._announce()
            return self._writers[key]

    def _subscribe(self, topic: Topic[Any], on_bytes: Callable[[bytes], None]) -> Callable[[], None]:
        name, ros_type = resolve(topic.name, self.namespace), topic.type.__msgtype__
        with self._lock:
            self._check_open()
            reader = self._make_reader(topic)
            condition = ReadCondition(reader, _FRESH)
            self._readers[condition] = (reader, name, ros_type, on_bytes)
            self._waitset.attach(condition)
            self._announce()
        return lambda: self._forget(condition)

    def _forget(self, condition: ReadCondition) -> None:
        with self._lock:
            if self._closed or condition not in self._readers:
                return
            self._waitset.detach(condition)
            reader = self._readers.pop(condition)[0]
            condition.__del__()
            reader.__del__()
            self._announce()

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionError(f"the DDS transport of node {self.node!r} is closed")

    def _make_writer(self, name: str, ros_type: str, qos: Qos) -> DataWriter[Any]:
        return DataWriter(self._participant, self._topic(name, ros_type), _qos(qos, ros_type))

    def _make_reader(self, topic: Topic[Any]) -> DataReader[Any]:
        name, ros_type = "rt" + resolve(topic.name, self.namespace), topic.type.__msgtype__
        return DataReader(self._participant, self._topic(name, ros_type), _qos(topic.reader_qos, ros_type))

    def _topic(self, name: str, ros_type: str) -> DdsTopic[Any]:
        kind = _idl(ros_type)
        known = self._topics.get(name)
        if known is None or known.data_type is not kind:
            known = self._topics[name] = DdsTopic(self._participant, name, kind)
        return known

    def _announce(self) -> None:
        """Tell ROS which node these endpoints belong to; without it ``ros2 node`` does not see us."""
        ddspy_write(_handle(self._info), cdr.encode(self._entities()))

    def _entities(self) -> _EntitiesInfo:
        return _entities_info(
            self._participant.guid.bytes,
            node=self.node,
            namespace=self.namespace,
            readers=[entry[0].guid.bytes for entry in self._readers.values()],
            writers=[writer.guid.bytes for writer in self._writers.values()],
        )

    def _run(self) -> None:
        while not self._closed:
            self._waitset.wait(duration(seconds=1))
            with self._lock:
                readers = list(self._readers.items())
            for condition, (reader, name, _, on_bytes) in readers:
                if not self._closed and condition in self._readers:
                    self._drain(reader, name, on_bytes)

    def _drain(self, reader: DataReader[Any], name: str, on_bytes: Callable[[bytes], None]) -> None:
        """Deliver everything that waits in one reader. A sample without valid data says that a writer is gone."""
        taken = ddspy_take(_handle(reader), _ANY, _TAKE)
        if isinstance(taken, int):
            return  # the reader was closed from another thread
        for raw, info in taken:
            if info.valid_data and not self._closed:
                deliver(on_bytes, raw, name)


def _handle(entity: Entity) -> int:
    """Return the number that Cyclone's raw functions want."""
    return entity._ref  # pyright: ignore[reportPrivateUsage]


def _domain_from_environment() -> int:
    text = os.environ.get("ROS_DOMAIN_ID", "") or "0"
    if not text.isdigit() or not 0 <= int(text) <= 232:
        raise ValueError(f"ROS_DOMAIN_ID is {text!r}; expected a number from 0 to 232")
    return int(text)


_DOMAINS: dict[int, Domain] = {}
_DOMAINS_LOCK = threading.Lock()


def _open_domain(domain_id: int) -> None:
    """Configure a domain before its first participant; Cyclone allows that once per process."""
    with _DOMAINS_LOCK:
        if domain_id not in _DOMAINS:
            try:
                _DOMAINS[domain_id] = Domain(domain_id, domain_config(os.environ))
            except DDSException as error:
                raise ConnectionError(f"cannot configure DDS domain {domain_id}: {error}") from error


def domain_config(environ: Any) -> str:
    """Return Cyclone's configuration for ROS 2's environment variables.

    Raises:
        ValueError: The discovery range is not one that is supported.
    """
    reach = environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    if environ.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "LOCALHOST"
    if reach not in ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT"):
        choices = ["SUBNET", "LOCALHOST", "SYSTEM_DEFAULT"]
        raise ValueError(f"ROS_AUTOMATIC_DISCOVERY_RANGE is {reach!r}; the choices are {choices}")
    peers = [p for p in environ.get("ROS_STATIC_PEERS", "").split(";") if p]
    general, discovery = "", "<ParticipantIndex>auto</ParticipantIndex>"
    discovery += "<MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"  # as rmw_cyclonedds
    discovery += "<SPDPInterval>1s</SPDPInterval>"  # what one lost announcement costs; the default is 30 s
    if reach == "LOCALHOST":
        general = '<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>'
        general += "<AllowMulticast>false</AllowMulticast>"
        peers.insert(0, "localhost")
    if peers:
        discovery += "<Peers>" + "".join(f'<Peer address="{p}"/>' for p in peers) + "</Peers>"
    own = f"<CycloneDDS><Domain><General>{general}</General><Discovery>{discovery}</Discovery></Domain></CycloneDDS>"
    return ",".join(part for part in (own, environ.get("CYCLONEDDS_URI", "")) if part)


def _qos(qos: Qos, ros_type: str) -> DdsQos:
    """Return the policies that rmw_cyclonedds would set, with the type hash for ``ros2 topic info -v``."""
    policies = [
        Policy.Reliability.Reliable(duration(seconds=_BLOCK_S)) if qos.reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if qos.latched else Policy.Durability.Volatile,
        Policy.History.KeepLast(qos.depth),
        Policy.DataRepresentation(use_cdrv0_representation=True),
        Policy.Userdata(f"typehash={cdr.type_hash(ros_type)};".encode()),
        Policy.WriterDataLifecycle(autodispose=False),
    ]
    if qos.latched:
        policies.append(Policy.DurabilityService(0, Policy.History.KeepLast(qos.depth), -1, -1, -1))
    if qos.lifespan_s is not None:
        policies.append(Policy.Lifespan(duration(seconds=qos.lifespan_s)))
    return DdsQos(*policies)


_IDL_TYPES: dict[str, Any] = {
    "bool": bool,
    "byte": types.uint8,
    "char": types.uint8,
    "string": str,
    "float32": types.float32,
    "float64": types.float64,
    **{f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@cache
def _idl(ros_type: str) -> Any:
    """Return the IDL struct of a message type: two Cyclone endpoints match only where the structures do too."""
    package, _, name = ros_type.split("/")
    members: dict[str, Any] = {}
    for field, base, length in cdr.fields(ros_type):
        kind = _IDL_TYPES[base] if base in _IDL_TYPES else _idl(base)
        if length is not None:
            kind = types.array[kind, length] if length else types.sequence[kind]
        members[field] = kind
    return make_idl_struct(f"{name}_", f"{package}::msg::dds_::{name}_", members)


@dataclass(slots=True)
class _Gid:
    data: np.ndarray


@dataclass(slots=True)
class _NodeEntities:
    node_namespace: str
    node_name: str
    reader_gid_seq: list[_Gid]
    writer_gid_seq: list[_Gid]


@dataclass(slots=True)
class _EntitiesInfo:
    gid: _Gid
    node_entities_info_seq: list[_NodeEntities]
    __msgtype__ = _INFO_TYPE


def _entities_info(
    participant: bytes, *, node: str, namespace: str, readers: list[bytes], writers: list[bytes]
) -> _EntitiesInfo:
    def gid(key: bytes) -> _Gid:
        return _Gid(np.frombuffer(key, np.uint8))

    mine = _NodeEntities(namespace, node, [gid(k) for k in readers], [gid(k) for k in writers])
    return _EntitiesInfo(gid(participant), [mine])
