"""Reading a store from a program that has no event loop for it: what ``runstream.get_run`` and the like call.

Found by the entry point ``open_source`` of the group ``runstream.reading``, since the producer never imports the sink.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from runstream_sink import query
from runstream_sink.location import StoreLocation
from runstream_sink.query.claims import ClaimedValues
from runstream_sink.query.operations import is_applied
from runstream_sink.query.records import (
    Artifact,
    Experiment,
    ExperimentPage,
    NotFoundError,
    Run,
    RunPage,
)
from runstream_sink.status import sink_process
from runstream_sink.store.protocol import StoreReader
from runstream_sink.store.reading import open_reader

__all__ = ["StoreSource", "open_source"]

T = TypeVar("T")


def open_source(store: str) -> "StoreSource":
    """What reads a store; it is opened by each question anew, so that it may come into being later."""
    return StoreSource(StoreLocation.parse(store))


class StoreSource:
    """Questions to a store.  Thread-safe; each raises what `open_reader` and the query of its name raise."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location

    def search_runs(
        self,
        experiment_ids: Sequence[str] | None,
        text: str,
        order_by: Sequence[str],
        lifecycle: str,
        limit: int,
        cursor: str | None,
    ) -> RunPage:
        """See `query.search_runs`."""
        return self._ask(query.search_runs, experiment_ids, text, order_by, lifecycle, limit, cursor)

    def search_experiments(
        self, text: str, order_by: Sequence[str], lifecycle: str, limit: int, cursor: str | None
    ) -> ExperimentPage:
        """See `query.search_experiments`."""
        return self._ask(query.search_experiments, text, order_by, lifecycle, limit, cursor)

    def get_run(self, run_id: str) -> Run:
        """See `query.get_run`."""
        return self._ask(query.get_run, run_id)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """See `query.get_experiment`."""
        return self._ask(query.get_experiment, experiment_id)

    def get_experiment_by_name(self, name: str) -> Experiment:
        """See `query.get_experiment_by_name`."""
        return self._ask(query.get_experiment_by_name, name)

    def metric_page(self, run_id: str, key: str, limit: int, cursor: str | None) -> query.PointPage:
        """See `query.metric_page`.  Raises `NotFoundError` for a run that is not there."""

        async def find(reader: StoreReader) -> query.PointPage:
            await query.get_run(reader, run_id)
            return await query.metric_page(reader, run_id, key, limit, cursor)

        return self._ask(find)

    def list_artifacts(self, run_id: str) -> list[Artifact]:
        """See `query.list_artifacts`.  Raises `NotFoundError` for a run that is not there."""

        async def find(reader: StoreReader) -> list[Artifact]:
            await query.get_run(reader, run_id)
            return await query.list_artifacts(reader, run_id)

        return self._ask(find)

    def download(self, run_id: str, path: str, target: Path) -> None:
        """Copy an artifact into a file.  Raises `NotFoundError`."""
        for held in self.list_artifacts(run_id):
            if held.path == path:
                shutil.copyfile(self._location.artifacts / run_id / held.file, target)
                return
        raise NotFoundError(f"run {run_id} has no artifact {path!r:.200}")

    def load_table(self, table: str, run_id: str, references: bool) -> tuple[list[str], list[dict[str, Any]]]:
        """The columns and all rows of a table, with large values in place unless ``references`` to them are wanted."""

        async def load(reader: StoreReader) -> tuple[list[str], list[dict[str, Any]]]:
            await query.get_run(reader, run_id)
            found = await query.get_table(reader, run_id, table)
            claimed = ClaimedValues(reader, run_id, self._location.artifacts)
            rows: list[dict[str, Any]] = []
            async for batch in query.iter_table(reader, found):
                if not references:
                    await claimed.fill_in(batch)
                rows += batch
            return list(found.columns), rows

        return self._ask(load)

    def artifact_uri(self, run_id: str) -> str:
        """The directory of a run's artifacts."""
        return f"{self._location.artifacts}/{run_id}"

    def is_applied(self, producer_id: bytes, seq: int) -> bool:
        """See `operations.is_applied`."""
        return self._ask(is_applied, producer_id, seq)

    def is_fed(self) -> bool:
        """Whether a sink holds the store."""
        return sink_process(self._location) is not None

    def _ask(self, question: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async def answer() -> T:
            reader = await open_reader(self._location)
            try:
                return await question(reader, *arguments)
            finally:
                await reader.close()

        with ThreadPoolExecutor(1) as pool:  # a loop of its own, wherever the caller may be
            return pool.submit(asyncio.run, answer()).result()
