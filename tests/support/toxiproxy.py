"""Toxiproxy: a proxy between clients and a server, which a test tells to disturb the connections.

What a toxic does, and its attributes: `latency` (latency, jitter: milliseconds), `bandwidth` (rate: KB/s), `timeout`
(timeout: milliseconds after which the connection is closed, 0 for never; nothing passes meanwhile), `reset_peer`
(timeout: milliseconds until the reset), `slow_close` (delay: milliseconds), `slicer` (average_size, size_variation:
bytes, delay: microseconds), `limit_data` (bytes, after which the connection is closed: in the middle of a response).
A toxic holds for one direction: "downstream" is what the server says.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.components import TOXIPROXY, cached_component
from support.ports import Ports
from support.servers import Server

__all__ = ["Proxy", "Toxiproxy"]

_DEADLINE = 60
_Json = dict[str, Any]


class Toxiproxy:
    """A running toxiproxy; `close` ends it and gives its ports back."""

    def __init__(self, directory: Path) -> None:
        self.ports = Ports()
        port = self.ports.take()
        directory.mkdir(parents=True, exist_ok=True)
        program = str(cached_component(TOXIPROXY) / "toxiproxy")
        self._server = Server([program, "-host", "127.0.0.1", "-port", str(port)], directory / "toxiproxy.log")
        self._address = f"http://127.0.0.1:{port}"
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def add(self, name: str, upstream: str, port: int | None = None) -> "Proxy":
        """A proxy before `upstream` ("host:port"), at a port of its own or one that the caller owns."""
        port = port or self.ports.take()
        wanted = {"name": name, "listen": f"127.0.0.1:{port}", "upstream": upstream, "enabled": True}
        self.call("POST", "/proxies", wanted)
        return Proxy(self, name, port)

    def reset(self) -> None:
        """Switch every proxy on and take all toxics away."""
        self.call("POST", "/reset")

    def close(self) -> None:
        """End it: all its connections break."""
        self._server.kill()
        self.ports.close()

    def call(self, method: str, path: str, body: _Json | None = None) -> Any:
        """Ask its HTTP interface; urllib.error.HTTPError where it refuses."""
        data = None if body is None else json.dumps(body).encode()
        # It refuses what looks as if a browser had sent it.
        request = urllib.request.Request(
            self._address + path, data, {"User-Agent": "runstream", "Content-Type": "application/json"}, method=method
        )
        with self._direct.open(request, timeout=_DEADLINE) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def _start(self) -> None:
        self._server.launch()
        deadline = time.monotonic() + _DEADLINE
        while True:
            try:
                self.call("GET", "/proxies")
            except (urllib.error.URLError, ConnectionError):
                if not self._server.running or time.monotonic() > deadline:
                    raise RuntimeError(f"toxiproxy did not start:\n{self._server.tail()}") from None
                time.sleep(0.02)
            else:
                return


class Proxy:
    """One proxy, listening at 127.0.0.1:`port`."""

    def __init__(self, toxiproxy: Toxiproxy, name: str, port: int) -> None:
        self._toxiproxy = toxiproxy
        self._path = f"/proxies/{name}"
        self.port = port

    @property
    def address(self) -> str:
        """For clients: "host:port"."""
        return f"127.0.0.1:{self.port}"

    def disable(self) -> None:
        """Cut all connections and refuse new ones."""
        self._toxiproxy.call("POST", self._path, {"enabled": False})

    def enable(self) -> None:
        """Accept connections again."""
        self._toxiproxy.call("POST", self._path, {"enabled": True})

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Without connections, for as long as the block runs."""
        self.disable()
        try:
            yield
        finally:
            self.enable()

    def add_toxic(self, kind: str, *, stream: str = "downstream", toxicity: float = 1.0, **attributes: int) -> str:
        """Disturb connections, old and new; return the toxic's name."""
        wanted = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        return str(self._toxiproxy.call("POST", f"{self._path}/toxics", wanted)["name"])

    def remove_toxic(self, name: str) -> None:
        """Disturb no more; what was cut stays cut."""
        self._toxiproxy.call("DELETE", f"{self._path}/toxics/{name}")

    @contextmanager
    def toxic(
        self, kind: str, *, stream: str = "downstream", toxicity: float = 1.0, **attributes: int
    ) -> Iterator[None]:
        """Disturb connections for as long as the block runs."""
        name = self.add_toxic(kind, stream=stream, toxicity=toxicity, **attributes)
        try:
            yield
        finally:
            self.remove_toxic(name)
