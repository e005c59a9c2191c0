"""Metric points as rows: doubles bit for bit, and which point of a metric is its latest."""

import sqlite3
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from math import copysign, isnan
from typing import Any, Final

from runstream_sink.changes import MetricPoint
from runstream_sink.store.statements import ROWS_AT_ONCE, execute_all, execute_sharing

__all__ = [
    "Metric",
    "Points",
    "bits_of",
    "insert_points",
    "latest_point",
    "latest_row",
    "points_by_metric",
    "value_of",
]

_DOUBLE: Final = struct.Struct(">d")
_INTEGER: Final = struct.Struct(">q")
_IDENTITY: Final = struct.Struct(">16sQI")

Metric = tuple[int, int]
"""The integers of run and key."""


def bits_of(value: float) -> int:
    """The double's 64 bits, as a signed integer."""
    bits: int = _INTEGER.unpack(_DOUBLE.pack(value))[0]
    return bits


def value_of(value: float | None, bits: int | None) -> float:
    """The double that a row's ``value`` and ``bits`` hold."""
    if bits is not None:
        value = _DOUBLE.unpack(_INTEGER.pack(bits))[0]
    return value  # type: ignore[return-value]


class Points:
    """Points of one metric by step and timestamp; ``columns`` if there are many, and alike: see `_columns`."""

    __slots__ = ("columns", "points")

    def __init__(self, points: Iterable[MetricPoint]) -> None:
        self.points = sorted(points)
        self.columns = _columns(self.points) if len(self.points) >= ROWS_AT_ONCE else None

    def __len__(self) -> int:
        return len(self.points)

    def value_rows(self) -> list[tuple[Any, ...]]:
        """Rows of step, timestamp, value and bits, of which a rollup is made."""
        if self.columns is not None:
            return list(zip(*self.columns[:3], repeat(None)))
        return [(step, timestamp, *_exact(value)) for step, timestamp, value, *_ in self.points]


def points_by_metric(
    metrics: Mapping[tuple[str, str], Iterable[MetricPoint]], runs: Mapping[str, int], keys: Mapping[str, int]
) -> dict[Metric, Points]:
    """The points of metrics in the order of the table ``metrics``, in which they are inserted fastest."""
    found = {(runs[run_id], keys[key]): points for (run_id, key), points in metrics.items()}
    return {metric: Points(found[metric]) for metric in sorted(found)}


def insert_points(
    connection: sqlite3.Connection, metrics: Mapping[Metric, Points], producers: Mapping[bytes, int]
) -> None:
    """Insert points; those that are there stay."""
    rows: list[tuple[Any, ...]] = []
    for (run, key), held in metrics.items():
        done = 0
        if held.columns is not None:
            steps, timestamps, values, (producer_id, *_), seqs, (idx, *_) = held.columns
            shared, own = (run, key, producers[producer_id], idx), (steps, timestamps, seqs, values)
            done = execute_sharing(connection, "insert_alike_metrics", shared, own)
        rows += [
            (run, key, step, timestamp, producers[producer_id], seq, idx, *_exact(value))
            for step, timestamp, value, producer_id, seq, idx in (held.points[done:] if done else held.points)
        ]
    execute_all(connection, "insert_metric", rows)


def latest_point(points: Sequence[MetricPoint]) -> MetricPoint:
    """The greatest by step, timestamp, value (NaN lowest) and identity, of points by step and timestamp."""
    last = points[-1]
    if len(points) == 1 or points[-2][:2] != last[:2]:
        return last
    return max(points[bisect_left(points, last[:2]) :], key=_rank)


def latest_row(metric: Metric, point: MetricPoint) -> tuple[Any, ...]:
    """A row of the table ``latest_metrics``."""
    step, timestamp, value, *identity = point
    return (*metric, step, timestamp, *_exact(value), _IDENTITY.pack(*identity))


def _columns(points: Sequence[MetricPoint]) -> tuple[tuple[Any, ...], ...] | None:
    """Points that have the same producer and idx, and values that need no ``bits``, field by field; None for others."""
    columns = tuple(zip(*points, strict=True))
    _, _, values, producer_ids, _, indices = columns
    count = len(points)
    if producer_ids.count(producer_ids[0]) < count or indices.count(indices[0]) < count or isnan(sum(values)):
        return None
    if 0.0 in values and any(value == 0.0 and copysign(1.0, value) < 0.0 for value in values):
        return None
    return columns


def _rank(point: MetricPoint) -> tuple[Any, ...]:
    step, timestamp, value, *identity = point
    return step, timestamp, not isnan(value), 0.0 if isnan(value) else value, *identity


def _exact(value: float) -> tuple[float | None, int | None]:
    """``value`` and ``bits`` of a row: SQLite has no NaN and keeps -0.0 as 0.0."""
    if value != value:  # noqa: PLR0124 - NaN differs from itself
        return None, bits_of(value)
    bits = bits_of(value) if value == 0.0 else 0
    return value, bits or None
