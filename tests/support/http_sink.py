"""A sink in this process that serves HTTP on a free port, over real connections."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, NamedTuple

import httpx

from runstream_schemas.streams import KafkaStream
from runstream_sink.config import HttpOptions, Options, resolve
from runstream_sink.consumer import Consumer
from runstream_sink.http.context import HttpContext
from runstream_sink.http.server import HttpServer, serving
from runstream_sink.queue_source import QueueSource
from runstream_sink.service import kafka_source, open_consumer
from runstream_sink.source import Source

__all__ = ["HttpSink", "http_sink", "http_sink_apart"]


class HttpSink(NamedTuple):
    """A sink that serves."""

    client: httpx.AsyncClient
    url: str
    context: HttpContext
    consumer: Consumer
    options: Options
    server: HttpServer


@asynccontextmanager
async def http_sink(root: Path, stream: str | None = None, **http: Any) -> AsyncIterator[HttpSink]:
    """A sink of the queue ``root/queue``, or another stream, and the store ``root/store``.

    ``http`` are fields of `HttpOptions`.
    """
    options = resolve(stream=stream or f"queue:{root / 'queue'}", store=str(root / "store"), http=False)
    fields = {"host": "127.0.0.1", "port": 0, "token": "", "allow_open": False, "allowed_hosts": (), **http}
    stop = asyncio.Event()
    source: Source
    if isinstance(options.stream, KafkaStream):
        source = kafka_source(options, options.stream)
    else:
        source = QueueSource(options.queue)
    async with open_consumer(options, source) as (consumer, _):
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


@contextmanager
def http_sink_apart(root: Path, **http: Any) -> Iterator[HttpSink]:
    """The same in a thread of its own, for tests that have no event loop; use only its ``url``."""
    found: Queue[HttpSink | BaseException] = Queue()
    ended: list[Callable[[], object]] = []

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        ended.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with http_sink(root, **http) as sink:
            found.put(sink)
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - told to the test
            found.put(error)

    thread = Thread(target=run)
    thread.start()
    sink = found.get()
    if isinstance(sink, BaseException):
        thread.join()
        raise sink
    try:
        yield sink
    finally:
        ended[0]()
        thread.join()
    if not found.empty() and isinstance(error := found.get(), BaseException):
        raise error
