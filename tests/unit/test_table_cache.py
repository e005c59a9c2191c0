"""The cache of tables that DuckDB reads: it grows with its parts, may be lost at any time, and can be told to stop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError
from runstream_sink import query
from runstream_sink.query.sql import run_sql
from runstream_sink.query.table_pages import cache_directory, table_page
from runstream_sink.store import SqliteReader
from runstream_sink.tables import cache, duck
from runstream_sink.tables.cache import SegmentCache
from support.stores import batch, ingest, opened, reading, run_id

P = b"p" * 16
RUN = run_id(1)
ROWS: list[list[Any]] = [
    [1, 0.5, True, "12"],
    [None, 7.0, False, ""],
    [2**70, None, None, None],
    [2**53, 1.0, True, "text"],
    [3, -1.5, False, "more"],
    [-5, 3.0, True, "null"],
]


async def _store(directory: Path, *events: Any) -> None:
    async with opened(directory) as store:
        await ingest(store, [batch(P, list(events))])


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteReader]:
    """A reader of a store with a table."""
    await _store(tmp_path, ev.RowsLogged(RUN, "t", ["n", "x", "flag", "text"], ROWS))
    async with reading(tmp_path) as reader:
        yield reader


async def _page(reader: SqliteReader, **options: Any) -> query.TablePage:
    return await table_page(reader, reader.location.artifacts, RUN, "t.csv", **options)


def _segments(reader: SqliteReader) -> list[str]:
    return sorted(path.name for path in cache_directory(reader).rglob("*.parquet"))


async def test_a_part_that_grew_is_converted_from_where_it_ended(tmp_path: Path) -> None:
    """Small segments are joined, so that there are few, and none is left that is not needed."""
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        for number in range(40):
            rows = [[row, "x" * 50] for row in range(number * 100, number * 100 + 100)]
            await ingest(store, [batch(P, [ev.RowsLogged(RUN, "t", ["n", "s"], rows)], number)])
            page = await _page(reader, filter=f"n >= {number * 100 + 98}")
            assert [row["n"] for row in page.rows] == [number * 100 + 98, number * 100 + 99]
            assert len(_segments(reader)) <= 8
    ends = sorted((int(name.split("-")[0]), int(name.split("-")[1])) for name in _segments(reader))
    assert all(before[1] == after[0] for before, after in pairwise(ends))


@pytest.mark.parametrize("damage", ["cut", "garbage", "other rows", "gone"])
async def test_a_damaged_cache_is_made_anew(reader: SqliteReader, damage: str) -> None:
    """It may be deleted or broken at any time."""
    await _page(reader)
    for path in cache_directory(reader).rglob("*.parquet"):
        if damage == "gone":
            path.unlink()
        elif damage == "other rows":
            start, end, *_ = path.stem.split("-")
            path.rename(path.with_name(f"{start}-{end}-0-99.parquet"))
        else:
            path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"garbage")
    assert len((await _page(reader, filter="n > 0")).rows) == 4
    assert len((await _page(reader)).rows) == 6


async def test_a_cache_that_stays_damaged_is_an_error(reader: SqliteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """That says what to remove."""
    await _page(reader)
    for path in cache_directory(reader).rglob("*.parquet"):
        path.write_bytes(b"garbage")
    monkeypatch.setattr(SegmentCache, "drop", lambda *_: None)
    with pytest.raises(CorruptDataError, match="damaged again and again; remove it"):
        await _page(reader)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: data[:-10], "is shorter than committed"),
        (lambda data: b"N" + data[1:], "does not begin with its header"),
        (lambda data: data.replace(b",true,", b"xtrue,"), "Expected"),
        (lambda data: data.replace(b"null", b"nu\nl"), "Expected"),
        (lambda data: data[:-70].replace(b"12", b"\xff\xff") + data[-70:], "UTF8"),
    ],
)
async def test_a_damaged_part_is_an_error_that_names_the_file(reader: SqliteReader, change: Any, match: str) -> None:
    """Never other values."""
    path = reader.location.artifacts / RUN / "t.csv"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorruptDataError, match=match) as caught:
        await _page(reader, filter="n > 0")
    assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(CorruptDataError, match="is missing"):
        await _page(reader)


async def test_a_part_with_other_rows_than_committed_is_an_error(tmp_path: Path) -> None:
    """Two rows that became one have the same length."""
    await _store(tmp_path, ev.RowsLogged(RUN, "t", ["n"], [["a\nb"], ["c"]]))
    async with reading(tmp_path) as reader:
        path = reader.location.artifacts / RUN / "t.csv"
        path.write_bytes(path.read_bytes().replace(b'"a\nb"', b"a\nbbb"))
        with pytest.raises(CorruptDataError, match=r"rows|Expected"):
            await _page(reader)


async def test_a_cell_that_is_no_value_of_its_column_is_an_error(reader: SqliteReader) -> None:
    """As when the table is loaded."""
    path = reader.location.artifacts / RUN / "t.csv"
    path.write_bytes(path.read_bytes().replace(b"-5,3.0", b"-x,3.0"))
    with pytest.raises(CorruptDataError, match="column 'n'"):
        await _page(reader)


async def test_a_row_may_be_larger_than_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is read at once then; rows before it are not lost."""
    monkeypatch.setattr(cache, "_BLOCK", 1000)
    texts = ["x", "y" * 100_000, "z"]
    await _store(tmp_path, ev.RowsLogged(RUN, "t", ["s"], [[text] for text in texts]))
    async with reading(tmp_path) as reader:
        assert [row["s"] for row in (await _page(reader)).rows] == texts


async def test_the_cache_keeps_to_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that were not asked for in the longest time make room; the one that is asked for stays."""
    tables = [ev.RowsLogged(RUN, f"t{number}", ["n"], [[number]]) for number in range(3)]
    await _store(tmp_path, *tables)
    monkeypatch.setattr(SegmentCache.__init__, "__kwdefaults__", {"limit": 3000})
    async with reading(tmp_path) as reader:
        for round_ in range(2):
            for number in range(3):
                page = await table_page(reader, reader.location.artifacts, RUN, f"t{number}")
                assert page.rows == [{"n": number}], round_
                size = sum(path.stat().st_size for path in cache_directory(reader).rglob("*.parquet"))
                assert 0 < size <= 3000


async def test_a_store_that_may_only_be_read_is_read_without_a_lasting_cache(reader: SqliteReader) -> None:
    """In a directory that goes away."""
    in_the_way = cache_directory(reader).parent.parent
    in_the_way.write_text("no directory can be made here")
    assert len((await _page(reader, filter="n > 0")).rows) == 4

    def first(_columns: list[str], rows: Iterator[tuple[Any, ...]]) -> Any:
        return next(rows)

    assert await run_sql(reader, reader.location.artifacts, "SELECT count(*) FROM t", first) == (6,)
    assert in_the_way.is_file()


async def test_sql_makes_a_damaged_cache_anew(reader: SqliteReader) -> None:
    """As pages do."""

    def first(_columns: list[str], rows: Iterator[tuple[Any, ...]]) -> Any:
        return next(rows)

    await _page(reader)
    for path in cache_directory(reader).rglob("*.parquet"):
        path.write_bytes(b"garbage")
    assert await run_sql(reader, reader.location.artifacts, "SELECT sum(n) FROM t WHERE n < 9", first) == (-1,)


async def test_a_query_that_nobody_waits_for_ends(reader: SqliteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it converts, while it waits for another to convert, and while DuckDB works."""
    entered, leave = threading.Event(), threading.Event()
    write = cache._write

    def slow(*arguments: Any) -> int:
        entered.set()
        assert leave.wait(60)
        return write(*arguments)

    monkeypatch.setattr(cache, "_write", slow)
    first = asyncio.ensure_future(_page(reader))
    await asyncio.to_thread(entered.wait, 60)
    second = asyncio.ensure_future(_page(reader))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    first.cancel()
    await asyncio.sleep(0)
    first.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    monkeypatch.undo()
    assert len((await _page(reader)).rows) == 6


async def test_work_in_duckdb_is_interrupted(tmp_path: Path) -> None:
    """However long it would take."""
    running = threading.Event()

    def work(stop: duck.Stop) -> None:
        with duck.connected(stop, spill=tmp_path) as connection:
            running.set()
            connection.execute("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b").fetchall()

    task = asyncio.ensure_future(duck.in_thread(work))
    await asyncio.to_thread(running.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    stop = duck.Stop()
    stop.set()
    with pytest.raises(duck.CancelledWorkError), duck.connected(stop, spill=tmp_path):
        pass


async def test_a_query_that_needs_too_much_memory_is_an_error_that_says_so(tmp_path: Path) -> None:
    """The sink's process lives on."""

    def work(stop: duck.Stop) -> None:
        with duck.connected(stop, spill=tmp_path, memory_limit="20MB", max_temp_directory_size="1MB") as connection:
            connection.execute("SELECT list(range) FROM range(100000000)").fetchall()

    with pytest.raises(EnvironmentUnavailableError, match="memory"):
        await duck.in_thread(work)
