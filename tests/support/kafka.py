"""A real Kafka cluster of one node or three, on 127.0.0.1, for tests."""

import asyncio
import base64
import contextlib
import fcntl
import shutil
import tempfile
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from support.components import KAFKA, cached_component
from support.kafka_admin import Administration, read_topic
from support.kafka_node import KafkaNode, Listener, properties_text, shared_classes
from support.kafka_security import LISTENERS, Rights, Secrets, format_arguments
from support.ports import Ports
from support.toxiproxy import Proxy, Toxiproxy

__all__ = ["PLAIN", "PROXIED", "KafkaCluster", "read_topic", "wait_for"]

_T = TypeVar("_T")
PLAIN = "PLAINTEXT"
"""The listener without any restriction, which every cluster has."""
PROXIED = "PROXIED"
"""The same behind a proxy, through which its clients go from then on."""
_TRIES = 3


class KafkaCluster(Administration):
    """Nodes 1 to n in `nodes`, each of which may be killed, paused and started again at the same address.

    With a toxiproxy, clients of the listener PROXIED reach node n through `proxies[n]` only.  A secured one has the
    listeners, users and `rights` of support.kafka_security, and `secrets`, the files that clients need.  `properties`
    are added to each node's configuration.  `ports` are for a cluster of one node that is to be found at a known port:
    the broker's and the controller's.
    """

    secrets: Secrets

    def __init__(
        self,
        directory: Path,
        nodes: int = 1,
        *,
        toxiproxy: Toxiproxy | None = None,
        secured: bool = False,
        properties: Mapping[str, str] | None = None,
        ports: tuple[int, int] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.rights = Rights(self)
        self.nodes: dict[int, KafkaNode] = {}
        self.proxies: dict[int, Proxy] = {}
        self._size = nodes
        self._toxiproxy = toxiproxy
        self._given_ports = ports
        self._further = dict(properties or {})
        self._format_arguments: list[str] = []
        self._protocols = {PLAIN: "PLAINTEXT"}
        if toxiproxy is not None:
            self._protocols[PROXIED] = "PLAINTEXT"
        if secured:
            self.secrets = Secrets(directory)
            self._protocols |= LISTENERS
            self._further = self.secrets.properties() | self._further
            self._format_arguments = format_arguments()
        self._ports = Ports()

    @property
    def bootstrap(self) -> str:
        """Addresses at which everything is allowed to everyone: of the nodes that run, or of all if none does."""
        numbers = self.living or self.nodes
        return ",".join(self.nodes[number].address(PLAIN) for number in sorted(numbers))

    @property
    def living(self) -> set[int]:
        """The numbers of the nodes that run and are not paused."""
        return {number for number, node in self.nodes.items() if node.running and not node.paused}

    def servers(self, listener: str = PLAIN) -> str:
        """Addresses of all nodes, running or not, for clients of one listener: "host:port,host:port"."""
        return ",".join(node.address(listener) for node in self.nodes.values())

    def stream(self, topic: str, listener: str = PLAIN) -> str:
        """A topic of this cluster as runstream names it."""
        return f"kafka://{self.servers(listener)}/{topic}"

    def start(self) -> None:
        """Start all nodes and wait until they serve; may be called while an event loop runs, which then waits too."""
        for remaining in reversed(range(_TRIES)):
            self._arrange()
            try:
                self.launch()
                wait_for(self.agree())
            except BaseException as error:
                self.kill()
                if not remaining or not isinstance(error, RuntimeError) or "already in use" not in str(error):
                    raise
                self._discard()
            else:
                return

    def launch(self) -> None:
        """Start those nodes that do not run, and do not wait."""
        if not self._given_ports:  # the only broker of its kind would save nothing by it
            _share_classes()
        for node in self.nodes.values():
            if not node.running:
                node.launch()

    async def restart(self, number: int) -> None:
        """Kill a node if it runs, start it again, and wait until it serves and the others know of it."""
        self.nodes[number].kill()
        self.nodes[number].launch()
        await self.agree()

    async def restore(self) -> None:
        """Bring back all nodes that were killed or paused, and wait until they serve."""
        for node in self.nodes.values():
            if node.running:
                node.resume()
        self.launch()
        await self.agree()

    def kill(self) -> None:
        """End all nodes, as by `kill -9`."""
        for node in self.nodes.values():
            node.kill()

    def terminate(self) -> None:
        """Ask all nodes to stop, and wait for it."""
        for node in self.nodes.values():
            node.terminate()

    def close(self) -> None:
        """End it for good: its data are gone, and its ports are for others."""
        self.kill()
        self._discard()

    def check(self) -> None:
        """Raise RuntimeError with the end of its log for a node that has stopped by itself."""
        for node in self.nodes.values():
            if node.crashed:
                raise RuntimeError(f"node {node.number} has stopped:\n{node.tail()}")

    def _arrange(self) -> None:
        """Ports, proxies, configurations and empty data for nodes that never ran."""
        if self.nodes:
            return
        numbers = range(1, self._size + 1)
        broker, controller = self._given_ports or (0, 0)
        voters = {number: controller or self._ports.take() for number in numbers}
        for number in numbers:
            listeners = [self._listener(number, name, broker) for name in self._protocols]
            data = self._data(number)
            text = properties_text(number, data, voters, listeners, self._further)
            self.nodes[number] = KafkaNode(number, self.directory, listeners, text)
        self._format()

    def _listener(self, number: int, name: str, port: int) -> Listener:
        port = port or self._ports.take()
        advertised = port
        if name == PROXIED and self._toxiproxy is not None:
            proxy = self._toxiproxy.add(f"{self.directory.name}-{number}-{port}", f"127.0.0.1:{port}")
            self.proxies[number] = proxy
            advertised = proxy.port
        return Listener(name, self._protocols[name], port, advertised)

    def _format(self) -> None:
        # Its first letter comes from a byte that is 0: the tool would take one that begins with "-" for an option.
        cluster_id = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        new = [node for node in self.nodes.values() if not (self._data(node.number) / "meta.properties").exists()]
        processes = [(node, node.format(cluster_id, *self._format_arguments)) for node in new]
        for node, process in processes:
            if process.wait() != 0:
                raise RuntimeError(f"node {node.number} cannot be formatted:\n{node.tail()}")

    def _data(self, number: int) -> Path:
        return self.directory / f"data{number}"

    def _discard(self) -> None:
        if not self._given_ports:
            for number in self.nodes:
                shutil.rmtree(self._data(number), ignore_errors=True)
        self.nodes.clear()
        self.proxies.clear()
        self._ports.close()


def wait_for(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, wherever this is called."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _share_classes() -> None:
    """Make the file of loaded classes, once for this machine: a node writes it when it stops."""
    archive = shared_classes()
    if archive.exists():
        return
    with (cached_component(KAFKA) / ".lock").open("w") as lock, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return
        made = archive.with_suffix(".partial")
        with contextlib.closing(KafkaCluster(Path(scratch))) as cluster:
            cluster._arrange()
            (node,) = cluster.nodes.values()
            node.launch(f"-XX:ArchiveClassesAtExit={made}")
            wait_for(cluster.agree())
            node.terminate()
        made.rename(archive)
