"""Schema versions: numbered SQL files in ``migrations/``, each of which leads from the version before to its own.

The version stands in SQLite's ``user_version``.  All files that a store needs run in one transaction.  A new store is
made under a temporary name and renamed, so that nobody ever opens half of one.
"""

import secrets
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Final

from runstream_schemas.directories import sync_directory
from runstream_schemas.errors import CorruptDataError, StoreVersionError
from runstream_sink.store import rollup_rows

__all__ = ["LATEST", "MIGRATIONS", "check_version", "create", "migrate", "read_migrations", "version_of"]

APPLICATION_ID: Final = 0x72737472
"""What SQLite's ``application_id`` is in a store."""


def read_migrations() -> dict[int, str]:
    """The SQL that leads to each version, in ascending order."""
    directory = files("runstream_sink.store").joinpath("migrations")
    names = sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".sql"))
    return {int(name.split("_")[0]): directory.joinpath(name).read_text("utf-8") for name in names}


MIGRATIONS: Final = read_migrations()
LATEST: Final = max(MIGRATIONS)
"""The version that this program writes."""
_WITHOUT_ROLLUPS: Final = range(1, 3)
"""Versions of stores that keep no rollups of metrics."""


def version_of(connection: sqlite3.Connection, store: str) -> int:
    """The store's schema version.  Raises `CorruptDataError` if the database is no store."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise CorruptDataError(f"{store} is a database that runstream did not make; name another store")
    return int(version)


def check_version(version: int, store: str) -> None:
    """Raise `StoreVersionError` unless this program can read a store of this version as it is."""
    if version > LATEST:
        raise StoreVersionError(
            f"the store {store} has schema version {version}, and this runstream knows none above {LATEST}: upgrade it"
        )
    if version < LATEST:
        raise StoreVersionError(
            f"the store {store} has schema version {version}, and this runstream reads {LATEST}: "
            "start `runstream sink` on it once, which migrates it"
        )


def create(path: Path) -> None:
    """Make a new store at ``path``, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    for leftover in (temporary, *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm", "-journal"))):
        leftover.unlink(missing_ok=True)
    with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _run(connection, 0, LATEST)
    temporary.rename(path)
    sync_directory(path.parent)


def migrate(connection: sqlite3.Connection, store: str) -> None:
    """Bring a store to the latest version, in one transaction.  Raises `StoreVersionError` if it is a newer one."""
    version = version_of(connection, store)
    if version < LATEST:
        _run(connection, version, LATEST)
    check_version(version_of(connection, store), store)


def _run(connection: sqlite3.Connection, version: int, latest: int) -> None:
    steps = [sql for number, sql in MIGRATIONS.items() if version < number <= latest]
    try:
        connection.executescript("\n".join(["BEGIN IMMEDIATE;", *steps, f"PRAGMA user_version = {latest};"]))
        if version == 0:
            connection.execute("INSERT INTO meta VALUES ('store_id', ?)", (secrets.token_hex(16),))
        if version in _WITHOUT_ROLLUPS:
            rollup_rows.rebuild(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
