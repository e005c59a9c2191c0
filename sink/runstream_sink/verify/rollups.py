"""Counts and rollups of metrics, against the points themselves."""

from contextlib import aclosing
from typing import Final

from runstream_sink.store import rollup
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.store.rollup import Summary
from runstream_sink.verify.report import Collector

__all__ = ["check_rollups"]

_ALL: Final = {"first": -(1 << 63), "last": (1 << 63) - 1}


async def check_rollups(reader: StoreReader, collector: Collector) -> None:
    """Every metric has as many points as is said, and the rollup that follows from them."""
    for run_id, key, told, found in await reader.fetch("verify_metric_counts"):
        detail = f"metric {key!r:.250} has {found} points; the store says {told}"
        collector.add("metric_count", f"run {run_id}", detail)
    for row in await reader.fetch("verify_rollups", above=rollup.ROLLED_ABOVE):
        await _check(reader, collector, row)


async def _check(reader: StoreReader, collector: Collector, row: Row) -> None:
    run_id, key, points, scales = row
    expected: dict[int, Summary] = {}
    (extent,) = await reader.fetch("metric_extents", runs=f'["{run_id}"]', key=key)
    _, _, low, high, scale = extent
    if rollup.is_rolled(points) and low is not None:
        right = rollup.fit(low, high)
        async with aclosing(reader.stream("metric_points", run_id=run_id, key=key, **_ALL)) as pages:
            async for page in pages:
                rollup.merge_into(expected, rollup.fold(page, right))
        if scales != 1 or scale != right:
            collector.add("rollup", f"run {run_id}", f"metric {key!r:.250} has no rollup of scale {right} alone")
            return
    held = await reader.fetch("metric_rollup", run_id=run_id, key=key, **_ALL)
    found: dict[int, Summary] = {row[0]: row[1:] for row in held}
    wrong = sorted(bucket for bucket in expected.keys() | found.keys() if expected.get(bucket) != found.get(bucket))
    if wrong:
        detail = f"metric {key!r:.250}: {len(wrong)} buckets of its rollup do not fit its points, such as {wrong[0]}"
        collector.add("rollup", f"run {run_id}", detail)
