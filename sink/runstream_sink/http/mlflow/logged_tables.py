"""Searching runs as MLflow's client does for `load_table`: by a tag in which its ``log_table`` notes each table.

Here runs have tables without such a tag.  The term is recognised, and answered by the tables that runs have.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import is_experiment_id
from runstream_sink.query.records import NotFoundError, Run, RunPage
from runstream_sink.query.runs import search_runs
from runstream_sink.query.tables import get_table
from runstream_sink.store.protocol import StoreReader

__all__ = ["search_with_tables"]

_TAG: Final = "mlflow.loggedArtifacts"
_TERM: Final = re.compile(
    r"""tags\.mlflow\.loggedArtifacts\ LIKE\ '%"path"%:%"(?P<file>[^']+?)",%"type"%:%"table"%'(?:\ and\ )?""",
    re.VERBOSE,
)


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
