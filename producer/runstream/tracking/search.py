"""Runs, experiments and histories, read back with MLflow's names."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from runstream.experiments import current_experiment
from runstream.tracking.entities import Experiment, Metric, Run, ViewType, experiment_of, run_of
from runstream.tracking.records import Page, Source
from runstream.tracking.sources import settled_source
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, NotFoundError

__all__ = [
    "get_experiment",
    "get_experiment_by_name",
    "get_metric_history",
    "get_parent_run",
    "get_run",
    "history",
    "lifecycle_of",
    "search_experiments",
    "search_runs",
]

_AT_ONCE: Final = 1000
_LIFECYCLES: Final = {ViewType.ACTIVE_ONLY: "active", ViewType.DELETED_ONLY: "deleted", ViewType.ALL: "all"}

T = TypeVar("T")


def search_runs(
    experiment_ids: Sequence[str] | None,
    filter_string: str,
    run_view_type: int,
    max_results: int,
    order_by: Sequence[str],
    output_format: str,
    search_all_experiments: bool,
    experiment_names: Sequence[str] | None,
) -> Any:
    """See `runstream.search_runs`."""
    if output_format not in {"pandas", "list"}:
        raise InvalidInputError(f"output_format is {output_format!r:.80}; it must be 'pandas' or 'list'")
    source, lifecycle = settled_source(), lifecycle_of(run_view_type)
    ids = None if search_all_experiments else _experiments(source, experiment_ids, experiment_names)

    def find(page: Page) -> tuple[list[Any], str | None]:
        found = source.search_runs(ids, filter_string, order_by, lifecycle, page)
        return found.runs, found.cursor

    runs = [run_of(held, source) for held in _all(find, max_results)]
    return runs if output_format == "list" else _frame(runs)


def get_run(run_id: str) -> Run:
    """See `runstream.get_run`."""
    source = settled_source()
    return run_of(source.get_run(run_id), source)


def get_parent_run(run_id: str) -> Run | None:
    """See `runstream.get_parent_run`."""
    parent = get_run(run_id).data.tags.get("mlflow.parentRunId")
    return None if parent is None else get_run(parent)


def search_experiments(
    view_type: int, max_results: int | None, filter_string: str, order_by: Sequence[str]
) -> list[Experiment]:
    """See `runstream.search_experiments`."""
    source, lifecycle = settled_source(), lifecycle_of(view_type)

    def find(page: Page) -> tuple[list[Any], str | None]:
        found = source.search_experiments(filter_string, order_by, lifecycle, page)
        return found.experiments, found.cursor

    return [experiment_of(held) for held in _all(find, max_results)]


def get_experiment(experiment_id: str) -> Experiment:
    """See `runstream.get_experiment`."""
    return experiment_of(settled_source().get_experiment(experiment_id))


def get_experiment_by_name(name: str) -> Experiment | None:
    """See `runstream.get_experiment_by_name`."""
    try:
        return experiment_of(settled_source().get_experiment_by_name(name))
    except NotFoundError:
        return None


def get_metric_history(run_id: str, key: str) -> list[Metric]:
    """See `runstream.get_metric_history`."""
    return history(settled_source(), run_id, key)


def history(source: Source, run_id: str, key: str) -> list[Metric]:
    """All points of a metric."""

    def find(page: Page) -> tuple[list[Any], str | None]:
        found = source.metric_page(run_id, key, page)
        return found.points, found.cursor

    return [Metric(key, float(point.value), point.timestamp, point.step) for point in _all(find, None, 10 * _AT_ONCE)]


def lifecycle_of(view_type: object) -> str:
    """What MLflow's number means."""
    lifecycle = _LIFECYCLES.get(view_type) if isinstance(view_type, int) else None
    if lifecycle is None:
        raise InvalidInputError(f"the view type is {view_type!r:.80}; it must be 1 (active), 2 (deleted) or 3 (all)")
    return lifecycle


def _all(find: Callable[[Page], tuple[list[T], str | None]], most: int | None, at_once: int = _AT_ONCE) -> Iterator[T]:
    """What is on all pages, or the first ``most``."""
    if most is not None and most < 0:
        raise InvalidInputError(f"max_results is {most}; it must not be negative")
    left = most
    cursor = None
    while left is None or left > 0:
        found, cursor = find(Page(at_once if left is None else min(at_once, left), cursor))
        yield from found
        if cursor is None:
            return
        left = None if left is None else left - len(found)


def _experiments(source: Source, ids: Sequence[str] | None, names: Sequence[str] | None) -> list[str]:
    """The ids that are meant; names that no experiment has are passed over."""
    if ids and names:
        raise InvalidInputError("search_runs takes either experiment_ids or experiment_names")
    if names:
        found = (_id_of(source, name) for name in names)
        return [experiment_id for experiment_id in found if experiment_id is not None]
    return [current_experiment().experiment_id] if ids is None else [str(one) for one in ids]


def _id_of(source: Source, name: str) -> str | None:
    try:
        return source.get_experiment_by_name(name).experiment_id
    except NotFoundError:
        return None


def _frame(runs: list[Run]) -> Any:
    """A DataFrame with a row for each run, and MLflow's columns."""
    try:
        import pandas
    except ImportError as error:
        raise EnvironmentUnavailableError(
            f"a DataFrame needs pandas ({error}): pip install pandas, or ask for output_format='list'"
        ) from error
    info = ("run_id", "experiment_id", "status", "artifact_uri")
    columns: dict[str, Any] = {name: [getattr(run.info, name) for run in runs] for name in info}
    for name in ("start_time", "end_time"):
        columns[name] = pandas.to_datetime([getattr(run.info, name) for run in runs], unit="ms", utc=True)
    for kind, absent in (("metrics", float("nan")), ("params", None), ("tags", None)):
        held: list[dict[str, Any]] = [getattr(run.data, kind) for run in runs]
        for key in sorted({key for values in held for key in values}):
            columns[f"{kind}.{key}"] = [values.get(key, absent) for values in held]
    return pandas.DataFrame(columns)
