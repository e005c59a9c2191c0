"""Histories of metrics: page by page, and as buckets of steps for charts."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from msgspec import Struct

from runstream_schemas.errors import InvalidInputError
from runstream_sink.query.json_text import json_text
from runstream_sink.query.records import Point
from runstream_sink.store.points import value_of
from runstream_sink.store.protocol import StoreReader
from runstream_sink.store.rollup import Summary, coarsen, fold, merge_into

__all__ = ["Bucket", "Metric", "PointPage", "list_metrics", "metric_buckets", "metric_page"]

_STEP_BITS: Final = 63
_LEAST: Final = -(1 << _STEP_BITS)
_LARGEST: Final = (1 << _STEP_BITS) - 1
_BEGINNING: Final = (_LEAST, _LEAST, -1, -1, -1)
_NAMES: Final = ("step", "timestamp", "producer", "seq", "idx")
_ENOUGH: Final = 4
"""A rollup that gives a quarter of the buckets that were asked for is taken rather than the points themselves."""
_FEW: Final = 32
"""Where there are very many points, so few buckets are taken rather than these."""
_VERY_MANY: Final = 200_000


class Metric(Struct, frozen=True):
    """A metric of a run: how many points it has, and the latest one."""

    key: str
    points: int
    latest: Point


class PointPage(Struct, frozen=True):
    """Some points, and the cursor that the next page begins at (None: there is none)."""

    points: list[Point]
    cursor: str | None


class Bucket(Struct, frozen=True):
    """What the points of some steps have in common."""

    first_step: int
    """The first step that the bucket covers, whether a point is there or not."""
    last_step: int
    count: int
    """Of all points."""
    nans: int
    """Of the points whose value is NaN, which ``min`` and ``max`` leave out."""
    min: float | None
    """None where all values are NaN."""
    max: float | None
    first: Point
    """By step, timestamp, then value with NaN lowest, as the latest point of a metric is found."""
    last: Point


class _Extent(NamedTuple):
    """Where the points of a run's metric lie; ``scale`` is that of its rollup, None without one."""

    run_id: str
    points: int
    low: int
    high: int
    scale: int | None


async def list_metrics(reader: StoreReader, run_id: str) -> list[Metric]:
    """The metrics of a run, by key; none where there is no such run."""
    rows = await reader.fetch("metrics_of_run", run_id=run_id)
    return [Metric(key, points, Point(value_of(value, bits), *at)) for key, points, value, bits, *at in rows]


async def metric_page(
    reader: StoreReader, run_id: str, key: str, limit: int = 1000, cursor: str | None = None
) -> PointPage:
    """Points of a metric, by step, then timestamp, then identity; none where there is no such run or metric.

    ``cursor`` is that of the page before; a point that comes meanwhile is on a later page or, if it stands before the
    cursor, on none, and no point is on two.  Raises `InvalidInputError` for a cursor that is none.
    """
    behind = dict(zip(_NAMES, _position(cursor), strict=True))
    rows = await reader.fetch("metric_page", run_id=run_id, key=key, limit=limit + 1, **behind)
    page = rows[:limit]
    following = ":".join(map(str, page[-1][2:])) if len(rows) > limit and page else None
    return PointPage([Point(value_of(value, bits), step, time) for value, bits, step, time, *_ in page], following)


async def metric_buckets(
    reader: StoreReader,
    run_ids: Sequence[str],
    key: str,
    buckets: int = 1000,
    start_step: int | None = None,
    end_step: int | None = None,
) -> dict[str, list[Bucket]]:
    """A metric's points from ``start_step`` to ``end_step``, both included, as buckets that hold one or more.

    All buckets of all runs have the same width, a power of two, and begin at multiples of it, so that charts do not
    jump while points arrive.  They are at most ``buckets``, or two where that is less; they are fewer where the steps
    are few, or a small part of those of a metric with very many points.  A run without such a metric is left out.
    Raises `InvalidInputError` for less than one bucket.
    """
    if buckets < 1:
        raise InvalidInputError(f"{buckets} buckets are none; ask for one or more")
    async with reader.snapshot() as frozen:
        rows = await frozen.fetch("metric_extents", runs=json_text(list(dict.fromkeys(run_ids))), key=key)
        extents = [_Extent(*row) for row in rows]
        clipped = {extent.run_id: _clip(extent, start_step, end_step) for extent in extents}
        shown = [extent for extent in extents if clipped[extent.run_id] is not None]
        scale = _common_scale([(extent, *_range(clipped[extent.run_id])) for extent in shown], buckets)
        found: dict[str, list[Bucket]] = {extent.run_id: [] for extent in extents}
        for extent in shown:
            summaries = await _summaries(frozen, key, extent, _range(clipped[extent.run_id]), scale)
            found[extent.run_id] = await asyncio.to_thread(_buckets, summaries, scale)
    return found


def _position(cursor: str | None) -> tuple[int, ...]:
    """The step, timestamp and identity that a page lies behind."""
    if cursor is None:
        return _BEGINNING
    try:
        position = tuple(int(part) for part in cursor.split(":"))
    except ValueError:
        position = ()
    if len(position) != len(_BEGINNING) or not all(_LEAST <= part <= _LARGEST for part in position):
        raise InvalidInputError(f"the cursor {cursor!r:.200} is none; take it from the page before")
    return position


def _clip(extent: _Extent, start: int | None, end: int | None) -> tuple[int, int] | None:
    """The steps of the metric that are asked for; None if there are none."""
    low = extent.low if start is None else max(start, extent.low)
    high = extent.high if end is None else min(end, extent.high)
    return (low, high) if low <= high else None


def _range(clipped: tuple[int, int] | None) -> tuple[int, int]:
    return clipped or (0, -1)


def _common_scale(shown: list[tuple[_Extent, int, int]], buckets: int) -> int:
    """The width of all buckets, as the number of bits that it takes from a step."""
    if not shown:
        return 0
    low, high = min(item[1] for item in shown), max(item[2] for item in shown)
    scale = 0
    while scale < _STEP_BITS and (high >> scale) - (low >> scale) >= buckets:
        scale += 1
    coarse = [
        extent.scale
        for extent, first, last in shown
        if extent.scale is not None and _suffices(extent, extent.scale, (first, last), buckets)
    ]
    return max([scale, *coarse])


def _suffices(extent: _Extent, scale: int, wanted: tuple[int, int], buckets: int) -> bool:
    """Whether a rollup of this scale is fine enough for the steps that are wanted."""
    first, last = wanted
    found = (last >> scale) - (first >> scale) + 1
    points = extent.points * (last - first + 1) // (extent.high - extent.low + 1)
    return found * _ENOUGH >= buckets or (found >= _FEW and points > _VERY_MANY)


async def _summaries(
    reader: StoreReader, key: str, extent: _Extent, wanted: tuple[int, int], scale: int
) -> dict[int, Summary]:
    """Summaries at ``scale`` of the steps ``wanted``: from the rollup, and from points where it does not fit."""
    low, high = wanted
    held = extent.scale
    if held is None or held > scale:
        return await _from_points(reader, extent.run_id, key, wanted, scale)
    first = low >> held if low == extent.low else -(-low >> held)
    last = high >> held if high == extent.high else (high + 1 >> held) - 1
    if first > last:
        return await _from_points(reader, extent.run_id, key, wanted, scale)
    rows = await reader.fetch("metric_rollup", run_id=extent.run_id, key=key, first=first, last=last)
    found = await asyncio.to_thread(coarsen, rows, scale - held)
    for start, end in ((low, (first << held) - 1), (last + 1 << held, high)):
        if start <= end:
            merge_into(found, await _from_points(reader, extent.run_id, key, (start, end), scale))
    return found


async def _from_points(
    reader: StoreReader, run_id: str, key: str, wanted: tuple[int, int], scale: int
) -> dict[int, Summary]:
    found: dict[int, Summary] = {}
    first, last = wanted
    async with aclosing(reader.stream("metric_points", run_id=run_id, key=key, first=first, last=last)) as pages:
        async for rows in pages:
            merge_into(found, await asyncio.to_thread(fold, rows, scale))
    return found


def _buckets(summaries: dict[int, Summary], scale: int) -> list[Bucket]:
    return [_bucket(number, scale, *summary) for number, summary in sorted(summaries.items())]


def _bucket(number: int, scale: int, count: int, nans: int, low: float, high: float, *points: Any) -> Bucket:
    first, last = number << scale, (number + 1 << scale) - 1
    return Bucket(first, last, count, nans, low, high, _point(*points[:4]), _point(*points[4:]))


def _point(step: int, timestamp: int, value: float | None, bits: int | None) -> Point:
    return Point(value_of(value, bits), step, timestamp)
