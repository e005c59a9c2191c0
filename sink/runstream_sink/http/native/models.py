"""What the native API takes and gives.  Times are milliseconds since the epoch unless a name says otherwise."""

import math
from typing import Annotated, Any, Final, Literal

from litestar.params import QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType

from runstream_sink.query import Bucket as QueryBucket
from runstream_sink.query import Experiment, Run
from runstream_sink.query import Metric as QueryMetric
from runstream_sink.query import Point as QueryPoint

__all__ = [
    "AppliedOut",
    "Bucket",
    "BucketQuery",
    "Buckets",
    "Comparison",
    "DeadLetter",
    "DeadLetters",
    "ExperimentChange",
    "ExperimentPage",
    "ExperimentSearch",
    "Int64",
    "Lifecycle",
    "Limit",
    "LimitQuery",
    "Logged",
    "Metric",
    "Metrics",
    "NewExperiment",
    "NewPoint",
    "NewRows",
    "NewRun",
    "Number",
    "Point",
    "PointPage",
    "RowPage",
    "RunBatch",
    "RunChange",
    "RunIds",
    "RunOut",
    "RunPage",
    "RunSearch",
    "StepQuery",
    "StoreInfo",
    "StoredArtifact",
    "StoredArtifacts",
    "StoredTable",
    "StoredTables",
    "Tags",
    "number",
    "point",
    "run",
    "value_of",
]

_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""JSON has no NaN and no infinities: these words stand for them."""
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Limit = Annotated[int, Meta(ge=1, le=10_000, description="Most items of the page.")]
LimitQuery = Annotated[int, QueryParameter(ge=1, le=10_000, description="Most items of the page.")]
StepQuery = Annotated[int | None, QueryParameter(ge=-(1 << 63), le=(1 << 63) - 1)]
Lifecycle = Literal["active", "deleted", "all"]
Text = Annotated[str, Meta(max_length=1 << 20)]
Tags = dict[str, Text]
Id = Annotated[str, Meta(description="Decimal, below 2**63.", examples=["0"])]
RunId = Annotated[str, Meta(description="32 hexadecimal digits.", examples=["0194fdc2fa2f7fcc841d6e9e2f1e0a3b"])]


def number(value: float) -> Number:
    """A double as JSON can say it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def value_of(given: Number) -> float:
    """The double that was meant."""
    return _WORDS[given] if isinstance(given, str) else float(given)


class Point(Struct, frozen=True):
    """One point of a metric."""

    value: Number
    step: int
    timestamp: int


def point(held: QueryPoint) -> Point:
    """A point as it is given."""
    return Point(number(held.value), held.step, held.timestamp)


class RunOut(Struct, frozen=True):
    """A run; what its events have not told yet is null."""

    run_id: RunId
    experiment_id: str | None
    name: str | None
    user: str | None
    status: str | None
    start_time: int | None
    end_time: int | None
    lifecycle: str
    params: dict[str, str]
    metrics: dict[str, Point]
    """The latest point of each."""
    tags: dict[str, str]


def run(held: Run) -> RunOut:
    """A run as it is given."""
    return RunOut(
        held.run_id,
        held.experiment_id,
        held.name,
        held.user,
        held.status,
        held.start_time,
        held.end_time,
        held.lifecycle,
        held.params,
        {key: point(latest) for key, latest in held.metrics.items()},
        held.tags,
    )


class RunPage(Struct, frozen=True):
    """Some runs, and the cursor that the next page begins at (null: there is none)."""

    runs: list[RunOut]
    cursor: str | None


class ExperimentPage(Struct, frozen=True):
    """Some experiments, and the cursor that the next page begins at (null: there is none)."""

    experiments: list[Experiment]
    cursor: str | None


class NewExperiment(Struct, frozen=True, forbid_unknown_fields=True):
    """An experiment to be made."""

    name: Annotated[str, Meta(min_length=1, max_length=500, examples=["summaries"])]
    tags: Tags = {}


class ExperimentChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What changes; tags that are not named stay."""

    name: Annotated[str, Meta(min_length=1, max_length=500)] | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class ExperimentSearch(Struct, frozen=True, forbid_unknown_fields=True):
    """MLflow's search grammar."""

    filter: Annotated[str, Meta(max_length=100_000, examples=["name LIKE 'sum%' AND tags.team = 'nlp'"])] = ""
    order_by: list[str] = []
    lifecycle: Lifecycle = "active"
    limit: Limit = 100
    cursor: str | None = None


class RunSearch(Struct, frozen=True, forbid_unknown_fields=True):
    """MLflow's search grammar, over some experiments, or all."""

    experiment_ids: list[Id] | None = None
    filter: Annotated[
        str, Meta(max_length=100_000, examples=["metrics.accuracy > 0.9 AND params.model ILIKE '%8b%'"])
    ] = ""
    order_by: Annotated[list[str], Meta(examples=[["metrics.accuracy DESC"]])] = []
    lifecycle: Lifecycle = "active"
    limit: Limit = 100
    cursor: str | None = None


class NewRun(Struct, frozen=True, forbid_unknown_fields=True):
    """A run to be begun."""

    experiment_id: Id = "0"
    run_id: RunId | None = None
    """By default a new one."""
    name: Text | None = None
    user: Text | None = None
    start_time: Int64 | None = None
    """By default now."""
    tags: Tags = {}


class RunChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What changes.  A final status or an end time ends the run."""

    name: Text | None = None
    status: Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"] | None = None
    end_time: Int64 | None = None


class NewPoint(Struct, frozen=True, forbid_unknown_fields=True):
    """A point to be logged."""

    key: Annotated[str, Meta(min_length=1, max_length=250, examples=["loss"])]
    value: Number
    step: Int64 = 0
    timestamp: Int64 | None = None
    """By default now."""


class NewRows(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows to be appended to a table."""

    table: Annotated[str, Meta(min_length=1, max_length=1000, examples=["predictions"])]
    rows: Annotated[list[dict[str, Any]], Meta(examples=[[{"prompt": "2+2?", "answer": "4"}]])]


class RunBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """All that is to be logged to a run at once."""

    params: Tags = {}
    metrics: list[NewPoint] = []
    tags: Tags = {}
    rows: list[NewRows] = []


class Logged(Struct, frozen=True):
    """How many of each were logged; all are applied."""

    params: int
    metrics: int
    tags: int
    rows: int


class RunIds(Struct, frozen=True, forbid_unknown_fields=True):
    """Runs, in an order."""

    run_ids: Annotated[list[RunId], Meta(min_length=1, max_length=1000)]


class Comparison(Struct, frozen=True):
    """Runs side by side: the value of each key in each run, in the order of ``runs``; null where a run has none."""

    runs: list[RunOut]
    params: dict[str, list[str | None]]
    metrics: dict[str, list[Number | None]]


class Metric(Struct, frozen=True):
    """A metric of a run: how many points it has, and the latest one."""

    key: str
    points: int
    latest: Point

    @classmethod
    def of(cls, held: QueryMetric) -> "Metric":
        """As it is given."""
        return cls(held.key, held.points, point(held.latest))


class Metrics(Struct, frozen=True):
    """The metrics of a run, by key."""

    metrics: list[Metric]


class PointPage(Struct, frozen=True):
    """Points by step, then timestamp, and the cursor that the next page begins at (null: there is none)."""

    points: list[Point]
    cursor: str | None


class Bucket(Struct, frozen=True):
    """What the points of some steps have in common; ``min`` and ``max`` are null where all values are NaN."""

    first_step: int
    last_step: int
    count: int
    nans: int
    min: Number | None
    max: Number | None
    first: Point
    last: Point

    @classmethod
    def of(cls, held: QueryBucket) -> "Bucket":
        """As it is given."""
        low = None if held.min is None else number(held.min)
        high = None if held.max is None else number(held.max)
        return cls(
            held.first_step, held.last_step, held.count, held.nans, low, high, point(held.first), point(held.last)
        )


class BucketQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A metric of several runs, for one chart."""

    run_ids: Annotated[list[RunId], Meta(min_length=1, max_length=1000)]
    key: Annotated[str, Meta(min_length=1, max_length=250)]
    buckets: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    start_step: Int64 | None = None
    end_step: Int64 | None = None


class Buckets(Struct, frozen=True):
    """By run; a run without such a metric is left out."""

    runs: dict[str, list[Bucket]]


class StoredTable(Struct, frozen=True):
    """A table of a run; the types of its columns are null, bool, int, float, text or json."""

    name: str
    rows: int
    bytes: int
    columns: dict[str, str]


class StoredTables(Struct, frozen=True):
    """The tables of a run, by name."""

    tables: list[StoredTable]


class RowPage(Struct, frozen=True):
    """Rows of a table, with the types of their columns."""

    columns: dict[str, str]
    rows: list[dict[str, Any]]
    total: int
    """Rows that the table had when its first page was asked for."""
    matched: int | None
    """Rows that were found, where that was asked for."""
    cursor: str | None


class StoredArtifact(Struct, frozen=True):
    """A file of a run."""

    path: str
    size: int
    sha256: str
    media_type: str | None


class StoredArtifacts(Struct, frozen=True):
    """The artifacts of a run, by path."""

    artifacts: list[StoredArtifact]


class DeadLetter(Struct, frozen=True):
    """An event that could not be decoded or applied; ``raw`` is in base64, and empty in lists."""

    id: int
    producer_id: str
    seq: int
    emit_ts: int
    """Nanoseconds since the epoch."""
    reason: str
    detail: str
    size: int
    at: int
    retried: int | None
    raw: bytes = b""


class DeadLetters(Struct, frozen=True):
    """Some dead letters by ascending id, and the cursor that the next page begins at (null: there is none)."""

    dead_letters: list[DeadLetter]
    cursor: int | None


class AppliedOut(Struct, frozen=True):
    """Whether an event was applied, be it as a dead letter."""

    applied: bool


class StoreInfo(Struct, frozen=True):
    """What a sink and its store are, and what is in it."""

    version: str
    store_id: str
    stream: str
    experiments: int
    runs: int
    producers: int
    events: int
    dead_letters: int
    lost_events: int
