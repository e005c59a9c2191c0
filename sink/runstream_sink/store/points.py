"""Metric points as rows: doubles bit for bit, and which point of a metric is its latest."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from operator import itemgetter
from typing import Any, Final

from runstream_sink.changes import MetricPoint

__all__ = ["bits_of", "latest_point", "latest_row", "metric_rows", "value_of"]

_DOUBLE: Final = struct.Struct(">d")
_INTEGER: Final = struct.Struct(">q")
_IDENTITY: Final = struct.Struct(">16sQI")
_VALUE: Final = itemgetter(2)


def bits_of(value: float) -> int:
    """The double's 64 bits, as a signed integer."""
    bits: int = _INTEGER.unpack(_DOUBLE.pack(value))[0]
    return bits


def value_of(value: float | None, bits: int | None) -> float:
    """The double that a row's ``value`` and ``bits`` hold."""
    if bits is not None:
        value = _DOUBLE.unpack(_INTEGER.pack(bits))[0]
    return value  # type: ignore[return-value]


def metric_rows(
    metrics: Mapping[tuple[str, str], Iterable[MetricPoint]],
    runs: Mapping[str, int],
    keys: Mapping[str, int],
    producers: Mapping[bytes, int],
) -> list[tuple[Any, ...]]:
    """Rows of the table ``metrics``, in the order of its primary key, in which they are inserted fastest."""
    rows: list[tuple[Any, ...]] = []
    for (run_id, name), points in metrics.items():
        run, key = runs[run_id], keys[name]
        rows += [
            (run, key, step, timestamp, producers[producer_id], seq, idx, value, None)
            if value and value == value  # noqa: PLR0124 - NaN differs from itself
            else (run, key, step, timestamp, producers[producer_id], seq, idx, *_exact(value))
            for step, timestamp, value, producer_id, seq, idx in points
        ]
    rows.sort()
    return rows


def latest_point(points: Sequence[MetricPoint]) -> MetricPoint:
    """The greatest by step, timestamp, value (NaN lowest) and identity, which is the order of the fields."""
    if any(map(isnan, map(_VALUE, points))):
        return max(points, key=_rank)
    return max(points)


def latest_row(run: int, key: int, point: MetricPoint) -> tuple[Any, ...]:
    """A row of the table ``latest_metrics``."""
    step, timestamp, value, *identity = point
    return (run, key, step, timestamp, *_exact(value), _IDENTITY.pack(*identity))


def _rank(point: MetricPoint) -> tuple[Any, ...]:
    step, timestamp, value, *identity = point
    return step, timestamp, not isnan(value), 0.0 if isnan(value) else value, *identity


def _exact(value: float) -> tuple[float | None, int | None]:
    """``value`` and ``bits`` of a row: SQLite has no NaN and keeps -0.0 as 0.0."""
    if value != value:  # noqa: PLR0124 - NaN differs from itself
        return None, bits_of(value)
    bits = bits_of(value) if value == 0.0 else 0
    return value, bits or None
