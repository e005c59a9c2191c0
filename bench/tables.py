"""How fast pages of a table with five million rows are read, far back in it, filtered, sorted and searched.

The limit is DuckDB's own query of the same CSV files.  The first page of ours converts the files, once; the others find
that done.  Rounds take turns; figures are medians in milliseconds.

Run it by ``make bench``, or for a quick look ``python bench/tables.py --rounds 1 --rows 500000``.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import duckdb
from timing import print_table, write_json

from runstream_sink.changes import Changes
from runstream_sink.location import StoreLocation
from runstream_sink.query import table_page
from runstream_sink.store import Commit, SqliteReader, SqliteStore, open_reader
from runstream_sink.tables.cells import header_line
from runstream_sink.tables.parts import Part, TableState
from runstream_sink.tables.types import ColumnType

RUN = "0" * 31 + "1"
PARTS = 4
COLUMNS: Final = {
    "id": ColumnType.INT,
    "model": ColumnType.TEXT,
    "score": ColumnType.FLOAT,
    "text": ColumnType.TEXT,
}
AT_ONCE = 10_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--output", type=Path, default=Path("build/bench/tables.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(_measure(Path(directory), options.rows, options.rounds))
    rows = [[name, one["ours"], one["limit"], one["limit"] / one["ours"]] for name, one in results.items()]
    print_table(
        f"{options.rows:,} rows, milliseconds", ["page of 100 rows", "runstream", "DuckDB on CSV", "ratio"], rows
    )
    write_json(options.output, results)


def _cases(rows: int) -> dict[str, tuple[dict[str, Any], str]]:
    """By name, what `table_page` is asked, and the end of the SQL for the same."""
    last = rows // 100 * 99
    filtered = "score > 0.01 AND model != 'model-3'"
    return {
        "the last page": ({"offset": rows - 100}, f"LIMIT 100 OFFSET {rows - 100}"),
        "far back, filtered": (
            {"filter": filtered, "offset": last * 5 // 6},
            f"WHERE {filtered} ORDER BY id LIMIT 100 OFFSET {last * 5 // 6}",
        ),
        "far back, sorted": (
            {"order_by": ["score DESC"], "offset": last},
            f"ORDER BY score DESC, id LIMIT 100 OFFSET {last}",
        ),
        "searched": ({"search": "NUMBER 77 "}, "WHERE text ILIKE '%number 77 %' ORDER BY id LIMIT 100"),
    }


async def _measure(directory: Path, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    location = StoreLocation.parse(str(directory / "store"))
    await fill(location, rows)
    reader = await open_reader(location)
    try:
        begin = time.perf_counter()
        await table_page(reader, location.artifacts, RUN, "t", filter="score > 0.5")
        print(f"the first page, with the conversion: {(time.perf_counter() - begin) * 1000:,.0f} ms")
        taken: dict[str, dict[str, list[float]]] = {name: {"ours": [], "limit": []} for name in _cases(rows)}
        for _ in range(rounds):
            for name, case in _cases(rows).items():
                await _once(reader, location, case, taken[name])
        return {
            name: {which: statistics.median(times) * 1000 for which, times in one.items()}
            for name, one in taken.items()
        }
    finally:
        await reader.close()


async def _once(
    reader: SqliteReader, location: StoreLocation, case: tuple[dict[str, Any], str], taken: dict[str, list[float]]
) -> None:
    options, sql = case
    begin = time.perf_counter()
    page = await table_page(reader, location.artifacts, RUN, "t", **options)
    taken["ours"].append(time.perf_counter() - begin)
    begin = time.perf_counter()
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        query = f"SELECT id FROM read_csv('{location.artifacts / RUN}/*.csv', header = true) {sql}"
        found = [row[0] for row in connection.execute(query).fetchall()]
    taken["limit"].append(time.perf_counter() - begin)
    if [row["id"] for row in page.rows] != found:
        raise ValueError(f"{sql}: the rows differ")


async def fill(location: StoreLocation, rows: int) -> None:
    """A store whose table was written by nobody: its files and the rows that speak of them."""
    store = SqliteStore(location)
    await store.open()
    folder = location.artifacts / RUN
    folder.mkdir(parents=True)
    each = rows // PARTS
    parts = [_write(folder, number, range(number * each, (number + 1) * each)) for number in range(PARTS)]
    state = TableState(RUN, "t", dict(COLUMNS), each * PARTS, None, PARTS)
    changes = Changes(run_ids={RUN})
    await store.commit(Commit(changes, tables=[state], parts=[(RUN, "t", part) for part in parts]))
    await store.close()


def _write(folder: Path, number: int, rows: range) -> Part:
    path = folder / f"t.part-{number + 1:04d}.csv"
    origin = f"2026-11-24T05:00:00.123456Z,{'ab' * 16}"
    with path.open("w") as file:
        file.write(f"{header_line(COLUMNS)}\n")
        for start in range(rows.start, rows.stop, AT_ONCE):
            file.writelines(
                f"{row},model-{row % 7},{row * 7919 % 1000003 / 1000003!r},"
                f"answer number {row % 1000} of many,{origin}:{row}:0\n"
                for row in range(start, min(start + AT_ONCE, rows.stop))
            )
    types = tuple(COLUMNS.values())
    return Part(number + 1, f"{RUN}/{path.name}", tuple(COLUMNS), types, path.stat().st_size, len(rows), closed=True)


if __name__ == "__main__":
    main()
