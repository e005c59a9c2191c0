"""Pages of tables: what DuckDB finds in the cache is what the CSV parts say, and nothing that is not committed."""

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_sink import query
from runstream_sink.query.table_filters import Condition
from runstream_sink.query.table_pages import cache_directory, table_page
from runstream_sink.store import SqliteReader
from runstream_sink.tables import cache
from runstream_sink.tables.cache import Segment, SegmentCache
from runstream_sink.tables.types import ColumnType
from support.stores import batch, ingest, opened, reading, run_id

P = b"p" * 16
RUN = run_id(1)
COLUMNS = ["n", "x", "flag", "text", "any", "a b"]
ROWS: list[list[Any]] = [
    [1, 0.5, True, "12", {"k": [1]}, None],
    [None, math.nan, False, "", "12", "one"],
    [2**70, None, None, None, 12, "Two"],
    [2**53 + 1, math.inf, True, 'line\nbreak, "quoted"', "", "three"],
    [2**53, -1.5, False, "ÜBER", None, "THREE"],
    [-5, 3.0, True, "null", "null", "x"],
]


async def _store(directory: Path, *events: Any) -> None:
    async with opened(directory) as store:
        await ingest(store, [batch(P, list(events))])


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteReader]:
    """A reader of a store with a table of all types, in which a column came later."""
    first = ev.RowsLogged(RUN, "t", COLUMNS[:5], [row[:5] for row in ROWS[:1]])
    rest = ev.RowsLogged(RUN, "t", COLUMNS, ROWS[1:])
    await _store(tmp_path, first, rest, ev.RowsLogged(RUN, "empty", ["a"], []))
    async with reading(tmp_path) as reader:
        yield reader


async def _page(reader: SqliteReader, **options: Any) -> query.TablePage:
    return await table_page(reader, reader.location.artifacts, RUN, "t.csv", **options)


async def _found(reader: SqliteReader, filter: Any, **options: Any) -> list[int]:  # noqa: A002
    """The places of the rows that a filter finds."""
    page = await _page(reader, filter=filter, count=True, provenance=True, **options)
    assert page.matched == len(page.rows)
    events = [row["_event"].split(":")[1:] for row in page.rows]
    return [0 if seq == "0" else int(index) + 1 for seq, index in events]


async def test_a_page_has_the_values_that_were_logged(reader: SqliteReader) -> None:
    """None and an empty text, big integers, texts that look like numbers, NaN and nested values."""
    page = await _page(reader)
    loaded = await query.load_table(reader, RUN, "t")
    assert repr(page.rows) == repr(loaded)
    assert repr([list(row.values()) for row in page.rows[1:]]) == repr([[*row[:1], *row[1:]] for row in ROWS[1:]])
    assert page.columns == {
        "n": ColumnType.INT,
        "x": ColumnType.FLOAT,
        "flag": ColumnType.BOOL,
        "text": ColumnType.TEXT,
        "any": ColumnType.JSON,
        "a b": ColumnType.TEXT,
    }
    assert (page.total, page.matched, page.cursor) == (6, None, None)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("n = 1", [0]),
        ("n > 0", [0, 2, 3, 4]),
        ("n = 9007199254740993", [3]),
        ("n >= 9007199254740993", [2, 3]),
        ("n < 9007199254740993", [0, 4, 5]),
        ("n = '1180591620717411303424'", [2]),
        ("n != 1", [2, 3, 4, 5]),
        ("n IN ('1', '-5')", [0, 5]),
        ("n NOT IN ('1', '-5')", [2, 3, 4]),
        ("n IS NULL", [1]),
        ("x IS NOT NULL AND x < 1e3", [0, 4, 5]),
        ("x > 0", [0, 3, 5]),
        ("x != 3", [0, 1, 3, 4]),
        ("x = 'NaN'", [1]),
        ("x != 'nan'", [0, 3, 4, 5]),
        ("x = 'Infinity'", [3]),
        ("flag = 'true'", [0, 3, 5]),
        ("flag = 0", [1, 4]),
        ("text = '12'", [0]),
        ("text = ''", [1]),
        ("text IS NULL", [2]),
        ("text LIKE '%break%'", [3]),
        ("text LIKE '%BREAK%'", []),
        ("text ILIKE '%BREAK%'", [3]),
        ("text > 'l'", [3, 5, 4]),
        ("any = 12", [2]),
        ("any = '12'", [1, 2]),
        ("any = 'null'", [5]),
        ("any LIKE '%k%'", [0]),
        ("`a b` IN ('one', 'Two')", [1, 2]),
        ('"a b" IS NULL', [0]),
        ("n > 0 AND flag = 'true' AND text != '12'", [3]),
        ("_event LIKE '%:1:4'", [5]),
        ("  ", [0, 1, 2, 3, 4, 5]),
    ],
)
async def test_a_filter_finds_the_rows_that_it_says(reader: SqliteReader, text: str, rows: list[int]) -> None:
    """By the type of the column; what a cell looks like decides nothing."""
    assert sorted(await _found(reader, text)) == sorted(rows)


async def test_conditions_are_filters_without_a_text(reader: SqliteReader) -> None:
    """For programs: values are numbers, texts, truth values and lists."""
    assert await _found(reader, [Condition("n", ">", 0), Condition("flag", "=", True)]) == [0, 3]
    assert await _found(reader, [Condition("n", "in", [1, -5])]) == [0, 5]
    assert await _found(reader, [Condition("n", "=", 10**400)]) == []
    assert await _found(reader, [Condition("n", ">", -(10**400))]) == [0, 2, 3, 4, 5]
    assert await _found(reader, [Condition("any", "is  null")]) == [4]
    assert await _found(reader, [Condition("text", "NOT LIKE", "%1%")]) == [1, 3, 4, 5]
    assert await _found(reader, [Condition("text", "NOT ILIKE", "ü%")]) == [0, 1, 3, 5]
    assert await _found(reader, [Condition("text", "contains", "über")]) == [4]


@pytest.mark.parametrize(
    ("conditions", "match"),
    [
        ("nothing = 1", "line 1, column 1: the table has no column 'nothing'; it has n, x"),
        ("n = 1 AND text = 5", "line 1, column 11: column 'text' holds text; write the value in quotes: '5'"),
        ("n = 'one'", "holds numbers"),
        ("n RLIKE 'x'", "no comparator RLIKE"),
        ("n LIKE 5", "LIKE takes a text"),
        ("n IN 5", "IN takes a list"),
        ("n = ('1')", "= takes one value"),
        ("n =", "value"),
        ([Condition("n", "=", None)], "compared with"),
        ([Condition("any", "=", None)], "compared with"),
        ([Condition("n", "; DROP", 1)], "is no comparison"),
    ],
)
async def test_what_is_no_filter_is_refused_with_its_place(reader: SqliteReader, conditions: Any, match: str) -> None:
    """Nothing of it ever reaches a database as SQL."""
    with pytest.raises(InvalidInputError, match=match):
        await _page(reader, filter=conditions)


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        (["n"], [5, 0, 4, 3, 2, 1]),
        (["n DESC"], [2, 3, 4, 0, 5, 1]),
        (["x"], [4, 0, 5, 3, 1, 2]),
        (["x DESC"], [3, 5, 0, 4, 1, 2]),
        (["flag", "n DESC"], [4, 1, 3, 0, 5, 2]),
        (["text"], [1, 0, 3, 5, 4, 2]),
        (["any"], [2, 3, 1, 5, 0, 4]),
        (["`a b` DESC"], [5, 3, 1, 2, 4, 0]),
    ],
)
async def test_rows_are_sorted_with_nan_and_none_last(reader: SqliteReader, order: list[str], rows: list[int]) -> None:
    """Whatever the direction; integers beyond every double, too; equal rows stand as they were logged."""
    assert await _found(reader, "", order_by=order) == rows


async def test_an_order_that_is_none_is_refused(reader: SqliteReader) -> None:
    """With its place."""
    with pytest.raises(InvalidInputError, match="invalid order_by at line 1, column 1: the table has no column"):
        await _page(reader, order_by=["nothing DESC"])


async def test_full_text_is_found_in_all_columns_that_hold_texts(reader: SqliteReader) -> None:
    """In capitals and small letters; numbers are no texts."""
    assert await _found(reader, "", search="THREE") == [3, 4]
    assert await _found(reader, "", search="über") == [4]
    assert await _found(reader, "", search="12") == [0, 1, 2]
    assert await _found(reader, "", search="%") == []
    await _numbers(reader.location.database.parent)


async def _numbers(directory: Path) -> None:
    async with opened(directory) as store, reading(directory) as reader:
        await ingest(store, [batch(P, [ev.RowsLogged(RUN, "numbers", ["n"], [[1]])], 3)])
        page = await table_page(reader, reader.location.artifacts, RUN, "numbers", search="1")
        assert page.rows == []


async def test_columns_are_chosen(reader: SqliteReader) -> None:
    """In the order that is asked for; with where a row comes from, if that is asked for."""
    page = await _page(reader, columns=["text", "n", "text"], limit=1)
    assert page.rows == [{"text": "12", "n": 1}]
    page = await _page(reader, columns=["_event", "n"], limit=1)
    assert page.rows == [{"_event": f"{P.hex()}:0:0", "n": 1}]
    page = await _page(reader, columns=["n"], limit=1, provenance=True)
    assert list(page.rows[0]) == ["n", "_logged_at", "_event"]
    assert (await _page(reader, columns=[])).rows == []
    with pytest.raises(InvalidInputError, match="no column 'm'"):
        await _page(reader, columns=["m"])


async def test_an_empty_table_has_an_empty_page(reader: SqliteReader) -> None:
    """With its columns."""
    page = await table_page(reader, reader.location.artifacts, RUN, "empty", count=True)
    assert (page.rows, page.total, page.matched, page.cursor) == ([], 0, 0, None)
    assert list(page.columns) == ["a"]
    with pytest.raises(query.NotFoundError):
        await table_page(reader, reader.location.artifacts, RUN, "none")


@pytest.mark.parametrize("options", [{}, {"filter": "n > 3"}, {"order_by": ["n DESC"]}])
async def test_pages_neither_repeat_nor_skip_a_row_while_rows_arrive(tmp_path: Path, options: Any) -> None:
    """What came after the first page is on none."""
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        seen: list[int] = []
        cursor = None
        for number in range(50):
            rows = [[row] for row in range(number * 10, number * 10 + 10)]
            await ingest(store, [batch(P, [ev.RowsLogged(RUN, "t", ["n"], rows)], number)], part_limit=400)
            if number >= 4:
                page = await _page(reader, limit=7, cursor=cursor, **options)
                assert page.total == 50
                seen += [row["n"] for row in page.rows]
                cursor = page.cursor
                if cursor is None:
                    break
    expected = [row for row in range(50) if not options.get("filter") or row > 3]
    assert seen == (expected[::-1] if "order_by" in options else expected)


async def test_a_page_can_be_jumped_to(reader: SqliteReader) -> None:
    """By an offset, from the beginning or from a cursor."""
    assert [row["n"] for row in (await _page(reader, offset=4, limit=1)).rows] == [2**53]
    cursor = (await _page(reader, limit=1)).cursor
    assert [row["n"] for row in (await _page(reader, cursor=cursor, offset=2, limit=1)).rows] == [2**53 + 1]
    assert (await _page(reader, offset=99)).rows == []
    assert (await _page(reader, limit=0)).cursor is None
    for wrong in ("", "1", "a:b", "7:0", "1:99999999999999999999", "1:-1"):
        with pytest.raises(InvalidInputError, match="cursor"):
            await _page(reader, cursor=wrong)
    with pytest.raises(InvalidInputError, match="from 0"):
        await _page(reader, offset=-1)


async def test_what_lies_behind_the_committed_length_is_not_seen(reader: SqliteReader) -> None:
    """The sink writes bytes before it commits them."""
    with (reader.location.artifacts / RUN / "t.csv").open("a") as file:
        file.write("9,9.0,true,not,committed,yet,2026-01-01T00:00:00.000000Z,aa:1:1\nhalf a ro")
    assert (await _page(reader, filter="n = 9", count=True)).matched == 0
    assert len((await _page(reader)).rows) == 6


async def test_pages_have_each_row_once_while_replaced_segments_lie_beside(tmp_path: Path) -> None:
    """Whichever way the rows are found."""
    async with opened(tmp_path) as store, reading(tmp_path) as reader:
        for number in range(9):
            rows = [[row] for row in range(number * 10, number * 10 + 10)]
            await ingest(store, [batch(P, [ev.RowsLogged(RUN, "t", ["n"], rows)], number)])
            for options in ({}, {"filter": "n >= 0"}, {"order_by": ["n"]}):
                page = await _page(reader, limit=1000, **options)
                assert [row["n"] for row in page.rows] == list(range(number * 10 + 10))
        starts = [path.name.split("-")[0] for path in cache_directory(reader).rglob("*.parquet")]
    assert len(starts) > len(set(starts)) > 1


async def test_a_part_that_is_removed_while_it_is_read_is_read_again(
    reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others make room at any time; what they made since is left alone."""
    segments: Any = SegmentCache.segments
    reads: list[list[Segment]] = []

    def removed(self: SegmentCache, *arguments: Any) -> list[Segment]:
        chosen = segments(self, *arguments)
        reads.append(chosen)
        if len(reads) == 1:
            chosen[0].path.rename(chosen[0].path.with_name("moved"))
        return chosen

    monkeypatch.setattr(SegmentCache, "segments", removed)
    assert len((await _page(reader)).rows) == 6
    assert len(reads) == 2
    assert reads[0][0].path.with_name("moved").exists()


async def test_a_cache_that_stays_damaged_is_an_error(reader: SqliteReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """That says what to remove."""
    await _page(reader)
    for path in cache_directory(reader).rglob("*.parquet"):
        path.write_bytes(b"garbage")
    monkeypatch.setattr(SegmentCache, "drop", lambda *_: None)
    with pytest.raises(CorruptDataError, match="damaged again and again; remove it"):
        await _page(reader)


async def test_a_cell_that_is_no_value_of_its_column_is_an_error(reader: SqliteReader) -> None:
    """As when the table is loaded."""
    path = reader.location.artifacts / RUN / "t.csv"
    path.write_bytes(path.read_bytes().replace(b"-5,3.0", b"-x,3.0"))
    with pytest.raises(CorruptDataError, match="column 'n'"):
        await _page(reader)


async def test_a_part_with_other_rows_than_committed_is_an_error(tmp_path: Path) -> None:
    """Two rows that became one have the same length."""
    await _store(tmp_path, ev.RowsLogged(RUN, "t", ["n"], [["a\nb"], ["c"]]))
    async with reading(tmp_path) as reader:
        path = reader.location.artifacts / RUN / "t.csv"
        path.write_bytes(path.read_bytes().replace(b'"a\nb"', b"a\nbbb"))
        with pytest.raises(CorruptDataError, match=r"rows|Expected"):
            await _page(reader)


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


async def test_a_row_may_be_larger_than_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is read at once then; rows before it are not lost."""
    monkeypatch.setattr(cache, "_BLOCK", 1000)
    texts = ["x", "y" * 100_000, "z"]
    await _store(tmp_path, ev.RowsLogged(RUN, "t", ["s"], [[text] for text in texts]))
    async with reading(tmp_path) as reader:
        assert [row["s"] for row in (await _page(reader)).rows] == texts


CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["", '"', "1", "null", "\r\n", ",", " x ", "#", "\0", "[1]", '"a"'])
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.none(), max_size=1)
)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_page_says_what_the_parts_say_whatever_was_logged(data: st.DataObject) -> None:
    """Any values, in any mixture of columns, types and parts; also when the cache was made bit by bit."""
    events = []
    for _ in range(data.draw(st.integers(1, 5))):
        columns = data.draw(st.lists(st.sampled_from(["a", "A", "_event", "ü,\n"]), min_size=1, unique=True))
        rows = data.draw(st.lists(st.tuples(*[CELLS] * len(columns)), min_size=0, max_size=4))
        events.append(ev.RowsLogged(RUN, "t", columns, [list(row) for row in rows]))
    limit = data.draw(st.sampled_from([1, 200, 1 << 20]))
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(Path(directory), events, limit))


async def _compare(directory: Path, events: list[Any], limit: int) -> None:
    async with opened(directory) as store, reading(directory) as reader:
        for number, event in enumerate(events):
            await ingest(store, [batch(P, [event], number)], limit)
            page = await _page(reader, limit=1000, provenance=True)
            loaded = await query.load_table(reader, RUN, "t", provenance=True)
            assert repr(page.rows) == repr(loaded)
            everything = await _page(reader, limit=1000, provenance=True, filter="_logged_at IS NOT NULL")
            assert repr(everything.rows) == repr(loaded)
