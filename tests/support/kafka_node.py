"""One node of a Kafka cluster: its configuration and its process."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from support.components import KAFKA, cached_component, real_component
from support.servers import Server

__all__ = ["CONTROLLER", "KafkaNode", "Listener", "properties_text", "shared_classes"]

CONTROLLER = "CONTROLLER"
_QUICK_JVM = ["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
_LOG4J = """\
Configuration:
  status: WARN
  Appenders: {Console: {name: console, target: SYSTEM_ERR, PatternLayout: {pattern: "%d %p %m (%c)%n%throwable"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: console}}}
"""
# Small and quick: one partition for what Kafka keeps for itself, and no waiting for further members of a group.
_COMMON = {
    "auto.create.topics.enable": "false",
    "num.partitions": "3",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "log.segment.delete.delay.ms": "0",
    # A node that is gone is noticed soon, though not at once: the machine may be busy.  One that was killed may return
    # no earlier.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "300",
}


class Listener(NamedTuple):
    """An address at which a node serves clients of one kind."""

    name: str
    """In capital letters, such as SASL_SSL."""
    protocol: str
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    port: int
    advertised: int
    """The port that clients are told to use: another one where they are to go through a proxy."""


class KafkaNode(Server):
    """Broker and controller in one process, whose data and ports stay the same however often it is started."""

    def __init__(self, number: int, directory: Path, listeners: list[Listener], properties: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.number = number
        self.listeners = {listener.name: listener for listener in listeners}
        self._properties = directory / f"{number}.properties"
        self._properties.write_text(properties)
        log4j = directory / "log4j2.yaml"
        log4j.write_text(_LOG4J)
        self._java = [real_component("java"), *_QUICK_JVM, f"-Dlog4j2.configurationFile={log4j}"]
        self._classes = ["-cp", _class_path()]
        super().__init__([], directory / f"{number}.log")

    def address(self, listener: str) -> str:
        """Where clients find it: "host:port"."""
        return f"127.0.0.1:{self.listeners[listener].advertised}"

    def format(self, cluster_id: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start to prepare the directory of its data, which is done when the process ends with 0."""
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties), *arguments]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*self._java, *_shared(), *self._classes, *tool], stdout=output, stderr=subprocess.STDOUT
            )

    def launch(self, *extra: str) -> None:
        """Start it, with further options for the JVM, and do not wait until it serves."""
        self.command = [*self._java, *(extra or _shared()), *self._classes, "kafka.Kafka", str(self._properties)]
        super().launch()


def properties_text(
    number: int, data: Path, voters: Mapping[int, int], listeners: list[Listener], further: Mapping[str, str]
) -> str:
    """A node's configuration; voters are the ports of all nodes' controllers."""
    replicas, quorum = ("3", "2") if len(voters) > 1 else ("1", "1")
    names = [*listeners, Listener(CONTROLLER, "PLAINTEXT", voters[number], voters[number])]
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in voters.items()),
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": listeners[0].name,
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, _, port, _ in names),
        "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, _, _, port in listeners),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol, _, _ in names),
        "log.dirs": str(data),
        "default.replication.factor": replicas,
        "min.insync.replicas": quorum,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": quorum,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": quorum,
        **_COMMON,
        **further,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _class_path() -> str:
    # In one order on every start: the archive below holds for that alone.
    return ":".join(str(jar) for jar in sorted((cached_component(KAFKA) / "lib").glob("*.jar")))


def shared_classes() -> Path:
    """A file of loaded classes, with which a node starts three times as fast; see support.kafka, which makes it."""
    return cached_component(KAFKA) / "classes.jsa"


def _shared() -> list[str]:
    archive = shared_classes()
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
