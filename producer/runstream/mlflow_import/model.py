"""What an import reads, and what it remembers of what it has brought: plain records, and none of MLflow's classes.

Times are milliseconds since the epoch, as MLflow has them; a time that the source lacks is None.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from runstream_schemas.errors import RunstreamError

__all__ = [
    "ExperimentState",
    "ListedFile",
    "NotBroughtError",
    "RunState",
    "Source",
    "SourceExperiment",
    "SourceRun",
    "TableState",
]


class NotBroughtError(RunstreamError):
    """The source does not give one thing; it may give all else."""


class SourceExperiment(Struct, frozen=True):
    """An experiment as the source has it."""

    experiment_id: str
    name: str
    created: int | None
    updated: int | None
    deleted: bool
    tags: dict[str, str]


class SourceRun(Struct, frozen=True):
    """A run as a search of the source gives it: without the histories of its metrics and without its files."""

    run_id: str
    name: str | None
    user: str | None
    status: str
    started: int | None
    ended: int | None
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]
    """Those that keep its inputs are among them."""
    latest: dict[str, tuple[float, int, int]]
    """By key: value, timestamp and step of the latest point."""


class ListedFile(NamedTuple):
    """An artifact of a run."""

    path: str
    size: int | None


class Source(Protocol):
    """A tracking store of MLflow's.  `history`, `files` and `download` are called by several threads.

    Every method raises `EnvironmentUnavailableError` where the source as a whole does not answer, or refuses; those
    three raise `NotBroughtError` where it does not give what they are asked for.
    """

    address: str
    """What it is called, without passwords."""

    def experiments(self, *, deleted: bool) -> Iterator[SourceExperiment]:
        """All experiments; deleted ones if asked for."""

    def runs(self, experiment_id: str, *, deleted: bool) -> Iterator[SourceRun]:
        """All runs of an experiment, the oldest first; deleted ones if asked for."""

    def history(self, run_id: str, key: str) -> Iterable[tuple[int, int, float]]:
        """Step, timestamp and value of all points of a metric."""

    def files(self, run_id: str) -> Iterator[ListedFile]:
        """All artifacts of a run."""

    def download(self, run_id: str, path: str, directory: Path) -> Path:
        """Fetch an artifact into an empty directory."""


class TableState(Struct):
    """What was brought of a logged table."""

    size: int | None
    """Bytes of its file."""
    rows: int
    digest: bytes
    """Of the rows."""


class ExperimentState(Struct):
    """What was brought of an experiment."""

    experiment_id: str
    """Its id here."""
    name: str
    clock: int
    """The last emit_ts of its events."""
    tags: dict[str, str] = field(default_factory=dict)
    deleted: bool = False


class RunState(Struct):
    """What was brought of a run."""

    base: int
    """The first emit_ts of its events."""
    clock: int
    """The last emit_ts of its events, its points and rows aside."""
    name: str | None = None
    status: tuple[str, int | None] = ("RUNNING", None)
    deleted: bool = False
    params: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    points: int = 0
    files: dict[str, tuple[int | None, str]] = field(default_factory=dict)
    """By path: the size that the source told, and the SHA-256 of the artifacts."""
    tables: dict[str, TableState] = field(default_factory=dict)
    """By path of the file."""
