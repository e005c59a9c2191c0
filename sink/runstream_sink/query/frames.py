"""``runstream.load_table``: rows of logged tables as a pandas DataFrame, as MLflow gives them."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import check_run_id, table_name
from runstream_sink.location import StoreLocation
from runstream_sink.query.claims import ClaimedValues
from runstream_sink.query.records import NotFoundError, Run
from runstream_sink.query.runs import get_run, list_runs
from runstream_sink.query.tables import get_table, iter_table
from runstream_sink.store.protocol import StoreReader
from runstream_sink.store.reading import open_reader

__all__ = ["load_table"]

_OF_RUN = ("run_id", "experiment_id", "status", "start_time", "end_time")


def load_table(
    store: str,
    artifact_file: str,
    run_ids: Sequence[str] | None,
    extra_columns: Sequence[str] | None,
    experiment_id: str,
    references: bool = False,
) -> Any:
    """The rows of a table of several runs, one below the other, as a pandas DataFrame.

    ``run_ids`` None: all active runs of the experiment that have the table.  ``extra_columns``: fields of the run to
    put beside each of its rows.  ``references`` leaves the references to large values that the table holds; else the
    values are read from their artifacts.  Values are typed as the table's columns are; None stays None.  Raises
    `NotFoundError` if no run has the table.
    """
    import pandas

    wanted = list(extra_columns or ())
    unknown = sorted(set(wanted) - set(_OF_RUN))
    if unknown:
        raise InvalidInputError(f"extra column {unknown[0]!r} is no field of a run; take of {', '.join(_OF_RUN)}")
    with ThreadPoolExecutor(1) as pool:  # a loop of its own, wherever the caller may be
        location = StoreLocation.parse(store)
        work = _load(location, artifact_file, run_ids, wanted, experiment_id, references=references)
        columns, rows = pool.submit(asyncio.run, work).result()
    return pandas.DataFrame(rows, columns=columns, dtype=object).infer_objects()


async def _load(
    location: StoreLocation,
    artifact_file: str,
    run_ids: Sequence[str] | None,
    extra: list[str],
    experiment_id: str,
    *,
    references: bool,
) -> tuple[list[str], list[dict[str, Any]]]:
    reader = await open_reader(location)
    try:
        columns: dict[str, None] = {}
        rows: list[dict[str, Any]] = []
        for run in await _runs(reader, run_ids, experiment_id):
            try:
                table = await get_table(reader, run.run_id, artifact_file)
            except NotFoundError:
                if run_ids is not None:
                    raise
                continue
            columns |= dict.fromkeys(table.columns)
            beside = {name: getattr(run, name) for name in extra}
            claimed = ClaimedValues(reader, run.run_id, location.artifacts)
            async for batch in iter_table(reader, table):
                if not references:
                    await claimed.fill_in(batch)
                rows += [{**row, **beside} for row in batch]
        if not columns:
            raise NotFoundError(f"no run of experiment {experiment_id} has a table {table_name(artifact_file)!r:.200}")
        return [*columns, *extra], rows
    finally:
        await reader.close()


async def _runs(reader: StoreReader, run_ids: Sequence[str] | None, experiment_id: str) -> list[Run]:
    if run_ids is not None:
        return [await get_run(reader, check_run_id(run_id)) for run_id in run_ids]
    runs: list[Run] = []
    cursor = None
    while True:
        page = await list_runs(reader, experiment_id=experiment_id, limit=1000, cursor=cursor)
        runs += page.runs
        cursor = page.cursor
        if cursor is None:
            return runs
