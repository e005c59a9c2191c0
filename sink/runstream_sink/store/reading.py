"""Reading a SQLite store while a sink writes it, or after."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_sink.cancellation import finish
from runstream_sink.changes import origin_of
from runstream_sink.location import StoreLocation
from runstream_sink.store import migrate
from runstream_sink.store.connection import Database, connect
from runstream_sink.store.protocol import Row
from runstream_sink.store.search_plan import Placed, SearchPlan
from runstream_sink.store.search_sql import search
from runstream_sink.store.statements import SQL

__all__ = ["SqliteReader", "add_functions", "open_reader", "read_store_id"]

_ROWS_AT_ONCE: Final = 4096


async def open_reader(location: StoreLocation) -> "SqliteReader":
    """Open a store for reading.  Takes no lock: a sink may run.

    Raises `EnvironmentUnavailableError` if there is no store, `StoreVersionError` if its version is another one.
    """
    return await _open(location, frozen=False)


async def _open(location: StoreLocation, *, frozen: bool) -> "SqliteReader":
    def set_up(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA case_sensitive_like = ON")
        add_functions(connection)
        if frozen:
            connection.execute("BEGIN")  # the first read, of the version, decides what all see
        migrate.check_version(migrate.version_of(connection, location.text), location.text)

    if not await asyncio.to_thread(location.database.exists):
        raise EnvironmentUnavailableError(
            f"there is no store at {location.text} ({location.database} does not exist); "
            "name the store that a sink writes, or start `runstream sink` to make one"
        )
    database = await connect(location.database, location.text, set_up, mode="ro")
    return SqliteReader(location, database, await database.call(read_store_id))


class SqliteReader:
    """A `StoreReader` on one SQLite file."""

    def __init__(self, location: StoreLocation, database: Database, store_id: str) -> None:
        self._location = location
        self._database = database
        self._store_id = store_id
        self._closed = False

    @property
    def store_id(self) -> str:
        """See `StoreReader.store_id`."""
        return self._store_id

    @property
    def location(self) -> StoreLocation:
        """See `StoreReader.location`."""
        return self._location

    async def close(self) -> None:
        """See `StoreReader.close`."""
        self._closed = True
        await finish(self._database.close())

    async def fetch(self, query: str, **parameters: Any) -> list[Row]:
        """See `StoreReader.fetch`."""
        return await self._database.call(_fetch, SQL[query], parameters)

    async def search(self, plan: SearchPlan) -> list[Placed]:
        """See `StoreReader.search`."""
        return await self._database.call(search, plan)

    async def stream(self, query: str, **parameters: Any) -> AsyncGenerator[list[Row], None]:
        """See `StoreReader.stream`."""
        cursor = await self._database.call(_execute, SQL[query], parameters)
        try:
            while rows := await self._database.call(_fetch_many, cursor):
                yield rows
        finally:
            await finish(self._close_cursor(cursor))

    async def _close_cursor(self, cursor: sqlite3.Cursor) -> None:
        if not self._closed:  # a generator that nobody exhausted may end after its reader
            await self._database.call(_close, cursor)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["SqliteReader"]:
        """See `StoreReader.snapshot`."""
        reader = await _open(self._location, frozen=True)
        try:
            yield reader
        finally:
            await reader.close()


def add_functions(connection: sqlite3.Connection) -> None:
    """Functions that the SQL files use and that old versions of SQLite lack."""
    connection.create_function("from_hex", 1, bytes.fromhex, deterministic=True)
    connection.create_function("last_update", 3, _last_update, deterministic=True)


def _last_update(created: int | None, *orders: bytes | None) -> int | None:
    """When the last of some changes came, in milliseconds since the epoch."""
    times = [origin_of(order)[0] // 1_000_000 for order in orders if order is not None]
    return max(times if created is None else [created, *times], default=None)


def read_store_id(connection: sqlite3.Connection) -> str:
    """The store's id."""
    return str(dict(connection.execute(SQL["all_meta"]))["store_id"])


def _execute(connection: sqlite3.Connection, sql: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
    return connection.execute(sql, parameters)


def _fetch(connection: sqlite3.Connection, sql: str, parameters: dict[str, Any]) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


def _fetch_many(_connection: sqlite3.Connection, cursor: sqlite3.Cursor) -> list[Row]:
    return cursor.fetchmany(_ROWS_AT_ONCE)


def _close(_connection: sqlite3.Connection, cursor: sqlite3.Cursor) -> None:
    cursor.close()
