"""/api/v1/runs: found, compared, begun, changed, logged to."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final

from litestar import Router
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import Event, MetricLogged, RowsLogged
from runstream_schemas.names import check_key, table_name
from runstream_schemas.values import RowEncoder
from runstream_sink.http import actions
from runstream_sink.http.context import Context, HttpContext
from runstream_sink.http.native import models
from runstream_sink.http.native.models import Comparison, Logged, RunBatch, RunOut, RunPage, RunSearch
from runstream_sink.http.native.routes import delete, get, patch, post
from runstream_sink.query import compare_runs, get_run, search_runs

__all__ = ["ROUTER", "row_events"]

_EVENT_LIMIT: Final = 256 << 10
"""Bytes of one event of rows, unless a single row is larger."""
_Filter = Annotated[str, QueryParameter(name="filter", description="MLflow's search grammar.")]
_Experiments = Annotated[list[str] | None, QueryParameter(name="experiment_id", description="Several may be given.")]


@get("/")
async def list_runs(
    context: Context,
    experiment_ids: _Experiments = None,
    filter_: _Filter = "",
    order_by: FromQuery[list[str] | None] = None,
    lifecycle: FromQuery[models.Lifecycle] = "active",
    limit: models.LimitQuery = 100,
    cursor: FromQuery[str | None] = None,
) -> RunPage:
    """A page of the runs that meet the filter, the newest first by default.  Pages neither repeat nor skip a run."""
    return await _search(context, RunSearch(experiment_ids, filter_, order_by or [], lifecycle, limit, cursor))


@post("/search", status_code=200)
async def find_runs(context: Context, data: JSONBody[RunSearch]) -> RunPage:
    """The same, for filters that are too long for an address."""
    return await _search(context, data)


@post("/compare", status_code=200)
async def compare(context: Context, data: JSONBody[models.RunIds]) -> Comparison:
    """Params and latest metrics of several runs side by side."""
    found = await compare_runs(context.reader, data.run_ids)
    return Comparison(
        [models.run(held) for held in found.runs],
        found.params,
        {
            key: [None if value is None else models.number(value) for value in values]
            for key, values in found.metrics.items()
        },
    )


@post("/")
async def create_run(context: Context, data: JSONBody[models.NewRun]) -> RunOut:
    """Begin a run.  404 without such an experiment, 409 if it is deleted or the run's id is taken."""
    made = await actions.create_run(
        context,
        data.experiment_id,
        run_id=data.run_id,
        name=data.name,
        user=data.user,
        start_time=data.start_time,
        tags=data.tags,
    )
    return models.run(made)


@get("/{run_id:str}")
async def show_run(context: Context, run_id: FromPath[str]) -> RunOut:
    """One run."""
    return models.run(await get_run(context.reader, run_id))


@patch("/{run_id:str}")
async def change_run(context: Context, run_id: FromPath[str], data: JSONBody[models.RunChange]) -> RunOut:
    """Rename it, change its status, end it."""
    changed = await actions.update_run(context, run_id, name=data.name, status=data.status, end_time=data.end_time)
    return models.run(changed)


@post("/{run_id:str}/log", status_code=200)
async def log_to_run(context: Context, run_id: FromPath[str], data: JSONBody[RunBatch]) -> Logged:
    """Log params, points of metrics, tags and rows at once.

    409, and nothing is logged, if a param has another value.  After a 503 it may have been logged all the same: a
    second try then adds the points and rows again, while params and tags stay what they are.
    """
    others: list[Event] = [_point(run_id, given) for given in data.metrics]
    for given in data.rows:
        others += await asyncio.to_thread(row_events, run_id, given.table, given.rows)
    await actions.log(context, run_id, data.params, data.tags, others)
    rows = sum(len(given.rows) for given in data.rows)
    return Logged(len(data.params), len(data.metrics), len(data.tags), rows)


@delete("/{run_id:str}/tags", status_code=200)
async def delete_run_tag(context: Context, run_id: FromPath[str], key: FromQuery[str]) -> RunOut:
    """Remove a tag."""
    return models.run(await actions.delete_tag(context, run_id, key))


@delete("/{run_id:str}", status_code=200)
async def delete_run(context: Context, run_id: FromPath[str]) -> RunOut:
    """Mark it as deleted."""
    return models.run(await actions.change_run(context, run_id, deleted=True))


@post("/{run_id:str}/restore", status_code=200)
async def restore_run(context: Context, run_id: FromPath[str]) -> RunOut:
    """Make it active again."""
    return models.run(await actions.change_run(context, run_id, deleted=False))


async def _search(context: HttpContext, wanted: RunSearch) -> RunPage:
    page = await search_runs(
        context.reader,
        wanted.experiment_ids,
        wanted.filter,
        wanted.order_by,
        wanted.lifecycle,
        wanted.limit,
        wanted.cursor,
    )
    return RunPage([models.run(held) for held in page.runs], page.cursor)


def _point(run_id: str, given: models.NewPoint) -> MetricLogged:
    timestamp = actions.now() if given.timestamp is None else given.timestamp
    return MetricLogged(run_id, check_key(given.key, "metric"), models.value_of(given.value), given.step, timestamp)


def row_events(run_id: str, table: str, rows: Iterable[dict[str, Any]]) -> list[Event]:
    """Events of rows: consecutive ones with the same columns together, about 256 KiB each.

    Raises `InvalidInputError` for a name that no table can have, and for a row without columns.
    """
    name = table_name(table)
    return [event for columns, block in _blocks(rows) for event in _split(run_id, name, columns, block)]


def _blocks(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[list[str], list[list[Any]]]]:
    columns: list[str] = []
    block: list[list[Any]] = []
    for row in rows:
        if not row:
            raise InvalidInputError("a row must have at least one column")
        if row.keys() != set(columns):
            if block:
                yield columns, block
            columns, block = list(row), []
        block.append([row[column] for column in columns])
    if block:
        yield columns, block


def _split(run_id: str, table: str, columns: list[str], rows: Sequence[list[Any]]) -> Iterator[RowsLogged]:
    encoder = RowEncoder()
    waiting: list[list[Any]] = []
    size = 0
    for row in rows:
        length = len(encoder.encode_row(row))
        if waiting and size + length > _EVENT_LIMIT:
            yield RowsLogged(run_id, table, columns, waiting)
            waiting, size = [], 0
        waiting.append(row)
        size += length
    yield RowsLogged(run_id, table, columns, waiting)


ROUTER: Final = Router(
    "/runs",
    route_handlers=[
        list_runs,
        find_runs,
        compare,
        create_run,
        show_run,
        change_run,
        log_to_run,
        delete_run_tag,
        delete_run,
        restore_run,
    ],
    tags=["runs"],
)
