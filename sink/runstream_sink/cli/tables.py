"""``runstream tables``."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.naming import find_run
from runstream_sink.cli.options import ArtifactsOption, JsonOption, StoreOption, opened, resolve, wait_for
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.query.records import Table
    from runstream_sink.query.table_pages import TablePage

__all__ = ["Format", "export", "list_", "show"]

_RUN = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or enough of its beginning.")]
_TABLE = Annotated[str, typer.Argument(metavar="TABLE", help="The table's name; x, x.csv and x.json are the same.")]
_PAGE = 10_000


class Format(StrEnum):
    """What a table can be exported as."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


def list_(run: _RUN, store: StoreOption = None, json: JsonOption = False) -> int:
    """List the tables of a run."""
    tables = wait_for(_list(resolve(store=store), run))
    if json:
        output.print_json([_document(table) for table in tables])
    else:
        rows = [(t.name, t.rows, len(t.parts), output.size(_bytes(t)), ", ".join(t.columns)) for t in tables]
        output.print_table(("table", "rows", "parts", "size", "columns"), rows)
    return Exit.OK


def show(
    run: _RUN,
    table: _TABLE,
    filters: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Which rows: \"score > 0.5 AND model LIKE '%8b%'\".")
    ] = "",
    order: Annotated[
        list[str] | None, typer.Option("--order", metavar="COLUMN", help="A column, and DESC; may be repeated.")
    ] = None,
    search: Annotated[str | None, typer.Option("--search", metavar="TEXT", help="Which rows hold this text.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--columns", metavar="COLUMN", help="A column to show; may be repeated.")
    ] = None,
    offset: Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Rows to skip.")] = 0,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=_PAGE, help="The most rows to show.")] = 20,
    store: StoreOption = None,
    artifacts: ArtifactsOption = None,
    json: JsonOption = False,
) -> int:
    """Show rows of a table: filtered, sorted, as many as asked for.

    In a filter, columns are words or stand in backticks, and comparisons (=, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT IN,
    IS NULL, IS NOT NULL) are joined by AND.
    """
    options = resolve(store=store, artifacts=artifacts)
    chosen = {"filter": filters, "order_by": order or (), "search": search, "columns": columns, "offset": offset}
    page = wait_for(_show(options, run, table, limit, chosen))
    if json:
        kinds = {name: kind.name.lower() for name, kind in page.columns.items()}
        output.print_json({"columns": kinds, "rows": page.rows, "total": page.total, "matched": page.matched})
        return Exit.OK
    output.print_table(list(page.columns), [[_cell(value) for value in row.values()] for row in page.rows])
    output.note(f"{len(page.rows)} of {page.matched:,} rows; the table has {page.total:,}")
    return Exit.OK


def export(
    run: _RUN,
    table: _TABLE,
    form: Annotated[Format, typer.Option("--format", metavar="|".join(Format), help="What to write.")],
    target: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")],
    store: StoreOption = None,
    artifacts: ArtifactsOption = None,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="With _logged_at and _event, which tell where a row comes from.")
    ] = False,
) -> int:
    """Write a whole table, all of its parts, as one file with typed columns."""
    from runstream_sink.tables.export import export_table
    from runstream_sink.tables.read import provenance_columns, read_rows

    options = resolve(store=store, artifacts=artifacts)
    found = wait_for(_get(options, run, table))
    columns = provenance_columns(found.columns) if provenance else found.columns
    with _destination(target) as file:
        export_table(
            lambda: read_rows(options.artifacts, found.parts, found.columns, provenance=provenance),
            columns,
            form.value,
            file,
        )
    if target != "-":
        output.note(f"{found.rows:,} rows of {found.name} are in {target}")
    return Exit.OK


async def _list(options: Options, prefix: str) -> list[Table]:
    from runstream_sink.query.tables import list_tables

    async with opened(options) as reader:
        return await list_tables(reader, await find_run(reader, prefix))


async def _get(options: Options, prefix: str, table: str) -> Table:
    from runstream_sink.query.tables import get_table

    async with opened(options) as reader:
        return await get_table(reader, await find_run(reader, prefix), table)


async def _show(options: Options, prefix: str, table: str, limit: int, chosen: dict[str, Any]) -> TablePage:
    from runstream_sink.query.table_pages import table_page

    async with opened(options) as reader:
        run_id = await find_run(reader, prefix)
        return await table_page(reader, options.artifacts, run_id, table, limit=limit, count=True, **chosen)


def _cell(value: Any) -> str | None:
    """A value as its file would show it."""
    from runstream_sink.tables.cells import json_text

    return value if value is None or isinstance(value, str) else json_text(value)


@contextmanager
def _destination(target: str) -> Iterator[BinaryIO]:
    """The file, which appears whole or not at all."""
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    final = Path(target)
    if final.exists() and not final.is_file():  # a pipe or a device cannot be replaced
        with final.open("wb") as file:
            yield file
        return
    fresh = final.with_name(f".{uuid.uuid4().hex}.new")
    try:
        with fresh.open("wb") as file:
            yield file
        os.replace(fresh, final)  # noqa: PTH105 - says what it does
    finally:
        fresh.unlink(missing_ok=True)


def _bytes(table: Table) -> int:
    return sum(part.length for part in table.parts)


def _document(table: Table) -> dict[str, object]:
    return {
        "name": table.name,
        "rows": table.rows,
        "bytes": _bytes(table),
        "columns": {name: kind.name.lower() for name, kind in table.columns.items()},
        "files": [part.file for part in table.parts],
    }
