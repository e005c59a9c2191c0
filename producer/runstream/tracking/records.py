"""What a source gives, whether it came as JSON or from the store.  Times are milliseconds since the epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

__all__ = [
    "ArtifactRecord",
    "ExperimentPage",
    "ExperimentRecord",
    "Page",
    "Point",
    "PointPage",
    "RunPage",
    "RunRecord",
    "Source",
]


class Point(Struct, frozen=True):
    """One point of a metric; JSON has words for what is not finite, which ``float()`` takes."""

    value: float | str
    step: int
    timestamp: int


class RunRecord(Struct, frozen=True):
    """A run; what its events have not told yet is None."""

    run_id: str
    experiment_id: str | None
    name: str | None
    user: str | None
    status: str | None
    start_time: int | None
    end_time: int | None
    lifecycle: str
    params: dict[str, str]
    metrics: dict[str, Point]
    tags: dict[str, str]


class RunPage(Struct, frozen=True):
    """Some runs, and where the next page begins."""

    runs: list[RunRecord]
    cursor: str | None


class ExperimentRecord(Struct, frozen=True):
    """An experiment."""

    experiment_id: str
    name: str | None
    creation_time: int | None
    lifecycle: str
    tags: dict[str, str]
    last_update_time: int | None = None


class ExperimentPage(Struct, frozen=True):
    """Some experiments, and where the next page begins."""

    experiments: list[ExperimentRecord]
    cursor: str | None


class PointPage(Struct, frozen=True):
    """Points by step, then timestamp, and where the next page begins."""

    points: list[Point]
    cursor: str | None


class ArtifactRecord(Struct, frozen=True):
    """A file of a run."""

    path: str
    size: int
    sha256: str
    media_type: str | None


class Source(Protocol):
    """Where runs are read from.  Thread-safe.

    What is not there raises `NotFoundError`, a filter, order, id or cursor that is none `InvalidInputError`, a sink or
    store that does not answer `EnvironmentUnavailableError`.
    """

    def search_runs(
        self, experiment_ids: Sequence[str] | None, text: str, order_by: Sequence[str], lifecycle: str, page: "Page"
    ) -> RunPage:
        """A page of the runs of some experiments (None: of all) that meet MLflow's filter."""

    def search_experiments(self, text: str, order_by: Sequence[str], lifecycle: str, page: "Page") -> ExperimentPage:
        """A page of the experiments that meet MLflow's filter."""

    def get_run(self, run_id: str) -> RunRecord:
        """One run."""

    def get_experiment(self, experiment_id: str) -> ExperimentRecord:
        """One experiment."""

    def get_experiment_by_name(self, name: str) -> ExperimentRecord:
        """The experiment with that name."""

    def metric_page(self, run_id: str, key: str, page: "Page") -> PointPage:
        """Points of a metric; none where the run has no such metric."""

    def list_artifacts(self, run_id: str) -> list[ArtifactRecord]:
        """All artifacts of a run, by path."""

    def download(self, run_id: str, path: str, target: Path) -> None:
        """Write an artifact's bytes into a file, whose directory exists."""

    def load_table(self, table: str, run_id: str, *, references: bool) -> tuple[list[str], list[Mapping[str, Any]]]:
        """The columns and all rows of a table."""

    def artifact_uri(self, run_id: str) -> str:
        """Where the artifacts of a run lie, for people to read."""

    def is_applied(self, producer_id: bytes, seq: int) -> bool:
        """Whether the sink has applied an event, be it as a dead letter."""

    def is_fed(self) -> bool:
        """Whether a sink may be applying events to it now; False where surely none is."""


class Page(Struct, frozen=True):
    """Which page: at most ``limit`` items from behind ``cursor``."""

    limit: int = 1000
    cursor: str | None = None
