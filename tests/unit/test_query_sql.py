"""SQL over a store: what it can ask, and that it can reach nothing else."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runstream_schemas import events as ev
from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError, InvalidInputError
from runstream_sink.query import sql
from runstream_sink.query.sql import run_sql
from runstream_sink.query.table_pages import table_page
from runstream_sink.store import SqliteReader
from support.stores import batch, ingest, opened, reading, run_id

P = b"p" * 16
RUN, OTHER = run_id(1), run_id(2)
EVENTS: list[Any] = [
    ev.ExperimentCreated("7", "seven", 70, {}),
    ev.RunStarted(RUN, "7", 100, "one", "me"),
    ev.RunStarted(OTHER, "7", 200, "two", "me"),
    ev.ParamsLogged(RUN, {"lr": "0.1"}),
    ev.TagsSet(RUN, {"team": "red"}),
    ev.MetricLogged(RUN, "loss", 2.0, 0, 10),
    ev.MetricLogged(RUN, "loss", math.nan, 1, 20),
    ev.MetricLogged(OTHER, "loss", 0.5, 0, 10),
    ev.RowsLogged(RUN, "qa", ["score", "text", "run_id", "Text", "n"], [[0.5, "a", "x", {"k": 1}, True]]),
    ev.RowsLogged(RUN, "qa", ["score", "text", "run_id", "Text", "n"], [[None, "", "y", "1", 2**70]]),
    ev.RowsLogged(OTHER, "qa", ["score", "flag"], [[1, True]]),
    ev.RowsLogged(OTHER, "QA", ["other"], [["differs by case"]]),
    ev.RowsLogged(RUN, "runs", ["huge"], [[10**50], [1]]),
    ev.RowsLogged(RUN, "a/b", ["none"], [[None]]),
    ev.RowsLogged(RUN, "hollow", ["", "x"], []),
]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteReader]:
    """A reader of a store with some of everything."""
    async with opened(tmp_path) as store:
        await ingest(store, [batch(P, EVENTS)])
    async with reading(tmp_path) as reader:
        yield reader


async def _ask(reader: SqliteReader, text: str) -> list[tuple[Any, ...]]:
    """The names of the columns, and the rows below."""

    def take(columns: list[str], rows: Iterator[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [tuple(columns), *rows]

    return await run_sql(reader, reader.location.artifacts, text, take)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SELECT 1 AS a, 'x' AS b", [("a", "b"), (1, "x")]),
        (
            'SELECT name, "user", start_time FROM runs ORDER BY 1',
            [("name", "user", "start_time"), ("one", "me", 100), ("two", "me", 200)],
        ),
        ("FROM params", [("run_id", "key", "value"), (RUN, "lr", "0.1")]),
        ("SELECT key, value FROM tags", [("key", "value"), ("team", "red")]),
        ("SELECT name FROM experiments WHERE experiment_id = '7'", [("name",), ("seven",)]),
        ("SELECT count(*) AS n, min(value) AS low FROM metrics", [("n", "low"), (3, 0.5)]),
        ("SELECT step FROM latest_metrics WHERE isnan(value)", [("step",), (1,)]),
        ("SELECT name, rows FROM tables WHERE name = 'qa' ORDER BY rows", [("name", "rows"), ("qa", 1), ("qa", 2)]),
        (
            "SELECT score, text, run_id_2, flag FROM qa ORDER BY score",
            [
                ("score", "text", "run_id_2", "flag"),
                (0.5, "a", "x", None),
                (1.0, None, None, True),
                (None, "", "y", None),
            ],
        ),
        ("SELECT Text_2 FROM tables.qa WHERE run_id_2 IS NOT NULL ORDER BY 1", [("Text_2",), ('"1"',), ('{"k":1}',)]),
        ("SELECT n FROM qa WHERE n IS NOT NULL ORDER BY n", [("n",), (1,), (2**70,)]),
        ("SELECT huge FROM tables.runs ORDER BY 1", [("huge",), (1.0,), (1e50,)]),
        ('SELECT "none" FROM "a/b"', [("none",), (None,)]),
        ('SELECT "_", x FROM hollow', [("_", "x")]),
        (
            "WITH r AS (SELECT * FROM runs) SELECT r.name, p.value FROM r JOIN params p USING (run_id)",
            [("name", "value"), ("one", "0.1")],
        ),
        (
            "SELECT epoch_ms(start_time)::VARCHAR AS at FROM runs WHERE name = 'one'",
            [("at",), ("1970-01-01 00:00:00.1",)],
        ),
    ],
)
async def test_sql_answers_what_the_store_holds(reader: SqliteReader, text: str, answer: list[Any]) -> None:
    """Runs and what they logged; the tables of one name are one table with the run before its columns."""
    assert await _ask(reader, text) == answer


async def test_a_name_that_differs_by_case_only_means_the_table_that_was_first(reader: SqliteReader) -> None:
    """DuckDB does not tell them apart."""
    assert len(await _ask(reader, "SELECT * FROM QA")) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELEC 1",
        "SELECT 1; SELECT 2",
        "CREATE TABLE x (a INTEGER)",
        "INSERT INTO runs VALUES (1)",
        "ATTACH 'x.db'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET memory_limit = '100GB'",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '/tmp/x'",
        "SELECT * FROM nothing",
        "SELECT nothing FROM runs",
        "SELECT 'x'::INTEGER",
    ],
)
async def test_what_is_no_select_or_fails_is_refused(reader: SqliteReader, text: str) -> None:
    """In DuckDB's words, as an error of whoever wrote it."""
    with pytest.raises(InvalidInputError, match=r"^the SQL "):
        await _ask(reader, text)


def _files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_parquet('{parquet}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM sqlite_scan('{database}', 'runs')",
        "SELECT * FROM leaked",
        "SELECT * FROM duckdb_secrets() JOIN read_json('{file}') ON true",
        "SELECT query FROM query('COPY runs TO ''{folder}/out.csv''')",
    ],
)
async def test_sql_reads_and_writes_no_file_and_no_memory(reader: SqliteReader, tmp_path: Path, text: str) -> None:
    """Neither the store's own nor the cache's, nor what the process holds."""
    leaked = pa.table({"x": ["secret"]})
    await _ask(reader, "SELECT * FROM qa")  # which makes a cache
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    (parquet, *_) = (tmp_path / ".cache").rglob("*.parquet")
    before = _files(tmp_path)
    places = {"file": file, "parquet": parquet, "folder": tmp_path, "database": reader.location.database}
    with pytest.raises(InvalidInputError, match="the SQL"):
        await _ask(reader, text.format(**places))
    assert _files(tmp_path) == before
    assert leaked is not None


async def test_settings_are_locked(reader: SqliteReader) -> None:
    """So that nothing is opened again from within."""
    for setting, value in (("enable_external_access", False), ("lock_configuration", True)):
        assert (await _ask(reader, f"SELECT current_setting('{setting}') AS value"))[1] == (value,)


async def test_a_large_result_needs_no_memory_for_all_of_it(reader: SqliteReader) -> None:
    """Rows come as they are asked for; sorting more than fits in memory goes to the disk."""

    def first(_columns: list[str], rows: Iterator[tuple[Any, ...]]) -> int:
        return sum(1 for _, _ in zip(range(5000), rows, strict=False))

    text = "SELECT * FROM range(100000000)"
    assert await run_sql(reader, reader.location.artifacts, text, first) == 5000


async def test_sql_that_nobody_waits_for_ends(reader: SqliteReader) -> None:
    """However long it would take."""
    running = threading.Event()

    def take(_columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
        running.set()
        for _ in rows:
            pass

    text = "SELECT a.range FROM range(10000000) a, range(10000000) b"
    task = asyncio.ensure_future(run_sql(reader, reader.location.artifacts, text, take))
    await asyncio.to_thread(running.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)


async def test_sql_that_needs_too_much_memory_is_an_error_of_the_environment(
    reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which says how much there is."""
    monkeypatch.setattr("runstream_sink.tables.duck.MEMORY_LIMIT", "30MB")
    monkeypatch.setattr("runstream_sink.tables.duck._SPILL_LIMIT", "1MB")
    with pytest.raises(EnvironmentUnavailableError, match="30MB"):
        await _ask(reader, "SELECT list(range) FROM range(100000000)")


async def test_rows_that_come_meanwhile_are_not_seen(
    reader: SqliteReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though somebody else has them in the cache already, and they would not even fit into the columns' types."""
    find = sql._tables

    async def then_more_comes(*arguments: Any) -> Any:
        found = await find(*arguments)
        more = [ev.RowsLogged(OTHER, "qa", ["score", "flag"], [["no number", False], [2, True]])]
        async with opened(tmp_path) as store:
            await ingest(store, [batch(P, more, first=len(EVENTS))])
        async with reading(tmp_path) as other:
            page = await table_page(other, other.location.artifacts, OTHER, "qa", order_by=["score"])
            assert page.total == 3
        return found

    monkeypatch.setattr(sql, "_tables", then_more_comes)
    assert await _ask(reader, "SELECT score, flag FROM qa WHERE flag IS NOT NULL") == [("score", "flag"), (1.0, True)]


async def test_a_cell_that_is_no_value_of_its_column_is_said_to_be_damage(reader: SqliteReader) -> None:
    """And no table without its rows."""
    (part,) = reader.location.artifacts.glob(f"{OTHER}/qa*.csv")
    text = part.read_text()
    part.write_text(text.replace("\n1,true", "\nx,true"))
    assert part.read_text() != text
    with pytest.raises(CorruptDataError, match="'qa' holds a cell that is no value"):
        await _ask(reader, "SELECT count(*) FROM qa")
