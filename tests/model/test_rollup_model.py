"""A metric's rollup follows from its points alone: any order and grouping of commits gives the same one."""

import asyncio
import math
import sqlite3
import struct
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_schemas import events as ev
from runstream_sink import query
from runstream_sink.store import rollup
from runstream_sink.verify.report import Collector
from runstream_sink.verify.rollups import check_rollups
from support.stores import batch, ingest, opened, reading, run_id

RUN = run_id(1)
NAN = struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]
LARGEST = (1 << 63) - 1
STEPS = (
    st.integers(-3, 40)
    | st.integers(-LARGEST - 1, LARGEST)
    | st.sampled_from([0, 0, 1 << 40, -(1 << 40), LARGEST, -LARGEST - 1])
)
VALUES = st.floats(-100, 100) | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, NAN])
Point = tuple[int, int, float]


def _limits(patch: pytest.MonkeyPatch) -> None:
    """So small that a few points have a rollup, and a few steps a coarser one."""
    patch.setattr(rollup, "ROLLED_ABOVE", 3)
    patch.setattr(rollup, "MAX_BUCKETS", 8)


@st.composite
def commits(draw: st.DrawFn) -> list[list[Point]]:
    """Points in some order and grouping."""
    steps = draw(st.sampled_from([STEPS, st.integers(-3, 40), st.just(7)]))
    points = draw(st.lists(st.tuples(steps, st.integers(0, 2), VALUES), max_size=30))
    cuts = sorted(draw(st.sets(st.integers(0, len(points)), max_size=5)))
    return [points[start:end] for start, end in zip([0, *cuts], [*cuts, len(points)], strict=True)]


async def _apply(directory: Path, groups: list[list[Point]], restarts: set[int]) -> None:
    """One commit a group; the store is opened anew before some of them."""
    seq = 0
    parts: list[list[list[Point]]] = [[]]
    for number, group in enumerate(groups):
        if number in restarts:
            parts.append([])
        parts[-1].append(group)
    for part in parts:
        async with opened(directory) as store:
            for group in part:
                events: list[Any] = [ev.MetricLogged(RUN, "m", value, step, ts) for step, ts, value in group]
                await ingest(store, [batch(b"p" * 16, events, first=seq)])
                seq += len(events)


def _stored(directory: Path) -> list[Any]:
    with closing(sqlite3.connect(directory / "runstream.db")) as connection:
        rollups = connection.execute("SELECT * FROM metric_rollups ORDER BY run, key, bucket").fetchall()
        counts = connection.execute("SELECT points FROM latest_metrics").fetchall()
    return [*rollups, *counts]


def _rank(point: Point) -> tuple[Any, ...]:
    step, timestamp, value = point
    if math.isnan(value):
        return step, timestamp, False, 0.0, struct.unpack(">q", struct.pack(">d", value))[0]
    return step, timestamp, True, value, -1 if math.copysign(1, value) < 0 and value == 0 else 0


def _expected(points: list[Point], width: int) -> list[tuple[Any, ...]]:
    """The buckets, computed from the points in the plainest way."""
    found = []
    for bucket in sorted({step // width for step, _, _ in points}):
        held = sorted((point for point in points if point[0] // width == bucket), key=_rank)
        numbers = [value + 0.0 for _, _, value in held if not math.isnan(value)]  # no -0.0
        found.append(
            (bucket, len(held), len(held) - len(numbers), min(numbers, default=None), max(numbers, default=None))
        )
        found[-1] += (held[0], held[-1])
    return found


def _seen(bucket: query.Bucket, width: int) -> tuple[Any, ...]:
    ends = [(point.step, point.timestamp, point.value) for point in (bucket.first, bucket.last)]
    assert bucket.last_step - bucket.first_step + 1 == width
    assert bucket.first_step % width == 0
    extremes = [value if value is None else value + 0.0 for value in (bucket.min, bucket.max)]
    return bucket.first_step // width, bucket.count, bucket.nans, *extremes, *ends


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_rollup_depends_on_the_points_alone(data: st.DataObject) -> None:
    """In the order given, in another with restarts, and all at once; `verify` agrees, and so do the buckets read."""
    groups = data.draw(commits())
    points = [point for group in groups for point in group]
    shuffled = data.draw(st.permutations(points))
    cut = data.draw(st.integers(0, len(points)))
    restarts = data.draw(st.sets(st.integers(1, 5)))
    buckets = data.draw(st.integers(1, 9))
    first, last = sorted((data.draw(STEPS), data.draw(STEPS)))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as root:
        _limits(patch)
        asyncio.run(_check(Path(root), groups, [shuffled[:cut], shuffled[cut:]], restarts, buckets, (first, last)))


async def _check(
    root: Path,
    groups: list[list[Point]],
    others: list[list[Point]],
    restarts: set[int],
    buckets: int,
    zoom: tuple[int, int],
) -> None:
    points = [point for group in groups for point in group]
    await _apply(root / "a", groups, restarts)
    await _apply(root / "b", others, set())
    await _apply(root / "c", [points], set())
    assert _stored(root / "a") == _stored(root / "b") == _stored(root / "c")
    async with reading(root / "a") as reader:
        collector = Collector()
        await check_rollups(reader, collector)
        assert collector.report().findings == []
        for limits in ((None, None), zoom):
            await _check_buckets(reader, points, buckets, limits)


async def _check_buckets(reader: Any, points: list[Point], buckets: int, limits: tuple[int | None, int | None]) -> None:
    held = [
        point
        for point in points
        if (limits[0] is None or point[0] >= limits[0]) and (limits[1] is None or point[0] <= limits[1])
    ]
    found = await query.metric_buckets(reader, [RUN], "m", buckets=buckets, start_step=limits[0], end_step=limits[1])
    assert list(found) == ([RUN] if points else [])
    got = found.get(RUN, [])
    assert len(got) <= max(buckets, 2)
    width = got[0].last_step - got[0].first_step + 1 if got else 1
    assert repr([_seen(bucket, width) for bucket in got]) == repr(_expected(held, width))
