"""The server: uvicorn in the sink's own event loop, from after the consumer's beginning to before its end.

It ends gracefully: no new connections are taken, requests that are under way are finished, watchers are let go, and
what is not done after a deadline is broken off.  While it runs, ``http.json`` beside the database says where it is
reached: ``{"host": ..., "port": ..., "pid": ..., "url": ...}``.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
import uvicorn

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_sink.config import HttpOptions, Options
from runstream_sink.consumer import Consumer
from runstream_sink.http.app import create_app, guarded
from runstream_sink.http.context import HttpContext
from runstream_sink.http.feed import ChangeFeed
from runstream_sink.http.guard import check_exposure
from runstream_sink.http.measures import Measures
from runstream_sink.http.mlflow_ui import PATH as UI_PATH
from runstream_sink.http.readers import PooledReader
from runstream_sink.http.writer import Writer, Writing, find_writing
from runstream_sink.location import StoreLocation

__all__ = ["Address", "HttpServer", "address_file", "bind", "serving"]

_GRACE: Final = 10
"""Seconds that requests which are under way have at the end."""
_log = structlog.get_logger(__name__)


class Address(msgspec.Struct, frozen=True):
    """Where a sink is reached, as ``http.json`` says it."""

    host: str
    port: int
    pid: int
    url: str


def address_file(location: StoreLocation) -> Path:
    """Where a sink that serves a store says where."""
    lock = location.lock
    return lock.with_name("http.json" if lock.name == "lock" else f"{location.database.name}.http.json")


def bind(options: HttpOptions) -> socket.socket:
    """A socket at the address, or at a free port where that will do; blocking.

    Raises `InvalidInputError` or `EnvironmentUnavailableError`.
    """
    try:
        found = socket.getaddrinfo(options.host or None, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidInputError(f"--host {options.host!r:.200} is no address: {error}") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # so that whoever connects before the server accepts waits for it
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE and options.may_move:
            _log.warning("the usual port is taken, by another sink perhaps; serving at a free one", port=options.port)
            return bind(options._replace(port=0, may_move=False))
        raise EnvironmentUnavailableError(_cannot_bind(options, error)) from error
    return listening


def _cannot_bind(options: HttpOptions, error: OSError) -> str:
    where = f"port {options.port} of {options.host or 'all addresses'}"
    advice = "name another with --port (0: a free one), or serve nothing with --no-http"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; {advice}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{options.host} is no address of this machine; name one with --host"
    return f"{where} cannot be served: {error.strerror}; {advice}"


class HttpServer(uvicorn.Server):
    """A server on one socket, which leaves signals to whoever runs the sink."""

    def __init__(self, config: uvicorn.Config, context: HttpContext, listening: socket.socket) -> None:
        super().__init__(config)
        self.context = context
        self._listening = listening
        self._task: asyncio.Task[None] | None = None
        host, port = listening.getsockname()[:2]
        self.address = Address(host, port, os.getpid(), _url(host, port))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    def start(self) -> None:
        """Serve from now on."""
        self._task = asyncio.create_task(self.serve(sockets=[self._listening]))

    async def end(self) -> None:
        """Take no new connections, and return when those that are there are done, at the latest after the deadline."""
        self.context.changes.close()
        self.should_exit = True
        if self._task is not None:
            await asyncio.shield(self._task)


def _url(host: str, port: int) -> str:
    """By which this machine reaches it."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


@asynccontextmanager
async def serving(options: Options, http: HttpOptions, consumer: Consumer) -> AsyncIterator[HttpServer]:
    """Serve the store that ``consumer`` writes, until the end or until `HttpServer.end`.

    Raises `InvalidInputError` for an address that may not be served, `EnvironmentUnavailableError` for one that
    cannot be, and where MLflow's UI is to be served and is not installed.
    """
    check_exposure(http)
    listening = await asyncio.to_thread(bind, http)
    try:
        reader = await PooledReader.open(options.store)
    except BaseException:
        listening.close()
        raise
    writer = Writer(consumer.applied, partial(_open_writing, options), trouble=lambda: consumer.progress.failure)
    context = _context(options, http, consumer, reader, writer)
    try:
        server = await asyncio.to_thread(_make_server, context, listening)
        with _announced(server.address, address_file(options.store)):
            server.start()
            _log.info("serving HTTP", url=server.address.url, token="required" if http.token else "none")
            if http.mlflow_ui:
                _log.info("serving MLflow's UI", url=f"{server.address.url}{UI_PATH}/")
            try:
                yield server
            finally:
                await server.end()
    finally:
        listening.close()
        await writer.close()
        await reader.close()


def _context(
    options: Options, http: HttpOptions, consumer: Consumer, reader: PooledReader, writer: Writer
) -> HttpContext:
    feed, measures = ChangeFeed(), Measures()
    consumer.applied.listen(feed.note)
    consumer.applied.time_commits(measures.commits.add)
    return HttpContext(reader, options, http, writer, feed, consumer.applied, consumer.progress, measures)


def _open_writing(options: Options) -> Writing:
    return find_writing()(str(options.stream))


def _make_server(context: HttpContext, listening: socket.socket) -> HttpServer:
    config = uvicorn.Config(
        guarded(create_app(context), context),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE,
    )
    config.load()
    return HttpServer(config, context, listening)


@contextmanager
def _announced(address: Address, file: Path) -> Iterator[None]:
    """While this lasts a file says where the server is."""
    fresh = file.with_name(f"{file.name}.new")
    try:
        fresh.write_bytes(msgspec.json.encode(address) + b"\n")
        fresh.replace(file)
    except OSError as error:
        _log.warning("others cannot be told where HTTP is served", file=str(file), reason=str(error))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
