"""Tables, dead letters, losses and positions as the query layer shows them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError
from runstream_sink import query
from runstream_sink.query import tables as tables_module
from runstream_sink.store import Commit, SqliteReader
from runstream_sink.tables.types import ColumnType
from support.stores import batch, ingest, opened, reading, run_id

P = b"p" * 16
RUN = run_id(1)
EVENTS = [
    ev.RowsLogged(RUN, "dir/t", ["x", "y"], [[1, "a"], [None, ""]]),
    ev.RowsLogged(RUN, "dir/t", ["x", "z"], [[0.5, {"k": [1]}]]),
    ev.RowsLogged(RUN, "a", ["n"], [[number] for number in range(50)]),
    b"\xc1",
    ev.RunEnded("no id", "FINISHED", 1),
    ev.LossNotice(P.hex(), 2, "quota", 3),
    ev.LossNotice(P.hex(), 2, "disk", 4),
]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteReader]:
    """A reader of a store with two tables."""
    async with opened(tmp_path, clock=lambda: 99) as store:
        for seq, event in enumerate(EVENTS):
            await ingest(store, [batch(P, [event], seq)], part_limit=1000)
        await store.commit(Commit(stream="s", positions={"b": (None, "2"), "a": (None, "1")}))
    async with reading(tmp_path) as reader:
        yield reader


async def test_the_tables_of_a_run_are_listed_by_name(reader: SqliteReader) -> None:
    """With their columns, types, rows and parts."""
    first, second = await query.list_tables(reader, RUN)
    assert (first.name, first.rows, first.columns) == ("a", 50, {"n": ColumnType.INT})
    assert (second.name, second.rows, len(second.parts)) == ("dir/t", 3, 2)
    assert second.columns == {"x": ColumnType.FLOAT, "y": ColumnType.TEXT, "z": ColumnType.JSON}
    assert await query.list_tables(reader, run_id(9)) == []


@pytest.mark.parametrize("name", ["dir/t", "dir/t.csv", "dir/t.json"])
async def test_a_table_is_loaded_with_typed_values_by_any_of_its_names(reader: SqliteReader, name: str) -> None:
    """A column that a row does not have is None."""
    rows = await query.load_table(reader, RUN, name)
    assert rows == [
        {"x": 1.0, "y": "a", "z": None},
        {"x": None, "y": "", "z": None},
        {"x": 0.5, "y": None, "z": {"k": [1]}},
    ]


async def test_rows_tell_where_they_come_from_if_asked(reader: SqliteReader) -> None:
    """When they were logged, and by which event."""
    *_, row = await query.load_table(reader, RUN, "dir/t", provenance=True)
    assert (row["_logged_at"], row["_event"]) == ("1970-01-01T00:00:00.000001Z", f"{P.hex()}:1:0")


async def test_a_window_of_a_table_is_loaded_piece_by_piece(
    reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded by the pieces."""
    monkeypatch.setattr(tables_module, "_ROWS_AT_ONCE", 4)
    table = await query.get_table(reader, RUN, "a")
    pieces = [len(rows) async for rows in query.iter_table(reader, table, start=5, limit=10)]
    assert pieces == [4, 4, 2]
    assert [row["n"] for row in await query.load_table(reader, RUN, "a", start=5, limit=10)] == list(range(5, 15))


async def test_a_table_that_is_not_there_is_not_found(reader: SqliteReader) -> None:
    """Be it the run or the table that is wrong."""
    for run, name in ((RUN, "none.csv"), (run_id(9), "a")):
        with pytest.raises(query.NotFoundError, match="has no table"):
            await query.load_table(reader, run, name)


async def test_a_damaged_part_is_an_error(reader: SqliteReader) -> None:
    """Never a shorter table; tables may lie elsewhere."""
    with pytest.raises(CorruptDataError, match="missing"):
        await query.load_table(reader, RUN, "a", artifacts=reader.location.artifacts / "none")


async def test_dead_letters_are_listed_and_shown_with_their_bytes(reader: SqliteReader) -> None:
    """By id, by reason, page by page."""
    first, second = await query.list_dead_letters(reader)
    assert (first.producer_id, first.seq, first.reason, first.size, first.at) == (P.hex(), 3, "undecodable", 1, 99)
    assert (first.raw, first.retried) == (b"", None)
    assert (await query.get_dead_letter(reader, first.id)).raw == b"\xc1"
    assert await query.list_dead_letters(reader, after=first.id) == [second]
    assert await query.list_dead_letters(reader, limit=1) == [first]
    assert await query.list_dead_letters(reader, reason="invalid") == [second]
    assert await query.count_dead_letters(reader) == {"undecodable": 1, "invalid": 1}
    with pytest.raises(query.NotFoundError, match="no dead letter 77"):
        await query.get_dead_letter(reader, 77)


async def test_a_store_tells_its_losses_positions_and_counts(reader: SqliteReader) -> None:
    """What `runstream status` shows."""
    assert await query.list_losses(reader) == [query.Loss(P.hex(), 2, "disk", 4), query.Loss(P.hex(), 2, "quota", 3)]
    assert await query.list_positions(reader) == [query.Position("s", "a", "1"), query.Position("s", "b", "2")]
    assert await query.counts(reader) == query.Counts(1, 1, 1, len(EVENTS), 2, 7)
