"""The cache of tables that DuckDB reads: it grows with its parts, may be lost at any time, and can be told to stop."""

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyarrow import parquet

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError
from runstream_sink import query
from runstream_sink.query.sql import run_sql
from runstream_sink.query.table_pages import cache_directory, table_page
from runstream_sink.store import SqliteReader
from runstream_sink.tables import cache, duck
from runstream_sink.tables.cache import ROW_BITS, Segment, SegmentCache
from runstream_sink.tables.cells import header_line
from runstream_sink.tables.parts import Part
from runstream_sink.tables.types import ColumnType
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


@pytest.mark.slow
async def test_a_part_that_grew_is_converted_from_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small segments are joined, so that there are few, and none is left that is not needed."""
    monkeypatch.setattr(cache, "_GRACE", -1)
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        for number in range(40):
            rows = [[row, "x" * 50] for row in range(number * 100, number * 100 + 100)]
            await ingest(store, [batch(P, [ev.RowsLogged(RUN, "t", ["n", "s"], rows)], number)])
            page = await _page(reader, filter=f"n >= {number * 100 + 98}")
            assert [row["n"] for row in page.rows] == [number * 100 + 98, number * 100 + 99]
            assert len(_segments(reader)) <= 8
    ends = sorted((int(name.split("-")[0]), int(name.split("-")[1])) for name in _segments(reader))
    assert all(before[1] == after[0] for before, after in pairwise(ends))


@pytest.mark.parametrize("damage", ["cut", "garbage", "other rows", "fewer rows", "gone"])
async def test_a_damaged_cache_is_made_anew(reader: SqliteReader, damage: str) -> None:
    """It may be deleted or broken at any time."""
    assert len((await _page(reader)).rows) == 6
    for path in cache_directory(reader).rglob("*.parquet"):
        if damage == "gone":
            path.unlink()
        elif damage == "other rows":
            start, end, *_ = path.stem.split("-")
            path.rename(path.with_name(f"{start}-{end}-0-99.parquet"))
        elif damage == "fewer rows":
            parquet.write_table(parquet.read_table(path).slice(1), path)
        else:
            path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"garbage")
    assert len((await _page(reader)).rows) == 6
    assert len((await _page(reader, filter="n > 0")).rows) == 4


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


class _Grown:
    """A part of a table, and the processes that cache it: each has a `SegmentCache` of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.directory = tmp_path / "cache"

    def part(self, rows: int, first: int = 0, columns: tuple[str, ...] = ("n",)) -> Part:
        """The part once it has so many rows, which count from ``first``."""
        header = f"{header_line(columns)}\n"
        cells = "".join(f"{1000 + first + row}{',' * len(columns)},event\n" for row in range(rows))
        with (self.root / "t.csv").open("w") as file:
            file.write(header + cells)
        return Part(1, "t.csv", columns, (ColumnType.INT,) * len(columns), len(header + cells), rows)

    def segments(self, part: Part, cached: SegmentCache | None = None) -> list[Segment]:
        """What a process is given to read."""
        return (cached or SegmentCache(self.directory)).segments(self.root, part, lambda: None)

    def make(self, part: Part, start: int, rows: int) -> None:
        """What another process does meanwhile: a segment of ``rows`` rows from row ``start`` on."""
        (folder,) = self.folders()
        at, end = (part.length - (part.rows - row) * len("1000,,event\n") for row in (start, start + rows))
        within = Part(1, part.file, part.columns, part.types, end, start + rows)
        cache._convert(self.root / part.file, folder, within, (at, start), lambda: None)

    def folders(self) -> list[Path]:
        """Of parts."""
        return list(self.directory.iterdir())

    def names(self) -> list[str]:
        """Of all segments: the rows that they hold."""
        stems = [path.stem.split("-") for path in self.directory.rglob("*.parquet")]
        return sorted(f"{row}+{rows}" for _, _, row, rows in stems)

    def age(self, seconds: int) -> None:
        """Let all files be so much older."""
        for path in self.directory.rglob("*.*"):
            written = path.stat().st_mtime_ns - seconds * 1_000_000_000
            os.utime(path, ns=(written, written))


def _values(segments: list[Segment]) -> list[int]:
    """The rows that segments hold; their ids say the same."""
    tables = [parquet.read_table(segment.path) for segment in segments]
    ids = [number - (1 << ROW_BITS) for table in tables for number in table["id"].to_pylist()]
    assert ids == list(range(len(ids)))
    return [int(text) - 1000 for table in tables for text in table["c0"].to_pylist()]


@pytest.fixture
def grown(tmp_path: Path) -> _Grown:
    """A part, and its cache."""
    return _Grown(tmp_path)


def test_a_reader_opens_what_it_chose_although_larger_segments_came_meanwhile(grown: _Grown) -> None:
    """However often the table grows between its look at the folder and its reading."""
    chosen = grown.segments(grown.part(100))
    for rows in (150, 200, 250, 300, 400):
        assert _values(grown.segments(grown.part(rows))) == list(range(rows))
    assert _values(chosen) == list(range(100))


@pytest.mark.parametrize("grows", [True, False])
def test_what_was_replaced_minutes_ago_is_removed_by_whoever_comes(grown: _Grown, *, grows: bool) -> None:
    """Counted from its replacement, not from when it was made; also after the death of the process that replaced it."""
    grown.segments(grown.part(100))
    grown.age(3600)
    grown.segments(grown.part(200))
    assert grown.names() == ["0+100", "0+200"]
    grown.age(299)
    grown.segments(grown.part(200))
    assert grown.names() == ["0+100", "0+200"]
    grown.age(2)
    grown.segments(grown.part(210 if grows else 200))
    assert grown.names() == (["0+200", "200+10"] if grows else ["0+200"])


def test_what_was_replaced_goes_also_where_the_clock_was_set_back(grown: _Grown) -> None:
    """Its time counts anew, instead of until the clock is there again."""
    grown.segments(grown.part(100))
    grown.segments(grown.part(200))
    grown.age(-365 * 86_400)
    grown.segments(grown.part(200))
    assert grown.names() == ["0+100", "0+200"]
    grown.age(301)
    grown.segments(grown.part(200))
    assert grown.names() == ["0+200"]


def test_the_room_of_replaced_segments_is_bounded_while_a_table_grows(grown: _Grown) -> None:
    """They are those of the last minute or two, not all that ever were."""
    for rows in range(10, 2_000, 10):
        grown.segments(grown.part(rows))
        grown.age(100)
    assert len(grown.names()) <= 16


def test_what_was_replaced_goes_also_from_parts_that_nobody_uses_any_more(grown: _Grown) -> None:
    """Whoever extends another part removes it; it counts as used when it was used."""
    grown.segments(grown.part(100))
    grown.segments(grown.part(200))
    (unused,) = grown.folders()
    grown.age(301)
    os.utime(unused, (1, 1))
    grown.segments(msgspec.structs.replace(grown.part(50), file="./t.csv"))
    assert grown.names() == ["0+200", "0+50"]
    assert unused.stat().st_mtime == 1


def test_files_of_a_process_that_died_are_removed(grown: _Grown) -> None:
    """Not those of one that still writes."""
    grown.segments(grown.part(100))
    (folder,) = grown.folders()
    (dead, living) = (folder / ".dead.new", folder / ".living.new")
    dead.write_bytes(b"half")
    grown.age(3601)
    living.write_bytes(b"half")
    grown.segments(grown.part(200))
    assert not dead.exists()
    assert living.exists()


@pytest.mark.parametrize(("start", "rows"), [(0, 250), (100, 150), (0, 300), (0, 120), (50, 250)])
def test_two_processes_extend_a_part_at_once(
    grown: _Grown, monkeypatch: pytest.MonkeyPatch, start: int, rows: int
) -> None:
    """Whatever the other one makes of an older or the same state: each row comes once, and all that is chosen stays."""
    grown.segments(grown.part(40))
    grown.segments(grown.part(100))
    part = grown.part(300)
    convert = cache._convert

    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        grown.make(part, start, rows)
        convert(*arguments)
        grown.make(part, start, rows)

    monkeypatch.setattr(cache, "_convert", interrupted)
    chosen = grown.segments(part)
    assert _values(chosen) == list(range(300))
    older = grown.segments(grown.part(100))
    grown.age(301)
    assert _values(grown.segments(grown.part(310))) == list(range(310))
    assert _values(chosen) == list(range(300))
    assert set(older) <= set(chosen)


def test_readers_who_find_the_same_damage_leave_each_other_what_they_made(grown: _Grown) -> None:
    """The second one removes nothing that the first one has made in place of the damage and of what that replaced."""
    grown.segments(grown.part(50))
    part = grown.part(100)
    (segment,) = grown.segments(part)
    segment.path.write_bytes(b"garbage")
    first, second = SegmentCache(grown.directory), SegmentCache(grown.directory)
    assert grown.segments(part, first) == grown.segments(part, second)
    first.drop([part])
    assert grown.folders() == []
    made = grown.segments(part, first)
    second.drop([part])
    assert _values(made) == list(range(100))


def test_a_part_of_an_older_state_is_read_from_what_is_there(grown: _Grown) -> None:
    """As the table has it in a copy that was put back; what came later lies behind."""
    grown.segments(grown.part(200))
    assert _values(grown.segments(grown.part(120)))[:120] == list(range(120))
    assert grown.names() == ["0+200"]


@pytest.mark.parametrize(
    ("rows", "columns"), [(64, "n"), (99, "n"), (210, "n"), (99, "nm"), (210, "nm"), (210, ["n", "another"])]
)
def test_a_part_that_was_reset_is_read_as_it_is(grown: _Grown, rows: int, columns: list[str]) -> None:
    """What was cached of it before fits no more, by its bytes and rows, and is removed."""
    grown.segments(grown.part(80))
    part = grown.part(rows, 5_000_000, tuple(columns))
    assert _values(grown.segments(part)) == list(range(5_000_000, 5_000_000 + rows))
    grown.age(301)
    grown.segments(part)
    assert grown.names() == [f"0+{rows}"]


def test_a_folder_that_is_removed_while_a_segment_is_made_is_made_again(
    grown: _Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where others make room."""

    def removing(*arguments: Any) -> int:
        monkeypatch.undo()
        shutil.rmtree(grown.directory)
        return cache._write(*arguments)

    monkeypatch.setattr(cache, "_write", removing)
    assert _values(grown.segments(grown.part(10))) == list(range(10))
