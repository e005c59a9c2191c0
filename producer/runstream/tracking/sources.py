"""Which source a program reads from."""

from runstream.client import client
from runstream.tracking.http import HttpSource
from runstream.tracking.local import LocalSource
from runstream.tracking.records import Source
from runstream_schemas.settings import TOKEN, URL

__all__ = ["current_source"]


def current_source(url: str | None = None) -> Source:
    """A sink's HTTP server, at ``url`` or else where the settings say; where they say nothing, the store."""
    address = url or client.config.url or URL.get()
    return HttpSource(address, TOKEN.get()) if address else LocalSource(client.config.store)
