"""The tag in which MLflow's ``log_table`` notes each table of a run, and searches by it, as `load_table` makes them.

MLflow's UI shows as a table what the tag calls one.  Runs that were logged with runstream have tables without such a
tag, so it is made when a run is read, and the term of a search is answered by the tables that runs have.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import is_experiment_id
from runstream_sink.query.records import NotFoundError, Run, RunPage
from runstream_sink.query.runs import search_runs
from runstream_sink.query.tables import get_table, table_names
from runstream_sink.store.protocol import StoreReader

__all__ = ["note_tables", "search_with_tables"]

_TAG: Final = "mlflow.loggedArtifacts"
_LONGEST: Final = 5000
"""Characters of the tag; MLflow's client makes it no longer either."""
_TERM: Final = re.compile(
    r"""tags\.mlflow\.loggedArtifacts\ LIKE\ '%"path"%:%"(?P<file>[^']+?)",%"type"%:%"table"%'(?:\ and\ )?""",
    re.VERBOSE,
)


async def note_tables(reader: StoreReader, runs: Sequence[Run]) -> None:
    """Add to the runs' tags the one that names their tables, beside what MLflow's client has noted there."""
    names = await table_names(reader, [run.run_id for run in runs])
    for run in runs:
        if run.run_id in names:
            run.tags[_TAG] = _noted(run.tags.get(_TAG, ""), names[run.run_id])


def _noted(tag: str, names: Iterable[str]) -> str:
    """The tag with further tables, as many as it may hold; one that is no list of files stays as it is."""
    try:
        entries = msgspec.json.decode(tag or "[]", type=list[dict[str, Any]])
    except msgspec.MsgspecError:
        return tag
    known = {entry.get("path") for entry in entries}
    for path in (f"{name}.json" for name in names):
        if path not in known:
            entries.append({"path": path, "type": "table"})
            longer = json.dumps(entries)
            if len(longer) > _LONGEST:
                break
            tag = longer
    return tag


async def search_with_tables(
    reader: StoreReader,
    experiment_ids: Sequence[str],
    filter: str,  # noqa: A002 - as MLflow calls it
    order_by: Iterable[str],
    lifecycle: str,
    limit: int,
    cursor: str | None,
) -> RunPage:
    """`search_runs`, for that term too.  Ids that no experiment can have find nothing."""
    term = _TERM.search(filter)
    rest = filter if term is None else filter[: term.start()] + filter[term.end() :]
    ids = [experiment_id for experiment_id in experiment_ids if is_experiment_id(experiment_id)]
    uri = f"mlflow-artifacts:/{ids[0]}/{{run_id}}/artifacts" if len(ids) == 1 else None
    order = list(order_by)
    found: list[Run] = []
    while True:
        wanted = limit - len(found)
        page = await search_runs(reader, ids, rest, order, lifecycle, wanted, cursor, artifact_uri=uri)
        await note_tables(reader, page.runs)
        if term is None:
            return page
        found += [run for run in page.runs if await _has_table(reader, run, term["file"])]
        cursor = page.cursor
        if cursor is None or len(found) == limit:
            return RunPage(found, cursor)


async def _has_table(reader: StoreReader, run: Run, file: str) -> bool:
    noted = rf'"path".*:.*"{re.escape(file)}",.*"type".*:.*"table"'
    if re.search(noted, run.tags.get(_TAG, ""), re.DOTALL):
        return True
    try:
        await get_table(reader, run.run_id, file)
    except (NotFoundError, InvalidInputError):
        return False
    return True
