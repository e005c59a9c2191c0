"""Which source a program reads from, and that it finds there what it has logged itself."""

from functools import lru_cache
from typing import Final

from runstream.client import client
from runstream.tracking.http import HttpSource
from runstream.tracking.local import LocalSource
from runstream.tracking.records import Source
from runstream.tracking.settling import Settling
from runstream_schemas.settings import TOKEN, URL

__all__ = ["current_source", "settled_source"]

_SOURCES: Final = 64


def current_source(url: str | None = None) -> Source:
    """A sink's HTTP server, at ``url`` or else where the settings say; where they say nothing, the store."""
    address = url or client.config.url or URL.get()
    return HttpSource(address, TOKEN.get()) if address else LocalSource(client.config.store)


def settled_source(url: str | None = None) -> Source:
    """The same, once its sink has applied what this process has logged, if it does so in time."""
    source = current_source(url)
    _settling(url or client.config.url or URL.get() or client.config.store).settle(source)
    return source


@lru_cache(_SOURCES)
def _settling(address: str) -> Settling:
    """What waits for the sink at an address, or that of a store."""
    del address
    return Settling(client)
