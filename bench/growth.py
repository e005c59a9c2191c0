"""How the time of each kind of work grows with its amount: 1x, 10x and 100x of it, and the exponent.

An exponent of 1 is time in proportion to the amount, 0 is time that does not depend on it.  What is called so here is
the greater of two: the slope of a line through the logarithms of all three, and that between the last two, since fixed
costs hide growth at small sizes.

* work: logging metrics, rows of 2 KB and runs of requests (5 params, 3 metrics, a row); the sink from such a queue
  (``sink --once``); the replay of runs into a fresh store; converting a table for its first page.
* pages: the first page of searches among more and more runs, of a history in 1,000 buckets, of a table; besides, the
  last page of the table.

Rounds of all sizes take turns; the figures are medians, in milliseconds.  What one work has written is on the disk
before the next begins.  ``--share`` makes all of it smaller; searches that do not fill their page at each size then
count for nothing.  Rows of 2 KB have a bare limit: as many bytes written to a file, which are in the page cache then.

Run it by ``make bench``, or for a quick look ``python bench/growth.py --share 0.1 --rounds 1``.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import history
import search
import tables
from processes import call, log
from timing import exponent, print_table, steep, write_json

from runstream_sink import query
from runstream_sink.location import StoreLocation
from runstream_sink.query import table_page
from runstream_sink.store import open_reader

EVENTS: Final = {"metrics": 20_000, "2 KB rows": 4_000, "request runs": 200}
RUNS, POINTS, ROWS = 1_000, 10_000, 50_000
SEARCHES: Final = (
    *("the newest", "a metric that many have", "metric and param", "two metrics and a param"),
    *("the best by a metric", "the best of a model"),
)
"""Those of the benchmark ``search`` that fill a page at each size."""
LOOKS = 9
WORK, BARE, PAGE, SHORT_PAGE, FAR_PAGE = "work", "bare", "page", "short page", "far page"


class Taken:
    """What was measured: milliseconds by case and scale, and of which kind a case is."""

    def __init__(self) -> None:
        self._times: dict[str, dict[int, list[float]]] = {}
        self._kinds: dict[str, str] = {}

    def note(self, kind: str, case: str, scale: int, milliseconds: float) -> None:
        """One measurement; a case with a short page at any scale stays one."""
        self._times.setdefault(case, {}).setdefault(scale, []).append(max(milliseconds, 1e-6))
        if self._kinds.get(case) != SHORT_PAGE:
            self._kinds[case] = kind

    def results(self) -> dict[str, dict[str, Any]]:
        """By case."""
        found = {}
        for kind in (WORK, BARE, PAGE, SHORT_PAGE, FAR_PAGE):
            for case in [name for name, held in self._kinds.items() if held == kind]:
                scales, taken = zip(*self._times[case].items(), strict=True)
                medians = list(map(statistics.median, taken))
                slopes = {"slope": exponent(scales, medians), "exponent": steep(scales, medians)}
                found[case] = {"kind": kind, "milliseconds": medians, **slopes}
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scales", type=int, default=3, help="how many, each ten times the one before")
    parser.add_argument("--share", type=float, default=1, help="of the amounts")
    parser.add_argument("--output", type=Path, default=Path("build/bench/growth.json"))
    options = parser.parse_args()
    scales = [10**power for power in range(options.scales)]
    taken = Taken()
    # Nothing is removed before the end: for a while ext4 makes new files slowly after that.
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(_pages(Path(tempfile.mkdtemp(dir=made)), 1, options.share, Taken()))  # loads libraries
        for number, scale in itertools.product(range(options.rounds), scales):
            print(f"round {number + 1} of {options.rounds}, {scale}x", flush=True)
            directory = Path(made, f"{number}-{scale}")
            directory.mkdir()
            _work(directory, scale, options.share, taken)
            asyncio.run(_pages(directory, scale, options.share, taken))
        results = taken.results()
        rows = [[name, *one["milliseconds"], one["slope"], one["exponent"]] for name, one in results.items()]
        header = ["", *(f"{scale}x, ms" for scale in scales), "slope of all", "exponent"]
        print_table("growth", header, rows)
        write_json(options.output, results, options)


def _work(directory: Path, scale: int, share: float, taken: Taken) -> None:
    for kind, base in EVENTS.items():
        count = max(int(base * share), 4) * scale
        queue = directory / kind.replace(" ", "-")
        stream = f"queue:{queue}"
        os.sync()
        emitted = log(stream, kind, count)
        taken.note(WORK, f"log {kind}", scale, emitted["seconds"] * 1000)
        os.sync()
        consumed = call("sink_once", stream, f"{queue}-store")
        taken.note(WORK, f"sink, {kind}", scale, consumed["seconds"] * 1000)
        if kind == "2 KB rows":
            os.sync()
            size = sum(file.stat().st_size for file in queue.rglob("*.seg"))
            written = call("write", f"{queue}-bare", size)
            taken.note(BARE, "bare: the bytes of 2 KB rows", scale, written["seconds"] * 1000)
        if kind == "request runs":
            os.sync()
            taken.note(WORK, "replay, request runs", scale, call("sink", stream, f"{queue}-replayed")["seconds"] * 1000)


async def _pages(directory: Path, scale: int, share: float, taken: Taken) -> None:
    await _searches(directory / "search", max(int(RUNS * share), 10) * scale, scale, taken)
    await _history(StoreLocation.parse(str(directory / "history")), max(int(POINTS * share), 10) * scale, scale, taken)
    await _table(StoreLocation.parse(str(directory / "table")), max(int(ROWS * share), 400) * scale, scale, taken)


async def _searches(store: Path, runs: int, scale: int, taken: Taken) -> None:
    search.make_store(store, runs)
    for name, found in (await search.measure(store, LOOKS, SEARCHES)).items():
        kind = PAGE if found["found"] == search.PAGE else SHORT_PAGE
        taken.note(kind, f"search, {name}", scale, found["p50"])


async def _history(location: StoreLocation, points: int, scale: int, taken: Taken) -> None:
    await history.fill(location, points)
    reader = await open_reader(location)
    for shape in history.SHAPES:
        looks = []
        for _ in range(LOOKS):
            begin = time.perf_counter()
            await query.metric_buckets(reader, [history.RUN], shape, history.BUCKETS)
            looks.append((time.perf_counter() - begin) * 1000)
        taken.note(PAGE, f"history, {shape}", scale, statistics.median(looks))
    await reader.close()


async def _table(location: StoreLocation, rows: int, scale: int, taken: Taken) -> None:
    await tables.fill(location, rows)
    reader = await open_reader(location)

    async def look(**asked: Any) -> float:
        begin = time.perf_counter()
        await table_page(reader, location.artifacts, tables.RUN, "t", **asked)
        return (time.perf_counter() - begin) * 1000

    # A filter has the files converted, and that is most of the first look; pages in the order of the rows need it not.
    taken.note(WORK, "converting a table", scale, await look(filter="score > 0.5"))
    taken.note(PAGE, "table, the first page", scale, statistics.median([await look() for _ in range(LOOKS)]))
    last = [await look(offset=rows - 100) for _ in range(LOOKS)]
    taken.note(FAR_PAGE, "table, the last page", scale, statistics.median(last))
    await reader.close()


if __name__ == "__main__":
    main()
