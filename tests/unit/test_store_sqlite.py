"""What is SQLite's own in the SQLite store: files, locks, errors, limits of its caches."""

import asyncio
import math
import os
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError, StoreInUseError
from runstream_sink import query
from runstream_sink.cancellation import finish
from runstream_sink.changes import Changes
from runstream_sink.location import StoreLocation
from runstream_sink.store import Commit, SqliteStore, open_reader, table_rows, writing
from runstream_sink.store.connection import Database
from support.stores import batch, digest_of, ingest, opened, reading, run_id

P = b"p" * 16
RUN = run_id(1)
OPEN = """
import asyncio, sys
from runstream_sink.location import StoreLocation
from runstream_sink.store import SqliteStore

async def main():
    store = SqliteStore(StoreLocation.parse(sys.argv[1]))
    try:
        await store.open()
    except Exception as error:
        print(type(error).__name__, flush=True)
        return
    print("open", flush=True)
    sys.stdin.read()
    await store.close()

asyncio.run(main())
"""


async def test_the_database_is_synced_at_each_commit_and_readable_meanwhile(tmp_path: Path) -> None:
    """Write-ahead log, synchronous FULL, no foreign keys."""
    async with opened(tmp_path) as store:
        database = store._open_database()
        settings = [
            await database.call(lambda connection, name=name: connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert settings == ["wal", 2, 0, 60_000]


async def test_a_store_in_a_file_of_any_name_works(tmp_path: Path) -> None:
    """Characters that mean something in a URI included."""
    location = StoreLocation.parse(f"sqlite:///{tmp_path}/odd ?#%20 ü.db")
    store = SqliteStore(location)
    await store.open()
    await ingest(store, [batch(P, [ev.ParamsLogged(RUN, {"a": "1"})])])
    await store.close()
    assert (tmp_path / "odd ?#%20 ü.db").is_file()
    reader = await open_reader(location)
    assert (await query.get_run(reader, RUN)).params == {"a": "1"}
    await reader.close()


async def test_of_processes_that_start_at_once_on_a_new_store_one_wins(tmp_path: Path) -> None:
    """The others are refused with the reason, never with a locked database; killing the winner frees the store."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OPEN, str(tmp_path / "store")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    answers = [(await process.stdout.readline()).decode().strip() for process in processes]  # type: ignore[union-attr]
    assert sorted(answers) == ["StoreInUseError", "StoreInUseError", "open"]
    winner = processes[answers.index("open")]
    store = SqliteStore(StoreLocation.parse(str(tmp_path / "store")))
    with pytest.raises(StoreInUseError, match=f"process {winner.pid},"):
        await store.open()
    winner.kill()
    for process in processes:
        await process.communicate()
    await store.open()
    await store.close()


async def test_what_a_crash_left_of_a_store_in_the_making_is_swept_away(tmp_path: Path) -> None:
    """A store is renamed into place when it is whole."""
    for name in ("runstream.db.new", "runstream.db.new-wal"):
        (tmp_path / name).write_bytes(b"half a store")
    async with opened(tmp_path):
        assert _names(tmp_path) >= {"runstream.db", "lock"}
    assert _names(tmp_path) == {"runstream.db", "lock"}


async def test_readers_and_a_sink_that_opens_and_closes_never_lock_each_other_out(tmp_path: Path) -> None:
    """Every read answers, however the times fall."""
    async with opened(tmp_path):
        pass
    done = asyncio.Event()

    async def read() -> int:
        reads = 0
        while not done.is_set():
            async with reading(tmp_path) as reader:
                await query.counts(reader)
                reads += 1
        return reads

    readers = [asyncio.create_task(read()) for _ in range(2)]
    for seq in range(25):
        async with opened(tmp_path) as store:
            await ingest(store, [batch(P, [ev.MetricLogged(RUN, "m", 1.0, seq, 0)] * 20, 20 * seq)])
    done.set()
    assert all(await asyncio.gather(*readers))


async def test_reading_a_store_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    """And makes none."""
    with pytest.raises(EnvironmentUnavailableError, match=r"there is no store at .*start `runstream sink`"):
        await open_reader(StoreLocation.parse(str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", [b"x" * 5000, None])
async def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes | None) -> None:
    """Be it no database or somebody else's."""
    file = tmp_path / "runstream.db"
    if content is None:
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE precious (x)")
        connection.close()
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    location = StoreLocation.parse(str(tmp_path))
    for attempt in (SqliteStore(location).open, lambda: open_reader(location)):
        with pytest.raises(CorruptDataError, match="database"):
            await attempt()
    assert file.read_bytes() == before
    store = SqliteStore(location)
    with pytest.raises(CorruptDataError):
        await store.open()


async def test_a_store_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """A file stands where its directory should, or something stands in the way of the database."""
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnavailableError, match="cannot be made"):
        await SqliteStore(StoreLocation.parse(str(tmp_path / "file" / "store"))).open()
    (tmp_path / "store" / "runstream.db.new").mkdir(parents=True)
    location = StoreLocation.parse(str(tmp_path / "store"))
    with pytest.raises(EnvironmentUnavailableError, match="cannot be made"):
        await SqliteStore(location).open()
    (tmp_path / "store" / "runstream.db.new").rmdir()
    async with opened(tmp_path / "store"):
        pass


async def test_a_full_disk_fails_the_commit_and_nothing_else(tmp_path: Path) -> None:
    """The store says so, rolls back, and goes on when there is room again."""
    points = [ev.MetricLogged(RUN, "m", 1.0, step, 0) for step in range(20_000)]

    def limit(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    async with opened(tmp_path) as store:
        await store._open_database().call(limit, 60)
        with pytest.raises(EnvironmentUnavailableError, match="full"):
            await ingest(store, [batch(P, points)])
        async with reading(tmp_path) as reader:
            assert (await query.counts(reader)).runs == 0
        await store._open_database().call(limit, 1 << 30)
        await ingest(store, [batch(P, points)])
        async with reading(tmp_path) as reader:
            assert (await query.counts(reader)).events == 20_000


async def test_caches_that_hold_nothing_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that forgets every id, interval and table at once has the digest of one that remembers them."""
    groups = [
        [
            ev.RunStarted(run_id(number % 3), "7", number),
            ev.MetricLogged(run_id(number % 3), f"m{number % 2}", 1.0, number, 0),
            ev.RowsLogged(run_id(number % 3), "t", ["x", f"y{number % 4}"], [[number, "text"]]),
        ]
        for number in range(12)
    ]

    async def run(directory: Path) -> str:
        async with opened(directory) as store:
            for number, group in enumerate(groups):
                await ingest(store, [batch(P, group, 3 * number), batch(bytes([number]) * 16, group, 9)])
        return await digest_of(directory)

    remembering = await run(tmp_path / "remembering")
    for name in ("_RUNS_CACHED", "_KEYS_CACHED", "_PRODUCERS_CACHED", "_INTERVALS_CACHED"):
        monkeypatch.setattr(writing, name, 0)
    monkeypatch.setattr(table_rows, "_COLUMNS_CACHED", 0)
    assert await run(tmp_path / "forgetting") == remembering


async def test_odd_doubles_come_back_bit_for_bit(tmp_path: Path) -> None:
    """SQLite itself has no NaN and no negative zero."""
    payload = struct.unpack(">d", bytes.fromhex("fff8dead00000001"))[0]
    values = [math.nan, payload, -0.0, 0.0, math.inf, -math.inf, 5e-324, 2.0**60, 0.1]
    changes = Changes(
        seen={P: [(0, len(values) - 1)]},
        run_ids={RUN},
        metrics={(RUN, "m"): [(step, 0, value, P, step, 0) for step, value in enumerate(values)]},
    )
    async with opened(tmp_path) as store:
        await store.commit(Commit(changes))
        async with reading(tmp_path) as reader:
            points = await query.metric_history(reader, RUN, "m")
    assert [struct.pack(">d", point.value) for point in points] == [struct.pack(">d", value) for value in values]


async def test_a_reader_that_stops_in_the_middle_of_many_rows_leaves_nothing_open(tmp_path: Path) -> None:
    """A generator that is dropped, and one that outlives its reader."""
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, [ev.MetricLogged(RUN, "m", 1.0, step, 0) for step in range(9000)])])
        async with reading(tmp_path) as reader:
            rows = reader.stream("logical_metrics")
            assert len(await anext(rows)) == 4096
            await rows.aclose()
            late = reader.stream("logical_metrics")
            await anext(late)
        await late.aclose()


async def test_a_reader_never_writes(tmp_path: Path) -> None:
    """Whatever it is asked."""
    async with opened(tmp_path), reading(tmp_path) as reader:
        with pytest.raises(EnvironmentUnavailableError, match="readonly"):
            await reader._database.call(lambda connection: connection.execute("DELETE FROM runs"))


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def _open_files(directory: Path) -> list[str]:
    paths = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    return [path for path in paths if path.startswith(str(directory))]


async def test_a_connection_that_fails_while_it_is_set_up_is_closed(tmp_path: Path) -> None:
    """Nothing holds the file any more; the lock is free."""
    (tmp_path / "runstream.db").write_bytes(b"x" * 5000)
    with pytest.raises(CorruptDataError):
        await SqliteStore(StoreLocation.parse(str(tmp_path))).open()
    assert not _open_files(tmp_path)


async def test_finish_returns_and_raises_what_the_work_does() -> None:
    """Without a cancellation it is an await."""

    async def work(result: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(result, Exception):
            raise result
        return result

    assert await finish(work(5)) == 5
    with pytest.raises(ValueError, match="no"):
        await finish(work(ValueError("no")))


def test_the_connection_relies_on_one_private_method_of_aiosqlite() -> None:
    """The seam: if aiosqlite renames it, this says so before anything else does."""
    assert callable(Database._execute)
