"""Runs: listed, searched for, one in full, several side by side."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import is_experiment_id
from runstream_sink.query.json_text import json_text
from runstream_sink.query.records import Artifact, Comparison, NotFoundError, Point, Run, RunPage
from runstream_sink.query.search.cursors import make_cursor, read_cursor
from runstream_sink.query.search.options import checked_lifecycle, checked_limit
from runstream_sink.query.search.runs import run_order, run_terms
from runstream_sink.store.points import value_of
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.search_plan import RunSearch

__all__ = ["compare_runs", "get_run", "list_artifacts", "list_runs", "metric_history", "search_runs"]

_LARGEST: Final = (1 << 63) - 1


async def list_runs(
    reader: StoreReader,
    *,
    experiment_id: str | None = None,
    status: str | None = None,
    lifecycle: str | None = "active",
    limit: int = 100,
    cursor: str | None = None,
) -> RunPage:
    """A page of runs, newest start first, those that have not started last.

    What is None filters nothing.  ``cursor`` is that of the page before; pages neither repeat nor skip a run that
    stays.  Raises `InvalidInputError` for a cursor that is none.
    """
    time, number = _position(cursor)
    query = "runs_page" if experiment_id is None else "runs_page_of_experiment"
    of = {} if experiment_id is None else {"experiment_id": experiment_id}
    rows = await reader.fetch(query, time=time, id=number, status=status, lifecycle=lifecycle, limit=limit + 1, **of)
    page = rows[:limit]
    following = f"{page[-1][0]}:{page[-1][1]}" if len(rows) > limit and page else None
    return RunPage(await _filled(reader, [row[2:] for row in page]), following)


async def search_runs(
    reader: StoreReader,
    experiment_ids: Sequence[str] | None,
    filter: str = "",  # noqa: A002 - as MLflow calls it
    order_by: Iterable[str] = (),
    lifecycle: str = "active",
    limit: int = 1000,
    cursor: str | None = None,
    *,
    artifact_uri: str | None = None,
) -> RunPage:
    """A page of the runs of some experiments (None: of all) that meet MLflow's filter, in MLflow's order.

    ``lifecycle`` is ``active``, ``deleted`` or ``all``.  Runs that are equal in ``order_by`` come newest first, then
    by run id.  ``cursor`` is that of the page before, of the same search; pages neither repeat nor skip a run that
    stays where it was in the order.  ``artifact_uri`` is what the attribute of that name is for a run, with
    ``{run_id}`` in it; by default the run's directory below the store's artifacts.

    Raises `InvalidInputError` that names the place in the filter or order, or for ids, limits and cursors that are
    none.
    """
    before, _, behind = (artifact_uri or f"{reader.location.artifacts}/{{run_id}}").partition("{run_id}")
    plan = RunSearch(
        experiments=None if experiment_ids is None else tuple(sorted(map(_experiment, set(experiment_ids)))),
        terms=run_terms(filter),
        order=run_order(order_by),
        lifecycle=checked_lifecycle(lifecycle),
        limit=checked_limit(limit) + 1,
        after=None,
        artifact_uri=(before, behind),
    )
    found = await reader.search(read_cursor(plan, cursor))
    page = found[:limit]
    following = make_cursor(plan, page[-1].place) if len(found) > limit else None
    return RunPage(await _filled(reader, [one.row for one in page]), following)


async def get_run(reader: StoreReader, run_id: str) -> Run:
    """One run.  Raises `NotFoundError`."""
    return (await _by_id(reader, [run_id]))[0]


async def compare_runs(reader: StoreReader, run_ids: Sequence[str]) -> Comparison:
    """Runs side by side, in the order given.  Raises `NotFoundError` naming the runs that are not there."""
    runs = await _by_id(reader, run_ids)
    params = sorted({key for run in runs for key in run.params})
    metrics = sorted({key for run in runs for key in run.metrics})
    return Comparison(
        runs,
        {key: [run.params.get(key) for run in runs] for key in params},
        {key: [run.metrics[key].value if key in run.metrics else None for run in runs] for key in metrics},
    )


async def metric_history(reader: StoreReader, run_id: str, key: str) -> list[Point]:
    """All points of a metric, by step, then timestamp; none where there is no such run or metric."""
    points: list[Point] = []
    async for rows in reader.stream("metric_history", run_id=run_id, key=key):
        points += [Point(value_of(value, bits), step, timestamp) for value, bits, step, timestamp in rows]
    return points


async def list_artifacts(reader: StoreReader, run_id: str) -> list[Artifact]:
    """The artifacts of a run, by path."""
    return [Artifact(*row) for row in await reader.fetch("artifacts_of_run", run_id=run_id)]


def _experiment(experiment_id: str) -> int:
    if not is_experiment_id(experiment_id):
        raise InvalidInputError(f"experiment id {experiment_id!r:.100} is not a decimal number below 2**63")
    return int(experiment_id)


def _position(cursor: str | None) -> tuple[int, int]:
    """The start time and row that a page lies behind."""
    if cursor is None:
        return _LARGEST, _LARGEST
    time, _, number = cursor.partition(":")
    try:
        position = int(time), int(number)
    except ValueError:
        position = (_LARGEST + 1, 0)
    if not all(-_LARGEST - 1 <= part <= _LARGEST for part in position):
        raise InvalidInputError(f"the cursor {cursor!r:.100} is none; take it from the page before")
    return position


async def _by_id(reader: StoreReader, run_ids: Sequence[str]) -> list[Run]:
    rows = {row[2]: row for row in await reader.fetch("runs_by_id", runs=json_text(list(dict.fromkeys(run_ids))))}
    missing = [run_id for run_id in run_ids if run_id not in rows]
    if missing:
        raise NotFoundError(f"there is no run {', '.join(missing):.400}; see `runstream runs list`")
    return await _filled(reader, [rows[run_id][2:] for run_id in run_ids])


async def _filled(reader: StoreReader, rows: list[Row]) -> list[Run]:
    """Runs of rows that begin with the run id, with their params, latest metrics and tags."""
    if not rows:
        return []
    wanted = json_text([row[0] for row in rows])
    params = _by_run(await reader.fetch("params_of_runs", runs=wanted))
    tags = _by_run(await reader.fetch("tags_of_runs", runs=wanted))
    metrics = _by_run(
        (run_id, key, Point(value_of(value, bits), step, timestamp))
        for run_id, key, value, bits, step, timestamp in await reader.fetch("latest_metrics_of_runs", runs=wanted)
    )
    return [Run(*(*row, params[row[0]], metrics[row[0]], tags[row[0]])) for row in rows]


def _by_run(rows: Any) -> defaultdict[str, dict[str, Any]]:
    values: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for run_id, key, value in rows:
        values[run_id][key] = value
    return values
