"""The store in one SQLite file: write-ahead log, synced at each commit.  See `protocol` for what it guarantees."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Final

from runstream_schemas.directories import make_durable
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_sink.cancellation import finish
from runstream_sink.changes import Order
from runstream_sink.intervals import IntervalSet
from runstream_sink.location import StoreLocation
from runstream_sink.store import migrate
from runstream_sink.store.connection import Database, connect
from runstream_sink.store.ids import wanted
from runstream_sink.store.lock import StoreLock
from runstream_sink.store.protocol import Commit
from runstream_sink.store.reading import SqliteReader, add_functions, open_reader, read_store_id
from runstream_sink.store.statements import SQL
from runstream_sink.store.writing import Writer
from runstream_sink.tables.parts import TableState

__all__ = ["SqliteReader", "SqliteStore", "open_reader"]

_CACHE_KIB: Final = 24 << 10
"""Measured: a million runs of requests are written as fast as with 64 MiB; the kernel caches the file, too."""
_LOG_PAGES: Final = 8000
"""Pages of 4 KiB in the write-ahead log after which SQLite copies them into the database."""
_LOG_KEPT: Final = 64 << 20
"""Bytes to which the log's file is cut after that."""


class SqliteStore:
    """A `Store` in one SQLite file.

    Every method runs as one function in the connection's thread, so transactions and caches are never used by two at
    once.  ``clock`` gives the arrival time of dead letters, milliseconds since the epoch.
    """

    def __init__(self, location: StoreLocation, *, clock: Callable[[], int] | None = None) -> None:
        self._location = location
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._lock = StoreLock(location.lock, location.text)
        self._database: Database | None = None
        self._writer = Writer()
        self._store_id = ""

    @property
    def store_id(self) -> str:
        """See `Store.store_id`; empty before the store was opened."""
        return self._store_id

    @property
    def location(self) -> StoreLocation:
        """Where the store lies."""
        return self._location

    async def open(self) -> None:
        """See `Store.open`."""
        await asyncio.to_thread(self._prepare)
        try:
            database = await connect(self._location.database, self._location.text, self._set_up, mode="rw")
        except BaseException:
            self._lock.release()
            raise
        self._database = database
        self._writer = Writer()
        self._store_id = await database.call(read_store_id)

    async def close(self) -> None:
        """See `Store.close`."""
        database, self._database = self._database, None
        if database is not None:
            try:
                await finish(database.close())
            finally:
                self._lock.release()

    async def positions(self, stream: str) -> dict[str, str]:
        """See `Store.positions`."""
        return await self._open_database().call(_positions, stream)

    async def seen(self, producer_ids: Iterable[bytes]) -> dict[bytes, IntervalSet]:
        """See `Store.seen`."""
        return await self._open_database().call(self._writer.seen, list(producer_ids))

    async def artifact_orders(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Order]:
        """See `Store.artifact_orders`."""
        return await self._open_database().call(_artifact_orders, list(keys))

    async def files(self, run_ids: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
        """See `Store.files`."""
        return await self._open_database().call(_files, list(run_ids))

    async def tables(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], TableState]:
        """See `Store.tables`."""
        return await self._open_database().call(self._writer.tables, list(keys))

    async def committed_length(self, file: str) -> int | None:
        """See `Store.committed_length`."""
        return await self._open_database().call(_committed_length, file)

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        await finish(self._open_database().call(self._writer.commit, commit, self._clock()))

    def _prepare(self) -> None:
        """Take the lock and see to it that there is a store."""
        try:
            make_durable(self._location.database.parent)
        except OSError as error:
            raise EnvironmentUnavailableError(f"the store {self._location.text} cannot be made: {error}") from error
        self._lock.acquire()
        try:
            if not self._location.database.exists():
                migrate.create(self._location.database)
        except (OSError, sqlite3.Error) as error:
            self._lock.release()
            raise EnvironmentUnavailableError(f"the store {self._location.text} cannot be made: {error}") from error

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
        add_functions(connection)
        migrate.migrate(connection, self._location.text)
        connection.execute("PRAGMA journal_mode = WAL")

    def _open_database(self) -> Database:
        if self._database is None:
            raise EnvironmentUnavailableError(f"the store {self._location.text} is not open")
        return self._database


def _positions(connection: sqlite3.Connection, stream: str) -> dict[str, str]:
    return dict(connection.execute(SQL["find_positions"], (stream,)))


def _artifact_orders(connection: sqlite3.Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Order]:
    rows = connection.execute(SQL["find_artifact_orders"], (wanted(keys),))
    return {(run_id, path): order for run_id, path, order in rows}


def _files(
    connection: sqlite3.Connection, run_ids: list[str]
) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    parts: dict[str, list[str]] = {}
    for run_id, file in connection.execute(SQL["find_part_files"], (wanted(run_ids),)):
        parts.setdefault(run_id, []).append(file.removeprefix(f"{run_id}/"))
    artifacts: dict[str, dict[str, str]] = {}
    for run_id, path, file in connection.execute(SQL["find_artifact_files"], (wanted(run_ids),)):
        artifacts.setdefault(run_id, {})[path] = file
    return parts, artifacts


def _committed_length(connection: sqlite3.Connection, file: str) -> int | None:
    row = connection.execute(SQL["find_part_length"], (file,)).fetchone()
    return row[0] if row else None
