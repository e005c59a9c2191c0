"""What a group of events changes in a store, before any store is asked.

`Changes` is the only thing that goes from ``apply`` to a store.  Where events compete, each competing field carries
its *order*: 32 bytes that compare as ``(emit_ts, producer_id, seq)`` does.  Within one `Changes` the competition is
already decided; a store decides it against what it holds, by comparing the bytes.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

__all__ = [
    "ARTIFACT_PENDING",
    "ArtifactChange",
    "Changes",
    "DeadLetter",
    "ExperimentCreation",
    "HoleSeen",
    "MetricPoint",
    "Order",
    "RowsEntry",
    "RunStart",
    "RunStatus",
    "TagValue",
    "order_of",
    "origin_of",
]

ARTIFACT_PENDING: Final = "artifact_pending"
"""Why an event is dead that announced an artifact whose bytes have not come."""

_VALUE: Final = 300
_POINT: Final = 150
_ROW: Final = 300
_CELL: Final = 100
"""Bytes, measured; a row's are mostly those of its time and its identity, as text."""

Order = bytes
_ORDER = struct.Struct(">q16sQ")


def order_of(emit_ts: int, producer_id: bytes, seq: int) -> Order:
    """The order of an event, as bytes."""
    return _ORDER.pack(emit_ts, producer_id, seq)


def origin_of(order: Order) -> tuple[int, bytes, int]:
    """The emit_ts, producer_id and seq that an order was made of."""
    emit_ts, producer_id, seq = _ORDER.unpack(order)
    return emit_ts, producer_id, seq


class RunStart(NamedTuple):
    """First wins."""

    order: Order
    experiment_id: str
    start_time: int
    user: str | None


class RunStatus(NamedTuple):
    """Last wins."""

    order: Order
    status: str
    end_time: int | None


class TagValue(NamedTuple):
    """Last wins; a value of None is a tombstone."""

    order: Order
    value: str | None


class ExperimentCreation(NamedTuple):
    """First wins."""

    order: Order
    creation_time: int
    name: str


MetricPoint = tuple[int, int, float, bytes, int, int]
"""One point of a metric: step, timestamp, value, producer_id, seq, idx; its identity is (producer_id, seq, idx).

There are very many: a plain tuple is made fastest, and the garbage collector leaves it alone.
"""


class ArtifactChange(NamedTuple):
    """Last wins."""

    order: Order
    sha256: str
    size: int
    media_type: str | None
    content: bytes | None = None
    """The bytes themselves, where they came with the event."""


class RowsEntry(NamedTuple):
    """Rows of one event; row i is identified by (producer_id, seq, i)."""

    producer_id: bytes
    seq: int
    emit_ts: int
    columns: list[str]
    rows: list[list[Any]]


class DeadLetter(NamedTuple):
    """An event that could not be decoded or applied."""

    producer_id: bytes
    seq: int
    emit_ts: int
    reason: str
    """A word to group by: ``corrupt``, ``undecodable``, ``unknown_type``, ``invalid``, ``artifact_missing``, ..."""
    detail: str
    raw: bytes


class HoleSeen(NamedTuple):
    """Seqs that hold no event, see `runstream_schemas.segment.Hole`."""

    producer_id: bytes
    first: int
    last: int
    reason: str


@dataclass
class Changes:
    """Everything that a group of events changes."""

    events: int = 0
    """Events that were new, dead ones included."""
    duplicates: int = 0
    """Events that had been seen before."""
    seen: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    """By producer_id, the intervals of seqs that are new."""
    experiments: dict[str, ExperimentCreation] = field(default_factory=dict)
    experiment_names: dict[str, TagValue] = field(default_factory=dict)
    """By experiment_id; the last renaming wins, and stands before the name of the creation."""
    experiment_tags: dict[tuple[str, str], TagValue] = field(default_factory=dict)
    experiment_lifecycles: dict[str, TagValue] = field(default_factory=dict)
    """By experiment_id; the value is ``active`` or ``deleted``."""
    run_ids: set[str] = field(default_factory=set)
    """Every run that is named by any event here; a run without a start becomes a placeholder."""
    run_starts: dict[str, RunStart] = field(default_factory=dict)
    run_names: dict[str, TagValue] = field(default_factory=dict)
    run_statuses: dict[str, RunStatus] = field(default_factory=dict)
    run_lifecycles: dict[str, TagValue] = field(default_factory=dict)
    params: dict[tuple[str, str], TagValue] = field(default_factory=dict)
    """By (run_id, key); first wins."""
    tags: dict[tuple[str, str], TagValue] = field(default_factory=dict)
    metrics: dict[tuple[str, str], list[MetricPoint]] = field(default_factory=dict)
    """By (run_id, key)."""
    artifacts: dict[tuple[str, str], ArtifactChange] = field(default_factory=dict)
    """By (run_id, path)."""
    rows: dict[tuple[str, str], list[RowsEntry]] = field(default_factory=dict)
    """By (run_id, table)."""
    losses: dict[tuple[bytes, int, str], int] = field(default_factory=dict)
    """By (producer_id, segment, reason): events dropped by the producer; the greatest count holds."""
    holes: list[HoleSeen] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    resolved: set[tuple[bytes, int]] = field(default_factory=set)
    """(producer_id, seq) of events that announced an artifact of which the end is known now: no longer dead."""

    def memory(self) -> int:
        """About how many bytes of memory this takes, and what is made of it on its way into a store.

        What lies within a value is not looked at: text, of which there are as many bytes in the events, and lists.
        """
        values = len(self.run_ids) + len(self.params) + len(self.tags) + len(self.metrics)
        points = sum(map(len, self.metrics.values()))
        rows = sum(
            len(entry.rows) * (_ROW + _CELL * len(entry.columns)) for held in self.rows.values() for entry in held
        )
        return _VALUE * values + _POINT * points + rows
