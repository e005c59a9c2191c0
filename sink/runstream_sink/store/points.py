"""Metric points as rows: doubles bit for bit, and which point of a metric is its latest."""

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from runstream_sink.changes import MetricPoint

__all__ = ["bits_of", "identity_of", "latest_points", "latest_row", "metric_rows", "value_of"]

_DOUBLE: Final = struct.Struct(">d")
_INTEGER: Final = struct.Struct(">q")
_IDENTITY: Final = struct.Struct(">16sQI")


def bits_of(value: float) -> int:
    """The double's 64 bits, as a signed integer."""
    bits: int = _INTEGER.unpack(_DOUBLE.pack(value))[0]
    return bits


def value_of(value: float | None, bits: int | None) -> float:
    """The double that a row's ``value`` and ``bits`` hold."""
    if bits is not None:
        value = _DOUBLE.unpack(_INTEGER.pack(bits))[0]
    return value  # type: ignore[return-value]


def identity_of(point: MetricPoint) -> bytes:
    """A point's identity, as bytes that compare as (producer_id, seq, index) does."""
    return _IDENTITY.pack(point.producer_id, point.seq, point.index)


def metric_rows(
    points: Iterable[MetricPoint], runs: Mapping[str, int], keys: Mapping[str, int], producers: Mapping[bytes, int]
) -> list[tuple[Any, ...]]:
    """Rows of the table ``metrics``, in the order of its primary key, in which they are inserted fastest."""
    rows = [
        (
            *(runs[run_id], keys[key], step, timestamp, producers[producer_id], seq, index),
            *((value, None) if value and value == value else _exact(value)),  # noqa: PLR0124 - NaN differs from itself
        )
        for run_id, key, step, timestamp, value, producer_id, seq, index in points
    ]
    rows.sort()
    return rows


def latest_points(points: Iterable[MetricPoint]) -> dict[tuple[str, str], MetricPoint]:
    """The latest point of each (run_id, key): the greatest by step, timestamp, value (NaN lowest), identity."""
    latest: dict[tuple[str, str], MetricPoint] = {}
    for point in points:
        key = (point.run_id, point.key)
        held = latest.get(key)
        if held is None or point.step > held.step or (point.step == held.step and _rank(point) > _rank(held)):
            latest[key] = point
    return latest


def latest_row(run: int, key: int, point: MetricPoint) -> tuple[Any, ...]:
    """A row of the table ``latest_metrics``."""
    return (run, key, point.step, point.timestamp, *_exact(point.value), identity_of(point))


def _rank(point: MetricPoint) -> tuple[int, bool, float, bytes]:
    value = point.value
    number = value == value  # noqa: PLR0124 - NaN differs from itself
    return point.timestamp, number, value if number else 0.0, identity_of(point)


def _exact(value: float) -> tuple[float | None, int | None]:
    """``value`` and ``bits`` of a row: SQLite has no NaN and keeps -0.0 as 0.0."""
    if value != value:  # noqa: PLR0124 - NaN differs from itself
        return None, bits_of(value)
    bits = bits_of(value) if value == 0.0 else 0
    return value, bits or None
