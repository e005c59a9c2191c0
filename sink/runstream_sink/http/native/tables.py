"""Tables of runs: listed, page by page, downloaded whole."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from litestar import Router
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from runstream_sink.http.context import Context
from runstream_sink.http.downloads import made_by
from runstream_sink.http.files import headers_of
from runstream_sink.http.native.models import RowPage, StoredTable, StoredTables, number
from runstream_sink.http.native.routes import READING, get
from runstream_sink.query import Table, get_run, get_table, list_tables, table_page
from runstream_sink.tables.export import export_table
from runstream_sink.tables.read import provenance_columns, read_rows
from runstream_sink.tables.types import ColumnType

__all__ = ["ROUTER"]

_MEDIA_TYPES: Final = {
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
_Filter = Annotated[str, QueryParameter(name="filter", description="Such as: score > 0.5 AND model LIKE '%8b%'.")]
_Order = Annotated[list[str] | None, QueryParameter(name="order_by", description="Columns, each with DESC or nothing.")]
_Columns = Annotated[list[str] | None, QueryParameter(name="column", description="Which, and in which order.")]
_Count = Annotated[int, QueryParameter(ge=0, le=1 << 53)]


@get("/")
async def list_tables_of_run(context: Context, run_id: FromPath[str]) -> StoredTables:
    """The tables of a run."""
    await get_run(context.reader, run_id)
    return StoredTables([_stored(held) for held in await list_tables(context.reader, run_id)])


@get("/rows")
async def list_rows(
    context: Context,
    run_id: FromPath[str],
    table: FromQuery[str],
    filter_: _Filter = "",
    order_by: _Order = None,
    search: FromQuery[str | None] = None,
    columns: _Columns = None,
    limit: Annotated[int, QueryParameter(ge=0, le=10_000)] = 100,
    cursor: FromQuery[str | None] = None,
    offset: _Count = 0,
    count: FromQuery[bool] = False,
    provenance: FromQuery[bool] = False,
) -> RowPage:
    """A page of rows.  ``search`` finds a text in any column that holds texts, in capitals or small letters."""
    page = await table_page(
        context.reader,
        context.options.artifacts,
        run_id,
        table,
        filter=filter_,
        order_by=order_by or (),
        search=search,
        columns=columns,
        limit=limit,
        cursor=cursor,
        offset=offset,
        count=count,
        provenance=provenance,
    )
    found = [{name: _cell(value) for name, value in row.items()} for row in page.rows]
    return RowPage(_types(page.columns), found, page.total, page.matched, page.cursor)


@get(
    "/download",
    responses={**READING, 200: ResponseSpec(bytes, description="The table", media_type="application/octet-stream")},
)
async def download_table(
    context: Context,
    run_id: FromPath[str],
    table: FromQuery[str],
    form: Annotated[Literal["csv", "jsonl", "parquet"], QueryParameter(name="format")] = "csv",
    provenance: FromQuery[bool] = False,
) -> Stream:
    """The whole table as one file.  An answer that breaks off is not whole: its end is missing."""
    found = await get_table(context.reader, run_id, table)
    columns = provenance_columns(found.columns) if provenance else found.columns
    root = context.options.artifacts

    def write(file: Any) -> None:
        export_table(lambda: read_rows(root, found.parts, found.columns, provenance=provenance), columns, form, file)

    name = f"{PurePosixPath(found.name).name}.{form}"
    headers = headers_of(name, _MEDIA_TYPES[form], download=True)
    return Stream(made_by(write), headers={**headers, "cache-control": "no-store"})


def _stored(held: Table) -> StoredTable:
    return StoredTable(held.name, held.rows, sum(part.length for part in held.parts), _types(held.columns))


def _types(columns: Mapping[str, ColumnType]) -> dict[str, str]:
    return {name: kind.name.lower() for name, kind in columns.items()}


def _cell(value: Any) -> Any:
    """A value as JSON can say it: NaN, infinities and integers that few clients read exactly are text."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return [_cell(one) for one in value]
    if isinstance(value, dict):
        return {name: _cell(one) for name, one in value.items()}
    return value


ROUTER: Final = Router(
    "/runs/{run_id:str}/tables", route_handlers=[list_tables_of_run, list_rows, download_table], tags=["tables"]
)
