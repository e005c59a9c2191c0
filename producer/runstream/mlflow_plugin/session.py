"""One tracking URI: where its events go, where it is read, and what this process has logged to it.

``runstream+queue:DIR`` and ``runstream+kafka://HOST:PORT/TOPIC`` name the stream; it is read as ``RUNSTREAM_URL`` and
``RUNSTREAM_STORE`` say.  ``runstream+http://HOST:PORT`` names the sink that is read; its stream is
``RUNSTREAM_STREAM``.

Writing never waits.  Reading waits as `runstream.tracking.settling` says.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from runstream.client import Client
from runstream.client import client as own_client
from runstream.mlflow_plugin.memory import Memory
from runstream.tracking.http import HttpSource
from runstream.tracking.local import LocalSource
from runstream.tracking.records import Source
from runstream.tracking.settling import Settling
from runstream_schemas.settings import STREAM, TOKEN, URL

__all__ = ["Session", "session_of"]

_PREFIX: Final = "runstream+"

T = TypeVar("T")


class Session:
    """Writes to a stream, and reads what its sink has applied.  Thread-safe."""

    def __init__(self, uri: str) -> None:
        address = uri.removeprefix(_PREFIX)
        over_http = address.startswith(("http://", "https://"))
        self.client = Client()
        self.client.configure(stream=STREAM.get() if over_http else address)
        self.emit = self.client.emit
        self.memory = Memory()
        self._url = address if over_http else own_client.config.url or URL.get()
        self._source: Source | None = None
        self._settling = Settling(self.client)

    @property
    def source(self) -> Source:
        """What is read.  Raises `EnvironmentUnavailableError` where there is neither an address nor a store."""
        if self._source is None:
            self._source = HttpSource(self._url, TOKEN.get()) if self._url else LocalSource(own_client.config.store)
        return self._source

    def read(self, question: Callable[[Source], T]) -> T:
        """Ask, after all that this process wrote before is applied, if the sink does so in time."""
        self.settle()
        return question(self.source)

    def settle(self) -> bool:
        """Wait until what was written is applied; whether it is."""
        return self._settling.settle(self.source)


@lru_cache(maxsize=64)
def session_of(uri: str) -> Session:
    """The session of a tracking URI: one a process."""
    return Session(uri)
