"""All points of some steps of a metric, where they are few."""

from contextlib import aclosing
from typing import Final

from runstream_sink.query.records import Point
from runstream_sink.store.points import value_of
from runstream_sink.store.protocol import StoreReader

__all__ = ["metric_points"]

_LEAST: Final = -(1 << 63)
_LARGEST: Final = (1 << 63) - 1


async def metric_points(
    reader: StoreReader, run_id: str, key: str, start_step: int | None, end_step: int | None, most: int
) -> list[Point] | None:
    """The points from ``start_step`` to ``end_step``, both included, by step, then timestamp; None: more than ``most``.

    There are none where there is no such run or metric.
    """
    first = _LEAST if start_step is None else start_step
    last = _LARGEST if end_step is None else end_step
    points: list[Point] = []
    async with aclosing(reader.stream("metric_points", run_id=run_id, key=key, first=first, last=last)) as pages:
        async for rows in pages:
            points += [Point(value_of(value, bits), step, time) for step, time, value, bits in rows]
            if len(points) > most:
                return None
    return points
