"""SQL over a store, for people and their scripts: DuckDB on a copy of what the query names.

=================  ==================================================================================
runs               run_id, experiment_id, start_time, name, user, status, end_time, lifecycle
params, tags       run_id, key, value
metrics            run_id, key, step, timestamp, value: every point
latest_metrics     the same: the latest point of each metric
experiments        experiment_id, name, creation_time, lifecycle
tables             run_id, name, rows, parts: the tables that runs have logged
any table's name   the rows of the tables of that name, of all runs, with run_id before their columns
=================  ==================================================================================

Times are milliseconds since the epoch (``epoch_ms(start_time)`` makes a timestamp).  A table that is called as one of
the first seven is named ``tables.runs``.  Integers of tables are HUGEINT, or DOUBLE where one is too large for that;
nested values are their JSON.

Only what the query names is copied, from one snapshot of the store, into a database of its own that is thrown away.
After that the database loses access to everything outside it, and its settings are locked: SQL can read and write no
file, load no extension and reach nothing else.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final, TypeVar

from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_sink.cancellation import finish
from runstream_sink.query.records import Table
from runstream_sink.query.table_pages import cache_directory, prepare_cache, read_again
from runstream_sink.query.tables import get_table
from runstream_sink.store.points import value_of
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.tables.cache import SegmentCache, row_id
from runstream_sink.tables.duck import Stop, UnreadableCacheError, connected, in_thread, reading_cache
from runstream_sink.tables.parts import Part
from runstream_sink.tables.types import ColumnType, join

__all__ = ["RELATIONS", "run_sql"]

T = TypeVar("T")
_TEXT, _INTEGER, _NUMBER = "VARCHAR", "BIGINT", "DOUBLE"
_POINT: Final = {"run_id": _TEXT, "key": _TEXT, "step": _INTEGER, "timestamp": _INTEGER, "value": _NUMBER}
_VALUE: Final = {"run_id": _TEXT, "key": _TEXT, "value": _TEXT}
_RUN: Final = {
    "run_id": _TEXT,
    "experiment_id": _TEXT,
    "start_time": _INTEGER,
    "name": _TEXT,
    "user": _TEXT,
    "status": _TEXT,
    "end_time": _INTEGER,
    "lifecycle": _TEXT,
}
RELATIONS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "runs": ("logical_runs", _RUN),
    "params": ("logical_params", _VALUE),
    "tags": ("logical_tags", _VALUE),
    "metrics": ("logical_metrics", _POINT),
    "latest_metrics": ("logical_latest_metrics", _POINT),
    "experiments": (
        "logical_experiments",
        {"experiment_id": _TEXT, "name": _TEXT, "creation_time": _INTEGER, "lifecycle": _TEXT},
    ),
    "tables": ("all_tables", {"run_id": _TEXT, "name": _TEXT, "rows": _INTEGER, "parts": _INTEGER}),
}
"""By name, the store's query and the columns with their types."""
_CELLS: Final = {
    ColumnType.NULL: "{}",
    ColumnType.BOOL: "{}::BOOLEAN",
    ColumnType.INT: "CASE {0} WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE {0}::{1} END",
    ColumnType.FLOAT: "CASE {0} WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE {0}::DOUBLE END",
    ColumnType.TEXT: "{}",
    ColumnType.JSON: "{}",
}
_TYPES: Final = {ColumnType.BOOL: "BOOLEAN", ColumnType.INT: "{}", ColumnType.FLOAT: "DOUBLE"}
_ROWS_AT_ONCE: Final = 1024
_LOCKED: Final = (
    "SET search_path = 'main,tables'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


async def run_sql(
    reader: StoreReader, root: Path, text: str, take: Callable[[list[str], Iterator[tuple[Any, ...]]], T]
) -> T:
    """Answer one SELECT; ``take`` is given the names of the columns and the rows, in a thread, and what it returns is.

    ``root`` is where tables lie.  Raises `InvalidInputError` for SQL that is none, is no SELECT or fails,
    `EnvironmentUnavailableError` where memory and disk do not suffice.
    """
    names = await asyncio.to_thread(_names, text)
    with tempfile.TemporaryDirectory(prefix="runstream-sql-") as directory, ExitStack() as stack:
        here = Path(directory)
        # What stands for a table in the caller's Python must not be found by SQL.
        connecting = connected(Stop(), str(here / "sql.db"), spill=here / "spill", python_enable_replacements=False)
        connection = await finish(asyncio.to_thread(stack.enter_context, connecting))
        connection.execute("CREATE SCHEMA tables")
        async with reader.snapshot() as frozen:
            for name in RELATIONS:
                if name in names:
                    await _copy(frozen, connection, name)
            tables = await _tables(frozen, names)
        lasting = cache_directory(reader)
        cache = SegmentCache(lasting if await asyncio.to_thread(prepare_cache, lasting) else here / "cache")
        return await in_thread(lambda stop: _answer(connection, stop, (cache, root, tables), text, take))


def _names(text: str) -> set[str]:
    """The tables that a SELECT names, in small letters, without their schemas."""
    import duckdb

    try:
        with duckdb.connect(":memory:", config={"python_enable_replacements": False}) as connection:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise InvalidInputError("the SQL must be one SELECT")
            tree: Any = connection.execute("SELECT json_serialize_sql($1)", [statements[0].query]).fetchall()[0][0]
    except duckdb.Error as error:
        raise InvalidInputError(f"the SQL cannot be read: {error}") from error
    return set(_named(json.loads(tree)))


def _named(node: Any) -> Iterator[str]:
    """Names of tables in what the parser made of a SELECT."""
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            yield node["table_name"].lower()
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _named(child)


async def _copy(reader: StoreReader, connection: Any, name: str) -> None:
    """Make one of `RELATIONS`."""
    query, columns = RELATIONS[name]
    made = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
    connection.execute(f"CREATE TABLE {name} ({made})")
    async with aclosing(reader.stream(query)) as pages:
        async for rows in pages:
            await finish(asyncio.to_thread(_insert, connection, name, columns, rows))


def _insert(connection: Any, name: str, columns: Mapping[str, str], rows: Sequence[Row]) -> None:
    import pyarrow as pa

    if columns is _POINT:
        rows = [(*row[:4], row[4] if row[5] is None else value_of(row[4], row[5])) for row in rows]
    kinds = {_TEXT: pa.string(), _INTEGER: pa.int64(), _NUMBER: pa.float64()}
    arrays = [
        pa.array(values, kinds[kind]) for values, kind in zip(zip(*rows, strict=True), columns.values(), strict=True)
    ]
    connection.register("incoming", pa.Table.from_arrays(arrays, names=list(columns)))
    connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")  # noqa: S608 - a name of ours
    connection.unregister("incoming")


async def _tables(reader: StoreReader, names: set[str]) -> dict[str, list[tuple[str, Table]]]:
    """By name, the tables that the query may mean, with their runs; of names that differ by case only, the first."""
    found: dict[str, tuple[str, list[tuple[str, Table]]]] = {}
    for run_id, name, *_ in await reader.fetch("all_tables"):
        if name.lower() in names:
            first, held = found.setdefault(name.lower(), (name, []))
            if name == first:
                held.append((run_id, await get_table(reader, run_id, name)))
    return dict(found.values())


def _answer(
    connection: Any,
    stop: Stop,
    logged: tuple[SegmentCache, Path, Mapping[str, list[tuple[str, Table]]]],
    text: str,
    take: Callable[[list[str], Iterator[tuple[Any, ...]]], T],
) -> T:
    import duckdb

    stop.watch(connection)
    cache, root, tables = logged
    for name, held in tables.items():
        make = partial(_make_table, connection, stop, (cache, root), name, held)
        read_again(make, cache, [part for _, table in held for part in table.parts])
    for statement in _LOCKED:
        connection.execute(statement)
    try:
        result = connection.execute(text)
        return take([column[0] for column in result.description], _rows(result))
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        raise InvalidInputError(f"the SQL fails: {error}") from error


def _rows(result: Any) -> Iterator[tuple[Any, ...]]:
    while rows := result.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _make_table(
    connection: Any, stop: Stop, place: tuple[SegmentCache, Path], name: str, held: list[tuple[str, Table]]
) -> None:
    """Copy the tables of one name.  Raises `UnreadableCacheError`, `CorruptDataError`."""
    import duckdb

    kinds: dict[str, ColumnType] = {}
    for _, table in held:
        for column, kind in table.columns.items():
            kinds[column] = reduce(join, [kinds.get(column, ColumnType.NULL), kind])
    columns = dict(zip(kinds, _distinct(["run_id", *kinds])[1:], strict=True))
    files = [
        (run_id, part, [str(segment.path) for segment in place[0].segments(place[1], part, stop.check)])
        for run_id, table in held
        for part in table.parts
        if part.rows
    ]
    target = f"tables.{_quoted(name)}"
    problem: Exception | None = None
    for integer in ("HUGEINT", "DOUBLE"):
        made = [f"{_quoted(columns[c])} {_TYPES.get(kind, _TEXT).format(integer)}" for c, kind in kinds.items()]
        connection.execute(f"CREATE OR REPLACE TABLE {target} ({', '.join(['run_id VARCHAR', *made])})")
        try:
            with reading_cache():
                for run_id, part, paths in files:
                    _copy_part(connection, target, (run_id, part, paths), kinds, integer)
        except duckdb.ConversionException as error:
            problem = error
        else:
            return
    raise CorruptDataError(f"table {name!r} holds a cell that is no value of its column's type: {problem!s:.300}")


def _copy_part(
    connection: Any, target: str, logged: tuple[str, Part, list[str]], kinds: Mapping[str, ColumnType], integer: str
) -> None:
    """Insert the rows that a part had when the tables were looked up; its files may hold some that came later."""
    run_id, part, paths = logged
    cells = [
        _CELLS[kind].format(f"c{part.columns.index(column)}", integer) if column in part.columns else "NULL"
        for column, kind in kinds.items()
    ]
    sql = f"INSERT INTO {target} SELECT {', '.join(['?', *cells])} FROM read_parquet(?) WHERE id < ?"  # noqa: S608
    ((copied,),) = connection.execute(sql, [run_id, paths, row_id(part.number, part.rows)]).fetchall()
    if copied != part.rows:
        raise UnreadableCacheError(f"{copied} rows of {part.file} are cached of {part.rows}")


def _distinct(names: Sequence[str]) -> list[str]:
    """The names with numbers behind those that would be the same to DuckDB, which does not tell capitals."""
    taken: set[str] = set()
    distinct = []
    for name in names:
        free, number = name or "_", 1
        while free.lower() in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free.lower())
        distinct.append(free)
    return distinct


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
