"""A sink in this process that serves HTTP on a free port, over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from runstream_sink.config import HttpOptions, Options, resolve
from runstream_sink.consumer import Consumer
from runstream_sink.http.context import HttpContext
from runstream_sink.http.server import HttpServer, serving
from runstream_sink.queue_source import QueueSource
from runstream_sink.service import open_consumer

__all__ = ["HttpSink", "http_sink"]


class HttpSink(NamedTuple):
    """A sink that serves."""

    client: httpx.AsyncClient
    url: str
    context: HttpContext
    consumer: Consumer
    options: Options
    server: HttpServer


@asynccontextmanager
async def http_sink(root: Path, **http: Any) -> AsyncIterator[HttpSink]:
    """A sink of the queue ``root/queue`` and the store ``root/store``; ``http`` are fields of `HttpOptions`."""
    options = resolve(stream=f"queue:{root / 'queue'}", store=str(root / "store"), http=False)
    fields = {"host": "127.0.0.1", "port": 0, "token": "", "allow_open": False, "allowed_hosts": (), **http}
    stop = asyncio.Event()
    async with open_consumer(options, QueueSource(options.queue)) as (consumer, _):
        running = asyncio.create_task(consumer.run(once=False, stop=stop))
        try:
            async with (
                serving(options, HttpOptions(**fields), consumer) as server,
                httpx.AsyncClient(base_url=server.address.url, timeout=60.0) as client,
            ):
                yield HttpSink(client, server.address.url, server.context, consumer, options, server)
        finally:
            stop.set()
            await running
