"""One thread for everything, and no waiting: executors run at once, and a loop with nothing to do sets the clock on.

The store's connection works where it is called.  What waits for something that nobody will ever do is found at once.
"""

import asyncio
import contextlib
import random
import secrets
import selectors
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from urllib.parse import quote

import structlog

import runstream.journal
from runstream_sink import service
from runstream_sink.consumer import Consumer
from runstream_sink.store import connection as seam
from runstream_sink.store import reading, sqlite

__all__ = ["Runtime", "VirtualTime", "new_loop", "single_threaded"]

T = TypeVar("T")


class VirtualTime:
    """What ``time.monotonic`` says."""

    def __init__(self) -> None:
        self.now = 1000.0
        """Seconds."""

    def monotonic(self) -> float:
        """The time."""
        return self.now


class _Selector(selectors.SelectSelector):
    """Where nothing is ready, it is at once as late as it had to become."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready.  Raises AssertionError if nothing ever will be."""
        found = super().select(0)
        if not found:
            assert timeout is not None, "everything waits, and for nothing that will happen"
            self._time.now += max(timeout, 0.0)
        return found


class _AtOnce(ThreadPoolExecutor):
    """Runs what it is given before ``submit`` returns."""

    def submit(self, fn: Callable[..., T], /, *arguments: Any, **options: Any) -> "Future[T]":
        """Run it."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*arguments, **options))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future


class _Answer:
    """What ``run_coroutine_threadsafe`` returns, for a coroutine that never has to wait."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._value = None
        try:
            work.send(None)
        except StopIteration as stop:
            self._value = stop.value
        else:
            raise AssertionError("this coroutine waits for something")

    def result(self) -> Any:
        """The coroutine's result."""
        return self._value


class Runtime:
    """An event loop without threads, and what the store asks of SQLite on the way."""

    def __init__(self, time: VirtualTime, statement: Callable[[str, Callable[[], Any]], Any]) -> None:
        """``statement`` is called with the SQL of each statement of a sink, and with what executes it."""
        self.loop = new_loop(time)
        self.time = time
        self.statement = statement

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        """End the loop."""
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def connect(
        self, path: Path, name: str, prepare: Callable[[sqlite3.Connection], None], *, mode: str
    ) -> "_Database":
        """What stands for ``connection.connect``."""
        runtime = self

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                return runtime.statement(sql, lambda: super(Watched, self).execute(sql, *parameters))

            def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                return runtime.statement(sql, lambda: super(Watched, self).executemany(sql, *parameters))

        factory = Watched if mode == "rw" else sqlite3.Connection
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}", isolation_level=None, uri=True, factory=factory
        )
        try:
            prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise seam._translated(error, name) from error
            raise
        return _Database(connection, name)


def new_loop(time: VirtualTime) -> asyncio.AbstractEventLoop:
    """An event loop for one process."""
    loop = asyncio.SelectorEventLoop(_Selector(time))
    loop.set_default_executor(_AtOnce())
    loop.set_exception_handler(lambda *_: None)  # a killed task tells nobody
    return loop


class _Database:
    """What stands for ``connection.Database``."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """See `runstream_sink.store.connection.Database.call`."""
        try:
            return function(self._connection, *arguments, **options)
        except sqlite3.Error as error:
            raise seam._translated(error, self._name) from error

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextlib.contextmanager
def single_threaded(
    runtime: Runtime, choice: random.Random, clock: Callable[[], int], part_limit: int, delivery: int
) -> Iterator[None]:
    """Let everything run in this thread, on this clock, with chance from this generator."""
    replaced = [
        (sqlite, "connect", runtime.connect),
        (reading, "connect", runtime.connect),
        (asyncio, "run_coroutine_threadsafe", lambda work, _: _Answer(work)),
        (time, "monotonic", runtime.time.monotonic),
        (runstream.journal, "_time_ns", clock),
        (service, "Consumer", lambda *given: Consumer(*given, part_limit=part_limit)),
        (secrets, "token_hex", lambda size: choice.randbytes(size).hex()),
    ]
    logging = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        with contextlib.ExitStack() as stack:
            for owner, name, replacement in replaced:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            stack.enter_context(mock.patch("os.urandom", choice.randbytes))
            stack.enter_context(mock.patch("runstream_sink.consumer._DELIVERY", delivery))
            yield
    finally:
        structlog.configure(**logging)
        runtime.close()
