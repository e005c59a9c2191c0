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
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

__all__ = [
    "MAX_BUCKETS",
    "ROLLED_ABOVE",
    "Summary",
    "coarsen",
    "fit",
    "fold",
    "is_rolled",
    "merge",
    "merge_into",
]

ROLLED_ABOVE: Final = 16_384
"""Points; a metric that has no more is read whole in some ten milliseconds."""
MAX_BUCKETS: Final = 2048
_SCALE_STEP: Final = 2
"""Bits by which a scale grows, so that rewriting a rollup is rare."""
_value: Final = itemgetter(-2)


Summary = tuple[Any, ...]
"""What a bucket says of its points, as its row says it: how many there are, how many of them are NaN, the least and the
greatest value of the others (None if there are none); of the first point, then of the last, step, timestamp, value and
bits (see ``points``)."""


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


def fold(rows: Sequence[tuple[Any, ...]], scale: int) -> dict[int, Summary]:
    """Summaries by bucket of points of one metric, by ascending step and timestamp.

    A row is step, timestamp, whatever else, value, bits.
    """
    found: dict[int, Summary] = {}
    start, end = 0, len(rows)
    while start < end:
        bucket = rows[start][0] >> scale
        following = bisect_left(rows, (bucket + 1 << scale,), start)
        found[bucket] = _summary(rows[start:following])
        start = following
    return found


def merge(one: Summary, other: Summary) -> Summary:
    """The summary of the points of both."""
    return (
        one[0] + other[0],
        one[1] + other[1],
        _either(min, one[2], other[2]),
        _either(max, one[3], other[3]),
        *min(one[4:8], other[4:8], key=_rank),
        *max(one[8:], other[8:], key=_rank),
    )


def merge_into(held: dict[int, Summary], more: Mapping[int, Summary]) -> None:
    """Add the summaries ``more`` to those that are held."""
    for bucket, summary in more.items():
        before = held.get(bucket)
        held[bucket] = summary if before is None else merge(before, summary)


def coarsen(rows: Sequence[tuple[Any, ...]], bits: int) -> dict[int, Summary]:
    """Summaries at a scale that is greater by ``bits``; ``rows`` are (bucket, *summary) by ascending bucket."""
    found: dict[int, Summary] = {}
    start, end = 0, len(rows)
    while start < end:
        bucket = rows[start][0] >> bits
        following = bisect_left(rows, (bucket + 1 << bits,), start)
        found[bucket] = _wider(rows[start:following])
        start = following
    return found


def _wider(rows: Sequence[tuple[Any, ...]]) -> Summary:
    """The summary of buckets that ascend."""
    if len(rows) == 1:
        return rows[0][1:]
    _, points, nans, lows, highs, *_ = zip(*rows, strict=True)
    low = min((value for value in lows if value is not None), default=None)
    high = max((value for value in highs if value is not None), default=None)
    return sum(points), sum(nans), low, high, *rows[0][5:9], *rows[-1][9:]


def _summary(rows: Sequence[tuple[Any, ...]]) -> Summary:
    values: list[Any] = list(map(_value, rows))
    nans = 0
    try:
        low, high = min(values), max(values)
    except TypeError:  # there is NaN, which is None here
        numbers = [value for value in values if value is not None]
        low, high, nans = min(numbers, default=None), max(numbers, default=None), len(values) - len(numbers)
    if low is None:
        nans = len(values)
    return len(values), nans, low, high, *_end(rows, 0, 1), *_end(rows, -1, -2)


def _end(rows: Sequence[tuple[Any, ...]], end: int, neighbour: int) -> tuple[Any, ...]:
    """The point at one end of rows that are sorted by step and timestamp alone."""
    outermost = rows[end]
    at = outermost[:2]
    if len(rows) == 1 or rows[neighbour][:2] != at:
        return at + outermost[-2:]
    equals = [at + row[-2:] for row in rows if row[:2] == at]
    return min(equals, key=_rank) if end == 0 else max(equals, key=_rank)


def _rank(point: tuple[Any, ...]) -> tuple[Any, ...]:
    step, timestamp, value, bits = point
    return step, timestamp, value is not None, value or 0.0, bits or 0


def _either(choose: Any, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    chosen: float = choose(one, other)
    return chosen
