"""Experiments: listed, searched for, by id, by name."""

from collections import defaultdict
from collections.abc import Iterable

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import experiment_id_of, is_experiment_id
from runstream_sink.query.json_text import json_text
from runstream_sink.query.records import Experiment, ExperimentPage, NotFoundError
from runstream_sink.query.search.cursors import make_cursor, read_cursor
from runstream_sink.query.search.experiments import experiment_order, experiment_terms
from runstream_sink.query.search.options import checked_lifecycle, checked_limit
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.search_plan import ExperimentSearch

__all__ = ["find_experiment", "get_experiment", "get_experiment_by_name", "list_experiments", "search_experiments"]


async def list_experiments(
    reader: StoreReader, *, lifecycle: str | None = None, after: str | None = None, limit: int = 1000
) -> list[Experiment]:
    """Experiments by ascending id, from behind the id ``after``.

    ``lifecycle`` is ``active``, ``deleted`` or None for all.  Raises `InvalidInputError` if ``after`` is no id.
    """
    if after is not None and not is_experiment_id(after):
        raise InvalidInputError(f"experiment id {after!r:.100} is not a decimal number below 2**63")
    start = -1 if after is None else int(after)
    return await _filled(reader, await reader.fetch("experiments_page", lifecycle=lifecycle, after=start, limit=limit))


async def search_experiments(
    reader: StoreReader,
    filter: str = "",  # noqa: A002 - as MLflow calls it
    order_by: Iterable[str] = (),
    lifecycle: str = "active",
    limit: int = 1000,
    cursor: str | None = None,
) -> ExperimentPage:
    """A page of the experiments that meet MLflow's filter, in MLflow's order (the newest first by default).

    ``lifecycle`` is ``active``, ``deleted`` or ``all``.  Cursors are as those of `search_runs`.
    Raises `InvalidInputError` that names the place in the filter or order, or for limits and cursors that are none.
    """
    plan = ExperimentSearch(
        terms=experiment_terms(filter),
        order=experiment_order(order_by),
        lifecycle=checked_lifecycle(lifecycle),
        limit=checked_limit(limit) + 1,
        after=None,
    )
    found = await reader.search(read_cursor(plan, cursor))
    page = found[:limit]
    following = make_cursor(plan, page[-1].place) if len(found) > limit else None
    return ExperimentPage(await _filled(reader, [one.row for one in page]), following)


async def get_experiment(reader: StoreReader, experiment_id: str) -> Experiment:
    """The experiment with this id.  Raises `NotFoundError`, also for what is no id."""
    rows: list[Row] = []
    if is_experiment_id(experiment_id):
        rows = await reader.fetch("experiment_by_id", experiment_id=experiment_id)
    return await _only(reader, rows, experiment_id)


async def get_experiment_by_name(reader: StoreReader, name: str) -> Experiment:
    """The experiment with this name.

    Of several with one name it is the one whose id is computed from the name, else the one with the least id.
    Raises `NotFoundError`.
    """
    rows = await reader.fetch("experiments_by_name", name=name)
    computed = experiment_id_of(name)
    rows.sort(key=lambda row: row[0] != computed)
    return await _only(reader, rows, name)


async def find_experiment(reader: StoreReader, name_or_id: str) -> Experiment:
    """The experiment with this id, else with this name (see `get_experiment_by_name`).  Raises `NotFoundError`."""
    try:
        return await get_experiment(reader, name_or_id)
    except NotFoundError:
        return await get_experiment_by_name(reader, name_or_id)


async def _only(reader: StoreReader, rows: list[Row], name_or_id: str) -> Experiment:
    """The experiment of the first row."""
    if not rows:
        raise NotFoundError(f"there is no experiment {name_or_id!r:.200}; see `runstream experiments list`")
    return (await _filled(reader, rows[:1]))[0]


async def _filled(reader: StoreReader, rows: list[Row]) -> list[Experiment]:
    """Experiments of rows, with their tags."""
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for experiment_id, key, value in await reader.fetch(
        "tags_of_experiments", experiments=json_text([row[0] for row in rows])
    ):
        tags[experiment_id][key] = value
    return [Experiment(*(*row[:4], tags[row[0]], row[4])) for row in rows]
