"""What queries return.  Times are milliseconds since the epoch unless a name says otherwise."""

from msgspec import Struct

from runstream_schemas.errors import NotFoundError
from runstream_schemas.journal_status import Loss
from runstream_sink.tables.parts import Part
from runstream_sink.tables.types import ColumnType

__all__ = [
    "Artifact",
    "Comparison",
    "Counts",
    "DeadLetterRecord",
    "Experiment",
    "ExperimentPage",
    "Loss",
    "NotFoundError",
    "Point",
    "Position",
    "Run",
    "RunPage",
    "Table",
]


class Experiment(Struct, frozen=True):
    """An experiment; one that nobody created, and a run names, has no name and no creation time."""

    experiment_id: str
    name: str | None
    creation_time: int | None
    lifecycle: str
    """``active`` or ``deleted``."""
    tags: dict[str, str]
    last_update_time: int | None = None
    """When it was created, renamed, deleted or restored last."""


class ExperimentPage(Struct, frozen=True):
    """Some experiments, and the cursor that the next page begins at (None: there is none)."""

    experiments: list[Experiment]
    cursor: str | None


class Point(Struct, frozen=True):
    """One point of a metric."""

    value: float
    step: int
    timestamp: int


class Run(Struct, frozen=True):
    """A run; what its events have not told yet is None."""

    run_id: str
    experiment_id: str | None
    name: str | None
    user: str | None
    status: str | None
    start_time: int | None
    end_time: int | None
    lifecycle: str
    """``active`` or ``deleted``: the later of the run's own last such event and of its experiment's."""
    params: dict[str, str]
    metrics: dict[str, Point]
    """The latest point of each."""
    tags: dict[str, str]


class RunPage(Struct, frozen=True):
    """Some runs, and the cursor that the next page begins at (None: there is none)."""

    runs: list[Run]
    cursor: str | None


class Comparison(Struct, frozen=True):
    """Runs side by side: the value of each key in each run, in the order of ``runs``; None where a run has none."""

    runs: list[Run]
    params: dict[str, list[str | None]]
    metrics: dict[str, list[float | None]]


class Artifact(Struct, frozen=True):
    """A file of a run; ``file`` is the name under which its bytes lie."""

    path: str
    sha256: str
    size: int
    media_type: str | None
    file: str


class Table(Struct, frozen=True):
    """A table of a run; columns as first seen."""

    name: str
    rows: int
    columns: dict[str, ColumnType]
    parts: list[Part]


class Position(Struct, frozen=True):
    """How far a part of a stream was applied."""

    stream: str
    part: str
    position: str


class Counts(Struct, frozen=True):
    """What a store holds.  ``dead_letters``: those that were not retried."""

    runs: int
    experiments: int
    producers: int
    events: int
    dead_letters: int
    lost_events: int


class DeadLetterRecord(Struct, frozen=True):
    """An event that could not be decoded or applied."""

    id: int
    producer_id: str
    seq: int
    emit_ts: int
    """Nanoseconds since the epoch."""
    reason: str
    detail: str
    size: int
    """Bytes of ``raw``."""
    at: int
    retried: int | None
    raw: bytes = b""
    """Empty in lists."""
