"""Schema versions: older stores migrate, newer ones are refused, half a migration is none."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import EnvironmentUnavailableError, StoreVersionError
from runstream_sink.location import StoreLocation
from runstream_sink.store import SqliteStore, migrate, open_reader
from support.stores import batch, digest_of, ingest, opened, reading, run_id

GOLDEN = Path(__file__).parent.parent / "golden"
DIGEST = "d6d59af26f625d4a5e417ba6d955f545af6beb99b10b14263b2f9dfe2f4d79a1"
"""Of the events in every golden store; it never changes."""


def _schema(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        found = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    return sorted(re.sub(r'[\s"]+', " ", sql) for sql in found)


def _golden(version: int, directory: Path) -> Path:
    """A store as that version left it."""
    shutil.copytree(GOLDEN / f"store_v{version:04d}", directory)
    with closing(sqlite3.connect(directory / "runstream.db", isolation_level=None)) as connection:
        connection.executescript((directory / "runstream.sql").read_text("utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")
    return directory


def _add_version(monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """As if the next release had one more migration."""
    monkeypatch.setattr(migrate, "MIGRATIONS", {**migrate.MIGRATIONS, migrate.LATEST + 1: sql})
    monkeypatch.setattr(migrate, "LATEST", migrate.LATEST + 1)


def test_migrations_are_numbered_without_gaps() -> None:
    """Each leads from the one before."""
    assert list(migrate.MIGRATIONS) == list(range(1, migrate.LATEST + 1))


@pytest.mark.parametrize("version", sorted(migrate.MIGRATIONS))
async def test_a_store_of_every_version_opens_with_all_it_held(tmp_path: Path, version: int) -> None:
    """The digest is that of the events; the schema is that of a new store; new events are taken."""
    directory = _golden(version, tmp_path / "old")
    async with opened(directory) as store:
        assert store.store_id == "5" * 32
        assert await store.positions("queue") == {"a": "1", "b": "2"}
        assert await digest_of(directory) == DIGEST
        async with opened(tmp_path / "new"):
            assert _schema(directory / "runstream.db") == _schema(tmp_path / "new" / "runstream.db")
        await ingest(store, [batch(b"p" * 16, [ev.RowsLogged(run_id(1), "predictions", ["new"], [[1]])], 23)])


async def test_an_older_store_is_migrated_by_the_sink_and_refused_by_readers_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader does not write."""
    directory = _golden(1, tmp_path / "old")
    _add_version(monkeypatch, "ALTER TABLE runs ADD COLUMN note TEXT;")
    with pytest.raises(StoreVersionError, match="start `runstream sink` on it once"):
        await open_reader(StoreLocation.parse(str(directory)))
    async with opened(directory), reading(directory) as reader:
        assert await reader.fetch("all_meta") == [("store_id", "5" * 32)]
    with closing(sqlite3.connect(directory / "runstream.db")) as connection:
        assert connection.execute("SELECT DISTINCT note FROM runs").fetchall() == [(None,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (migrate.LATEST,)


async def test_a_new_store_has_gone_through_all_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other way to a schema."""
    _add_version(monkeypatch, "CREATE TABLE more (x);")
    async with opened(tmp_path):
        assert "CREATE TABLE more (x)" in _schema(tmp_path / "runstream.db")


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version opens it again."""
    directory = _golden(1, tmp_path / "old")
    before = _schema(directory / "runstream.db")
    with monkeypatch.context() as patched:
        _add_version(patched, "CREATE TABLE half (x); DROP TABLE no_such_table;")
        with pytest.raises(EnvironmentUnavailableError, match="no_such_table"):
            await SqliteStore(StoreLocation.parse(str(directory))).open()
    assert _schema(directory / "runstream.db") == before
    async with opened(directory):
        assert await digest_of(directory) == DIGEST


async def test_a_store_that_cannot_be_made_whole_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt begins anew."""
    with monkeypatch.context() as patched:
        _add_version(patched, "DROP TABLE no_such_table;")
        with pytest.raises(EnvironmentUnavailableError, match="no_such_table"):
            await SqliteStore(StoreLocation.parse(str(tmp_path))).open()
    assert not (tmp_path / "runstream.db").exists()
    async with opened(tmp_path):
        pass


async def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    """By sink and readers, with the advice to upgrade."""
    async with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "runstream.db")) as connection:
        connection.execute(f"PRAGMA user_version = {migrate.LATEST + 1}")
    location = StoreLocation.parse(str(tmp_path))
    for attempt in (SqliteStore(location).open, lambda: open_reader(location)):
        with pytest.raises(StoreVersionError, match="upgrade"):
            await attempt()
