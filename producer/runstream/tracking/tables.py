"""Rows of logged tables as a pandas DataFrame."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from runstream.experiments import current_experiment
from runstream.tracking.records import Page, RunRecord, Source
from runstream.tracking.sources import settled_source
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, NotFoundError
from runstream_schemas.names import check_run_id, table_name

__all__ = ["load_rows", "load_table"]

_OF_RUN: Final = ("run_id", "experiment_id", "status", "start_time", "end_time")


def load_table(
    artifact_file: str, run_ids: Sequence[str] | None, extra_columns: Sequence[str], *, references: bool
) -> Any:
    """See `runstream.load_table`."""
    experiment_id = current_experiment().experiment_id
    source = settled_source()
    return load_rows(source, artifact_file, run_ids, extra_columns, experiment_id, references=references)


def load_rows(
    source: Source,
    artifact_file: str,
    run_ids: Sequence[str] | None,
    extra_columns: Sequence[str],
    experiment_id: str,
    *,
    references: bool,
) -> Any:
    """Rows of a table as a DataFrame: of the given runs, or of all of an experiment."""
    try:
        import pandas
    except ImportError as error:
        raise EnvironmentUnavailableError(
            f"reading tables needs the sink's package and pandas: pip install 'runstream[sink]' pandas ({error})"
        ) from error
    unknown = sorted(set(extra_columns) - set(_OF_RUN))
    if unknown:
        raise InvalidInputError(f"extra column {unknown[0]!r} is no field of a run; take of {', '.join(_OF_RUN)}")
    table = table_name(artifact_file)
    columns: dict[str, None] = {}
    rows: list[Mapping[str, Any]] = []
    for run in _runs(source, run_ids, experiment_id):
        try:
            found, held = source.load_table(table, run.run_id, references=references)
        except NotFoundError:
            if run_ids is not None:
                raise
            continue
        columns |= dict.fromkeys(found)
        beside = {name: getattr(run, name) for name in extra_columns}
        rows += [{**row, **beside} for row in held] if beside else held
    if not columns:
        raise NotFoundError(f"no run of experiment {experiment_id} has a table {table!r:.200}")
    return pandas.DataFrame(rows, columns=[*columns, *extra_columns], dtype=object).infer_objects()


def _runs(source: Source, run_ids: Sequence[str] | None, experiment_id: str) -> Iterator[RunRecord]:
    if run_ids is not None:
        yield from [source.get_run(check_run_id(run_id)) for run_id in run_ids]
        return
    cursor = None
    while True:
        page = source.search_runs([experiment_id], "", (), "active", Page(1000, cursor))
        yield from page.runs
        cursor = page.cursor
        if cursor is None:
            return
