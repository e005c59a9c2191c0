"""How fast the history of a metric with a million points is read in 1,000 buckets, beside a scan of its points.

Points of several shapes: one a step, steps far apart, steps beyond and below zero, all at one step.  The limit is what
one SQL statement takes that groups the same points by step.  Rounds take turns; figures are medians in milliseconds.

Run it by ``make bench``, or for a quick look ``python bench/history.py --rounds 3 --points 100000``.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from timing import print_table, write_json

import runstream
from runstream_schemas.errors import RunstreamError
from runstream_sink import config, query
from runstream_sink.location import StoreLocation
from runstream_sink.service import replay
from runstream_sink.store import SqliteReader, open_reader

RUN = "0" * 31 + "1"
BUCKETS = 1000
SHAPES: Final[dict[str, Callable[[int], int]]] = {
    "one a step": lambda number: number,
    "far apart": lambda number: number * 1_000_003,
    "around zero": lambda number: number * 7919 % 1_000_003 - 500_000,
    "one step": lambda _: 7,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("build/bench/history.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(_measure(Path(directory), options.points, options.rounds))
    rows = [[name, *one.values(), one["scan"] / one["buckets"]] for name, one in results.items()]
    header = ["steps", "1,000 buckets", "a tenth of the steps", "page of 1,000", "scan", "scan / buckets"]
    print_table(f"{options.points:,} points, milliseconds", header, rows)
    write_json(options.output, results)


async def _measure(directory: Path, points: int, rounds: int) -> dict[str, dict[str, float]]:
    location = StoreLocation.parse(str(directory / "store"))
    await fill(location, points)
    reader = await open_reader(location)
    try:
        return {shape: await _shape(reader, location, shape, points, rounds) for shape in SHAPES}
    finally:
        await reader.close()


async def _shape(
    reader: SqliteReader, location: StoreLocation, shape: str, points: int, rounds: int
) -> dict[str, float]:
    steps = sorted(map(SHAPES[shape], range(points)))
    zoom = steps[points // 2], steps[points // 2 + points // 10]
    middle = f"{steps[points // 2]}:0:0:0:0"
    taken: dict[str, list[float]] = {name: [] for name in ("buckets", "zoom", "page", "scan")}
    for _ in range(rounds):
        begin = time.perf_counter()
        found = await query.metric_buckets(reader, [RUN], shape, BUCKETS)
        taken["buckets"].append(time.perf_counter() - begin)
        if sum(bucket.count for bucket in found[RUN]) != points:
            raise RunstreamError(f"{shape}: the buckets do not hold all points")
        begin = time.perf_counter()
        await query.metric_buckets(reader, [RUN], shape, BUCKETS, *zoom)
        taken["zoom"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await query.metric_page(reader, RUN, shape, 1000, middle)
        taken["page"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        _scan(location, shape, (steps[-1] - steps[0]) // BUCKETS + 1)
        taken["scan"].append(time.perf_counter() - begin)
    return {name: statistics.median(times) * 1000 for name, times in taken.items()}


def _scan(location: StoreLocation, key: str, width: int) -> list[Any]:
    with closing(sqlite3.connect(location.database)) as connection:
        return connection.execute(
            "SELECT step / ?, count(*), min(value), max(value) FROM metrics"
            " WHERE key = (SELECT id FROM keys WHERE name = ?) AND run = 1 GROUP BY step / ?",
            (width, key, width),
        ).fetchall()


async def fill(location: StoreLocation, points: int) -> None:
    """A store in which one run has a metric of each shape: logged, and applied by a sink."""
    with tempfile.TemporaryDirectory() as queue:
        runstream.configure(stream=f"queue:{queue}", journal_quota="64GiB")
        run = runstream.start_run(run_id=RUN)
        for key, step_of in SHAPES.items():
            for at in range(points):
                run.log_metric(key, at * 0.5, step=step_of(at), timestamp=at)
        run.end()
        runstream.close()
        await replay(config.resolve(stream=f"queue:{queue}", store=location.text), lambda _: None)


if __name__ == "__main__":
    main()
