"""The rollup of a metric's points into buckets of steps: pure.

A metric that has more than `ROLLED_ABOVE` points keeps, beside them, one summary for each bucket of ``1 << scale``
steps: bucket ``b`` holds the steps from ``b << scale`` to ``((b + 1) << scale) - 1``.  There is one scale at a time,
the least even number with which the buckets from the metric's lowest to its highest step are at most `MAX_BUCKETS`;
when the steps reach further, four neighbours become one.  So everything here follows from the set of points alone,
and `merge` is commutative and associative: no order or grouping of commits can change a rollup.

Points are compared by step, timestamp, value with NaN lowest, and the bits of the value; two that are equal in all of
these are equal to whoever reads them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = [
    "MAX_BUCKETS",
    "ROLLED_ABOVE",
    "PointRow",
    "Summary",
    "coarsen",
    "fit",
    "fold",
    "is_rolled",
    "merge",
    "merge_into",
    "summary_of",
]

ROLLED_ABOVE: Final = 8192
"""Points; a metric that has no more is read whole in a few milliseconds."""
MAX_BUCKETS: Final = 4096
_SCALE_STEP: Final = 2
"""Bits by which a scale grows, so that rewriting a rollup is rare."""


class PointRow(NamedTuple):
    """A point as the store keeps it; see ``points`` for ``value`` and ``bits``."""

    step: int
    timestamp: int
    value: float | None
    bits: int | None


class Summary(NamedTuple):
    """What a bucket says of its points."""

    points: int
    """Of all points."""
    nans: int
    """Of those that are NaN."""
    low: float | None
    """The least value that is no NaN; None if all are."""
    high: float | None
    first: PointRow
    last: PointRow


def is_rolled(points: int) -> bool:
    """Whether a metric of so many points keeps a rollup."""
    return points > ROLLED_ABOVE


def fit(low: int, high: int, scale: int = 0) -> int:
    """The scale for a metric whose lowest and highest buckets at ``scale`` are these."""
    while high - low >= MAX_BUCKETS:
        scale += _SCALE_STEP
        low >>= _SCALE_STEP
        high >>= _SCALE_STEP
    return scale


def fold(points: Sequence[tuple[Any, ...]], scale: int) -> dict[int, Summary]:
    """Summaries by bucket of ``points``: (step, timestamp, value, bits) by ascending step and timestamp."""
    found: dict[int, Summary] = {}
    start = 0
    while start < len(points):
        bucket = points[start][0] >> scale
        end = bisect_left(points, (bucket + 1 << scale,), start)
        found[bucket] = _summary(points[start:end])
        start = end
    return found


def merge(one: Summary, other: Summary) -> Summary:
    """The summary of the points of both."""
    return Summary(
        one.points + other.points,
        one.nans + other.nans,
        _either(min, one.low, other.low),
        _either(max, one.high, other.high),
        min(one.first, other.first, key=_rank),
        max(one.last, other.last, key=_rank),
    )


def merge_into(held: dict[int, Summary], more: Mapping[int, Summary]) -> None:
    """Add the summaries ``more`` to those that are held."""
    for bucket, summary in more.items():
        before = held.get(bucket)
        held[bucket] = summary if before is None else merge(before, summary)


def coarsen(summaries: Iterable[tuple[int, Summary]], bits: int) -> dict[int, Summary]:
    """The same at a scale that is greater by ``bits``."""
    found: dict[int, Summary] = {}
    for bucket, summary in summaries:
        wider = bucket >> bits
        before = found.get(wider)
        found[wider] = summary if before is None else merge(before, summary)
    return found


def summary_of(row: Sequence[Any]) -> Summary:
    """The summary in (count, nans, min, max, and step, timestamp, value, bits of the first and of the last point)."""
    points, nans, low, high = row[:4]
    return Summary(points, nans, low, high, PointRow(*row[4:8]), PointRow(*row[8:12]))


def _summary(points: Sequence[tuple[Any, ...]]) -> Summary:
    values = [point[2] for point in points if point[2] is not None]
    return Summary(
        len(points),
        len(points) - len(values),
        min(values, default=None),
        max(values, default=None),
        _end(points, 0),
        _end(points, -1),
    )


def _end(points: Sequence[tuple[Any, ...]], end: int) -> PointRow:
    """The first (``end`` 0) or last (-1) of points that are sorted by step and timestamp alone."""
    outermost = points[end]
    neighbour = points[1 if end == 0 else -2] if len(points) > 1 else None
    if neighbour is None or neighbour[:2] != outermost[:2]:
        return PointRow(*outermost)
    equals = [PointRow(*point) for point in points if point[:2] == outermost[:2]]
    return min(equals, key=_rank) if end == 0 else max(equals, key=_rank)


def _rank(point: PointRow) -> tuple[Any, ...]:
    return point.step, point.timestamp, point.value is not None, point.value or 0.0, point.bits or 0


def _either(choose: Any, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    chosen: float = choose(one, other)
    return chosen
