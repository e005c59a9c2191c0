"""``runstream sql``."""

from __future__ import annotations

import csv as csv_module
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import typer

from runstream_schemas.errors import InvalidInputError
from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import ArtifactsOption, JsonOption, StoreOption, opened, resolve, wait_for
from runstream_sink.config import Options

__all__ = ["sql"]

Rows = Iterator[tuple[Any, ...]]


def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT in DuckDB's SQL.")],
    store: StoreOption = None,
    artifacts: ArtifactsOption = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> int:
    """Answer a SELECT over runs, params, tags, metrics, latest_metrics, experiments, tables and logged tables.

    A logged table is called by its name, in double quotes where it is no word, and holds the rows of all runs that have
    it, with their run_id. What the query names is copied first, so that the store is only read; SQL reaches no file.
    """
    if json and csv:
        raise InvalidInputError("take --json or --csv, not both")
    wait_for(_answer(resolve(store=store, artifacts=artifacts), query, _json if json else _csv if csv else _table))
    return Exit.OK


async def _answer(options: Options, query: str, take: Callable[[list[str], Rows], None]) -> None:
    from runstream_sink.query.sql import run_sql

    async with opened(options) as reader:
        await run_sql(reader, options.artifacts, query, take)


def _json(columns: list[str], rows: Rows) -> None:
    output.print_json({"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]})


def _plain(value: Any) -> Any:
    """A value as JSON has it: an integer that no 64 bits hold is a text."""
    built = msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    return str(built) if isinstance(built, int) and built.bit_length() >= 64 else built


def _csv(columns: list[str], rows: Rows) -> None:
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def _table(columns: list[str], rows: Rows) -> None:
    output.print_table(columns, [[_text(value) for value in row] for row in rows])


def _text(value: Any) -> Any:
    return output.number(value) if isinstance(value, float) else value
