"""Tables of runs, and their rows."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from runstream_schemas.names import table_name
from runstream_sink.query.json_text import json_text
from runstream_sink.query.records import NotFoundError, Table
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.table_rows import part_of
from runstream_sink.tables.read import read_rows
from runstream_sink.tables.types import ColumnType

__all__ = ["get_table", "iter_table", "list_tables", "load_table", "table_names"]

_ROWS_AT_ONCE: Final = 1024


async def list_tables(reader: StoreReader, run_id: str) -> list[Table]:
    """The tables of a run, by name."""
    return [await _table(reader, run_id, row) for row in await reader.fetch("tables_of_run", run_id=run_id)]


async def table_names(reader: StoreReader, run_ids: Iterable[str]) -> dict[str, list[str]]:
    """The names of the tables of each run that has any, in their order."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for run_id, name in await reader.fetch("table_names_of_runs", runs=json_text(list(run_ids))):
        names[run_id].append(name)
    return names


async def get_table(reader: StoreReader, run_id: str, name: str) -> Table:
    """One table; ``x``, ``x.csv`` and ``x.json`` name the same.  Raises `NotFoundError`."""
    table = table_name(name)
    for row in await reader.fetch("tables_of_run", run_id=run_id):
        if row[0] == table:
            return await _table(reader, run_id, row)
    raise NotFoundError(f"run {run_id:.100} has no table {table!r:.200}")


async def load_table(
    reader: StoreReader,
    run_id: str,
    name: str,
    *,
    artifacts: Path | None = None,
    provenance: bool = False,
    start: int = 0,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Rows ``start`` to ``start + limit`` of a table as dicts with typed values.  See `iter_table`."""
    loaded: list[dict[str, Any]] = []
    table = await get_table(reader, run_id, name)
    async for rows in iter_table(reader, table, artifacts=artifacts, provenance=provenance, start=start, limit=limit):
        loaded += rows
    return loaded


async def iter_table(
    reader: StoreReader,
    table: Table,
    *,
    artifacts: Path | None = None,
    provenance: bool = False,
    start: int = 0,
    limit: int | None = None,
) -> AsyncIterator[list[dict[str, Any]]]:
    """The same rows in lists of bounded length.

    ``artifacts`` is where tables lie, if not beside the store; ``provenance`` adds ``_logged_at`` and ``_event``.
    Raises `CorruptDataError` for a damaged part.
    """
    root = artifacts or reader.location.artifacts
    rows = read_rows(root, table.parts, table.columns, provenance=provenance, start=start, limit=limit)
    while batch := await asyncio.to_thread(lambda: list(islice(rows, _ROWS_AT_ONCE))):
        yield batch


async def _table(reader: StoreReader, run_id: str, row: Row) -> Table:
    name, rows, _ = row
    columns = await reader.fetch("columns_of_table", run_id=run_id, name=name)
    parts = await reader.fetch("parts_of_table", run_id=run_id, name=name)
    return Table(name, rows, {column: ColumnType(kind) for column, kind in columns}, [part_of(part) for part in parts])
