"""One tracking URI: where its events go, where it is read, and what this process has logged to it.

``runstream+queue:DIR`` and ``runstream+kafka://HOST:PORT/TOPIC`` name the stream; it is read as ``RUNSTREAM_URL`` and
``RUNSTREAM_STORE`` say.  ``runstream+http://HOST:PORT`` names the sink that is read; its stream is
``RUNSTREAM_STREAM``.

Writing never waits.  A read waits until the sink has applied what this process wrote before, as long as it takes but no
longer than `PATIENCE`; after a sink has failed to answer or to apply in time, reads do not wait for it for a while.
"""

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from msgspec import Struct

from runstream.client import Client
from runstream.client import client as own_client
from runstream.tracking.http import HttpSource
from runstream.tracking.local import LocalSource
from runstream.tracking.records import Source
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.settings import STREAM, TOKEN, URL

__all__ = ["PATIENCE", "Session", "session_of"]

PATIENCE: Final = 10.0
"""Seconds that a read waits for what was written before it."""
_PREFIX: Final = "runstream+"
_PAUSE: Final = 0.01
_RETRY: Final = 5.0
"""Seconds for which a sink that did not apply in time is not waited for again."""

T = TypeVar("T")


class Session:
    """Writes to a stream, and reads what its sink has applied.  Thread-safe."""

    def __init__(self, uri: str) -> None:
        address = uri.removeprefix(_PREFIX)
        over_http = address.startswith(("http://", "https://"))
        self.client = Client()
        self.client.configure(stream=STREAM.get() if over_http else address)
        self._url = address if over_http else own_client.config.url or URL.get()
        self._source: Source | None = None
        self._lock = threading.Lock()
        self._written: Struct | None = None
        self._retry_at = 0.0

    @property
    def source(self) -> Source:
        """What is read.  Raises `EnvironmentUnavailableError` where there is neither an address nor a store."""
        if self._source is None:
            self._source = HttpSource(self._url, TOKEN.get()) if self._url else LocalSource(own_client.config.store)
        return self._source

    def emit(self, event: Struct, marker: Struct) -> None:
        """Put an event on the stream; ``marker`` is an event of the same kind that changes nothing."""
        self.client.emit(event)
        self._written = marker

    def wrote(self, marker: Struct) -> None:
        """Something was put on the stream by other means."""
        self._written = marker

    def read(self, question: Callable[[Source], T]) -> T:
        """Ask, after all that this process wrote before is applied, if the sink does so in time."""
        self.settle()
        return question(self.source)

    def settle(self) -> bool:
        """Wait until what was written is applied; whether it is."""
        with self._lock:
            marker, self._written = self._written, None
            if marker is None:
                return True
            if time.monotonic() >= self._retry_at and self._is_applied(marker):
                return True
            self._retry_at = max(self._retry_at, time.monotonic() + _RETRY)
            self._written = self._written or marker
            return False

    def _is_applied(self, marker: Struct) -> bool:
        origin = self.client.emit_located(marker)
        deadline = time.monotonic() + PATIENCE
        if origin is None or not self.client.flush(PATIENCE):
            return False
        producer_id, seq = bytes.fromhex(origin[0]), origin[1]
        try:
            while not self.source.is_applied(producer_id, seq):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
        except EnvironmentUnavailableError:
            return False
        return True


@lru_cache(maxsize=64)
def session_of(uri: str) -> Session:
    """The session of a tracking URI: one a process."""
    return Session(uri)
