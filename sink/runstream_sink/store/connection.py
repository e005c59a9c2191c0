"""The connection to SQLite: the one seam to aiosqlite and to sqlite3's exceptions.

aiosqlite gives a connection its own thread and takes one statement at a time to it.  A transaction that is made of
such steps stays open when its task is cancelled between two of them, lets reads of other tasks in between, and pays a
change of threads a statement.  So a whole transaction is one function here, which `Database.call` runs in that thread:
it begins and ends whatever happens to the task that waits for it.  aiosqlite itself runs all of its methods through
``_execute``, which this module alone uses.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import quote

import aiosqlite

from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError, InvalidInputError, RunstreamError
from runstream_sink.cancellation import finish

__all__ = ["BUSY_TIMEOUT", "Database", "connect"]

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT: Final = 60.0
"""Seconds to wait for another connection, as while it recovers the write-ahead log."""


class Database(aiosqlite.Connection):
    """A connection whose thread runs whole functions."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], name: str) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._name = name
        thread: Any = getattr(self, "_thread", self)  # aiosqlite before 0.22 is a thread, later ones have one
        thread.daemon = True  # a program that ends without close() must not hang

    async def call(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``function(connection, ...)`` in the connection's thread, to its end even if the caller is cancelled.

        sqlite3's exceptions come out as `EnvironmentUnavailableError`, `CorruptDataError` or, where it refuses what is
        to be written, `InvalidInputError`.
        """
        try:
            result: T = await self._execute(partial(function, self._conn, *args, **kwargs))  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            raise _translated(error, self._name) from error
        except UnicodeDecodeError as error:
            raise CorruptDataError(f"the store {self._name} holds text that is none: {error}") from error
        return result

    def stop(self) -> asyncio.Future[Any] | None:
        """Let the thread end."""
        self._stopped = super().stop()
        return self._stopped

    async def stopped(self) -> None:
        """Wait until the thread, told to end, needs the event loop no more."""
        if self._stopped is not None:
            await self._stopped


async def connect(path: Path, name: str, prepare: Callable[[sqlite3.Connection], None], *, mode: str) -> Database:
    """Open ``path`` with ``mode`` ``ro``, ``rw`` or ``rwc``, and let ``prepare`` set the connection up.

    The connection is in autocommit mode: transactions are begun and ended by statements.
    """
    opened: list[sqlite3.Connection] = []

    def connector() -> sqlite3.Connection:
        address = f"file:{quote(str(path.absolute()))}?mode={mode}"
        connection = sqlite3.connect(
            address, timeout=BUSY_TIMEOUT, isolation_level=None, uri=True, check_same_thread=False
        )
        opened.append(connection)
        try:
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    database = Database(connector, name)
    try:
        await database
    except BaseException as error:
        await finish(database.stopped())
        for connection in opened:  # made after the caller gave up; the thread that could have closed it is gone
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _translated(error, name) from error
        if isinstance(error, UnicodeDecodeError):  # what SQLite says of a damaged schema
            raise CorruptDataError(f"the store {name} is damaged: {error}; replay into a new one") from error
        raise
    return database


def _translated(error: sqlite3.Error, name: str) -> RunstreamError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.InterfaceError):
        return InvalidInputError(f"the store {name} takes no such data: {error}")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptDataError(f"the store {name} is damaged or no SQLite database ({error}); replay into a new one")
    return EnvironmentUnavailableError(f"the store {name} cannot be used: {error}")
