"""The one seam to DuckDB: connections with limits, and work in a thread that ends when nobody waits for it any more."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from runstream_schemas.errors import EnvironmentUnavailableError, RunstreamError

__all__ = [
    "MEMORY_LIMIT",
    "THREADS",
    "CancelledWorkError",
    "Stop",
    "UnreadableCacheError",
    "connected",
    "in_thread",
    "reading_cache",
]

T = TypeVar("T")

MEMORY_LIMIT: Final = "1GB"
"""Of one query; what needs more is written to files meanwhile."""
THREADS: Final = 2
_SPILL_LIMIT: Final = "64GB"
_PATIENCE: Final = 0.05
"""Seconds between attempts to interrupt."""


class CancelledWorkError(RunstreamError):
    """Nobody waits for the result any longer."""


class UnreadableCacheError(RunstreamError):
    """A file that a query reads is gone or damaged."""


class Stop:
    """Tells work in a thread that it should end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._connection: Any = None

    def set(self) -> None:
        """End the work; a query that runs is interrupted."""
        with self._lock:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()

    def check(self) -> None:
        """Raise `CancelledWorkError` if the work should end."""
        if self._stopped:
            raise CancelledWorkError("the query was cancelled")

    def watch(self, connection: Any) -> None:
        """Interrupt the queries of ``connection`` when told to stop."""
        with self._lock:
            self._connection = connection
        self.check()

    def forget(self) -> None:
        """Interrupt nothing any longer."""
        with self._lock:
            self._connection = None


async def in_thread(function: Callable[[Stop], T]) -> T:
    """Run ``function(stop)`` in a thread.  When the caller is cancelled, ``stop`` is set and the end awaited."""
    stop = Stop()
    work = asyncio.ensure_future(asyncio.to_thread(function, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            stop.set()  # again and again: DuckDB forgets an interruption that comes just before a query
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work}, timeout=_PATIENCE)
        work.exception()  # seen
        raise


@contextmanager
def reading_cache() -> Iterator[None]:
    """DuckDB's exceptions for files that are gone or damaged come out as `UnreadableCacheError`."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException) as error:
        raise UnreadableCacheError(f"a file of the cache cannot be read: {error}") from error


@contextmanager
def connected(stop: Stop, database: str = ":memory:", *, spill: Path, **options: Any) -> Iterator[Any]:
    """A connection to DuckDB with limits of memory and threads, which puts what exceeds memory below ``spill``.

    DuckDB's exceptions come out as `CancelledWorkError`, `UnreadableCacheError` for files, and
    `EnvironmentUnavailableError`.  It never loads what is not installed.
    """
    import duckdb

    config = {
        "memory_limit": MEMORY_LIMIT,
        "threads": THREADS,
        "temp_directory": str(spill),
        "max_temp_directory_size": _SPILL_LIMIT,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
        **options,
    }
    try:
        with reading_cache(), duckdb.connect(database, config=config) as connection:
            try:
                stop.watch(connection)
                yield connection
            finally:
                stop.forget()
    except duckdb.InterruptException as error:
        raise CancelledWorkError("the query was cancelled") from error
    except duckdb.OutOfMemoryException as error:
        raise EnvironmentUnavailableError(
            f"the query needs more than {MEMORY_LIMIT} of memory and {_SPILL_LIMIT} in {spill}; narrow it: {error}"
        ) from error
