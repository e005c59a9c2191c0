"""Reading straight from the store, where the sink's package is installed.

What reads it is found by the entry point ``open_source`` of the group ``runstream.reading``: an object with the methods
of `Source`, which gives structs of the same fields.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from msgspec import convert

from runstream.tracking.records import (
    ArtifactRecord,
    ExperimentPage,
    ExperimentRecord,
    Page,
    PointPage,
    RunPage,
    RunRecord,
)
from runstream_schemas.errors import EnvironmentUnavailableError

__all__ = ["LocalSource"]


class LocalSource:
    """A `Source` that reads a store, as ``RUNSTREAM_STORE`` names it."""

    def __init__(self, store: str) -> None:
        try:
            opening = entry_points(group="runstream.reading")["open_source"].load()
        except (ImportError, KeyError) as error:
            raise EnvironmentUnavailableError(
                f"reading needs RUNSTREAM_URL, or the sink's package: pip install 'runstream[sink]' ({error})"
            ) from error
        self._held = opening(store)

    def search_runs(
        self, experiment_ids: Sequence[str] | None, text: str, order_by: Sequence[str], lifecycle: str, page: Page
    ) -> RunPage:
        """See `Source.search_runs`."""
        found = self._held.search_runs(experiment_ids, text, order_by, lifecycle, page.limit, page.cursor)
        return convert(found, RunPage, from_attributes=True)

    def search_experiments(self, text: str, order_by: Sequence[str], lifecycle: str, page: Page) -> ExperimentPage:
        """See `Source.search_experiments`."""
        found = self._held.search_experiments(text, order_by, lifecycle, page.limit, page.cursor)
        return convert(found, ExperimentPage, from_attributes=True)

    def get_run(self, run_id: str) -> RunRecord:
        """See `Source.get_run`."""
        return convert(self._held.get_run(run_id), RunRecord, from_attributes=True)

    def get_experiment(self, experiment_id: str) -> ExperimentRecord:
        """See `Source.get_experiment`."""
        return convert(self._held.get_experiment(experiment_id), ExperimentRecord, from_attributes=True)

    def get_experiment_by_name(self, name: str) -> ExperimentRecord:
        """See `Source.get_experiment_by_name`."""
        return convert(self._held.get_experiment_by_name(name), ExperimentRecord, from_attributes=True)

    def metric_page(self, run_id: str, key: str, page: Page) -> PointPage:
        """See `Source.metric_page`."""
        return convert(self._held.metric_page(run_id, key, page.limit, page.cursor), PointPage, from_attributes=True)

    def list_artifacts(self, run_id: str) -> list[ArtifactRecord]:
        """See `Source.list_artifacts`."""
        return convert(self._held.list_artifacts(run_id), list[ArtifactRecord], from_attributes=True)

    def download(self, run_id: str, path: str, target: Path) -> None:
        """See `Source.download`."""
        self._held.download(run_id, path, target)

    def load_table(self, table: str, run_id: str, *, references: bool) -> tuple[list[str], list[Mapping[str, Any]]]:
        """See `Source.load_table`."""
        columns, rows = self._held.load_table(table, run_id, references)
        return list(columns), list(rows)

    def artifact_uri(self, run_id: str) -> str:
        """See `Source.artifact_uri`."""
        return str(self._held.artifact_uri(run_id))

    def is_applied(self, producer_id: bytes, seq: int) -> bool:
        """See `Source.is_applied`."""
        return bool(self._held.is_applied(producer_id, seq))

    def is_fed(self) -> bool:
        """See `Source.is_fed`."""
        return bool(self._held.is_fed())
