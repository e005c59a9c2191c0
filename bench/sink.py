"""What one sink moves from a queue into a store, beside the bare limit of the same machine in the same run.

The limit is what cannot be avoided in one Python process: decode each event with msgspec, then insert its values into
bare SQLite tables, or quote them into CSV files, without identities, competition or recovery.

* Metrics: one table.  Rows of 2 KB, and wide rows of 500 numbers: one file.
* Many tables: 10,000 in one run, with a row each in turn: a file each, opened once.
* Request runs, each with 5 params, 3 metrics and a row: a table for each kind of thing, a directory and a file a run.

Both ours and the limit end when what was written is on the disk.  Ours is a process of its own, and says how much
memory it took at most, above what it had when all was imported (MiB).  Rounds of ours and of the limit take turns; the
figures are medians.  Nothing is removed before the end: for a while ext4 makes new files slowly after that.

Run it by ``make bench``, or for a quick look ``python bench/sink.py --rounds 1 --events 100000``.
"""

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from processes import call, memory_above_import
from timing import print_table, write_json

import runstream
from runstream_schemas.events import MetricLogged, MetricsLogged, ParamsLogged, RowsLogged, RunStarted, decode_event
from runstream_schemas.reader import JournalReader, journal_names
from runstream_sink.tables.files import MAX_SYNCED
from runstream_sink.tables.filesystem import FileSystem

PROMPT = "What does this function return, and why? " * 35
ANSWER = 'It returns "a", then\nstops. ' * 20
TABLES: Final = 10_000
COLUMNS: Final = 500
_BARE: Final = {
    "runs": ("run TEXT PRIMARY KEY", "experiment TEXT", "start INTEGER"),
    "params": ("run TEXT", "key TEXT", "value TEXT"),
    "metrics": ("run TEXT", "key TEXT", "step INTEGER", "timestamp INTEGER", "value REAL"),
}


class Case(NamedTuple):
    """What is logged, how often, and the limit of it."""

    count: int  # type: ignore[assignment]  # tuple.count is of no use here
    log: Callable[[int], None]
    bare: Callable[[Path, Path], float]
    """Does it from a queue to a place; returns seconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--events",
        type=int,
        default=500_000,
        help="metrics; rows are a fifth, rows of many tables a tenth, request runs a 25th, wide rows a 100th of it",
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench/sink.json"))
    options = parser.parse_args()
    cases = {
        "metrics": Case(options.events, _log_metrics, _bare_metrics),
        "2 KB rows": Case(options.events // 5, _log_rows, _bare_rows),
        "many tables": Case(options.events // 10, _log_tables, _bare_rows),
        "wide rows": Case(max(options.events // 100, 10), _log_wide, _bare_rows),
        "request runs": Case(options.events // 25, _log_runs, _bare_runs),
    }
    with tempfile.TemporaryDirectory() as directory:
        results = {name: _measure(Path(directory, name), case, options.rounds) for name, case in cases.items()}
    rows = [
        [name, one["count"], one["ours"], one["limit"], one["ours"] / one["limit"], one["memory"]]
        for name, one in results.items()
    ]
    header = ["", "count", "runstream", "bare limit", "ours / limit", "memory, MiB"]
    print_table("one sink, units a second", header, rows)
    write_json(options.output, results, options)


def _measure(directory: Path, case: Case, rounds: int) -> dict[str, float]:
    queue = directory / "queue"
    runstream.configure(stream=f"queue:{queue}", journal_quota="64GiB")
    case.log(case.count)
    runstream.close()
    ours, limit, memory = [], [], []
    for number in range(rounds):
        told = call("sink", f"queue:{queue}", directory / f"store{number}")
        ours.append(case.count / told["seconds"])
        memory.append(memory_above_import(told))
        limit.append(case.count / case.bare(queue, directory / f"bare{number}"))
    medians = {"ours": statistics.median(ours), "limit": statistics.median(limit), "memory": max(memory)}
    return {"count": case.count, **medians}


def _log_metrics(count: int) -> None:
    with runstream.start_run():
        for step in range(count):
            runstream.log_metric(("loss", "accuracy", "tokens", "latency")[step % 4], step * 0.25, step=step)


def _log_rows(count: int) -> None:
    with runstream.start_run():
        for number in range(count):
            runstream.log_prediction({"id": number, "prompt": PROMPT, "output": ANSWER, "latency_ms": number * 0.5})


def _log_runs(count: int) -> None:
    for number in range(count):
        with runstream.start_run():
            runstream.log_params({"model": "m", "temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "stream": False})
            runstream.log_metrics({"latency_ms": number * 0.5, "prompt_tokens": 12, "completion_tokens": 34})
            runstream.log_prediction({"id": number, "prompt": "short", "output": "answer"})


def _log_tables(count: int) -> None:
    with runstream.start_run():
        for number in range(count):
            runstream.log_prediction({"id": number, "prompt": "short"}, table=f"table-{number % TABLES}")


def _log_wide(count: int) -> None:
    with runstream.start_run():
        for number in range(count):
            runstream.log_prediction({f"column-{column}": (number + column) * 0.5 for column in range(COLUMNS)})


def _bodies(queue: Path) -> Iterator[list[bytes]]:
    for name in journal_names(queue / "journals"):
        reader = JournalReader(queue / "journals" / name)
        while not reader.position.done:
            yield [body for _, _, body in reader.read(8 << 20).records]
        reader.close()


def _bare_metrics(queue: Path, target: Path) -> float:
    chunks = list(_bodies(queue))
    begin = time.perf_counter()
    with closing(_database(target)) as database:
        for chunk in chunks:
            events: list[Any] = [event for event in map(decode_event, chunk) if isinstance(event, MetricLogged)]
            database.execute("BEGIN")
            rows = [(event.run_id, event.key, event.step, event.timestamp, event.value) for event in events]
            database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")
    return time.perf_counter() - begin


def _bare_rows(queue: Path, target: Path) -> float:
    """A file for each table."""
    chunks = list(_bodies(queue))
    begin = time.perf_counter()
    target.mkdir()
    files: set[Path] = set()
    for chunk in chunks:
        lines: dict[Path, list[str]] = {}
        for event in map(decode_event, chunk):
            if isinstance(event, RowsLogged):
                lines.setdefault(target / f"{event.table}.csv", []).extend(map(_line, event.rows))
        for path, some in lines.items():
            with path.open("a") as file:
                file.writelines(some)
        files |= lines.keys()
    _sync(files)
    return time.perf_counter() - begin


def _bare_runs(queue: Path, target: Path) -> float:
    """Rows of a table for each kind of thing, a directory and a file a run; one sync of the files a commit."""
    chunks = list(_bodies(queue))
    begin = time.perf_counter()
    target.mkdir()
    with closing(_database(target / "database")) as database:
        for chunk in chunks:
            events = [decode_event(body) for body in chunk]
            files = {target / event.run_id / "rows.csv": event for event in events if isinstance(event, RowsLogged)}
            for path, event in files.items():
                path.parent.mkdir()
                path.write_text("".join(map(_line, [event.columns, *event.rows])))
            _sync(files)
            _insert_runs(database, events)
    return time.perf_counter() - begin


def _insert_runs(database: sqlite3.Connection, events: list[Any]) -> None:
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _BARE}
    for event in events:
        if isinstance(event, RunStarted):
            rows["runs"].append((event.run_id, event.experiment_id, event.start_time))
        elif isinstance(event, ParamsLogged):
            rows["params"] += [(event.run_id, key, value) for key, value in event.params.items()]
        elif isinstance(event, MetricsLogged):
            rows["metrics"] += [
                (event.run_id, key, event.step, event.timestamp, value) for key, value in event.metrics.items()
            ]
    database.execute("BEGIN")
    for table, columns in _BARE.items():
        marks = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows[table])
    database.execute("COMMIT")


def _database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    for table, columns in _BARE.items():
        database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    return database


def _sync(files: Collection[Path]) -> None:
    """Few files each, many by their file system."""
    fs = FileSystem()
    for path in files if len(files) <= MAX_SYNCED else [next(iter(files))]:
        descriptor = fs.open(path, os.O_RDONLY)
        (fs.sync if len(files) <= MAX_SYNCED else fs.sync_file_system)(descriptor)
        fs.close(descriptor)


def _line(row: Iterable[object]) -> str:
    return ",".join(map(_cell, row)) + "\n"


def _cell(value: object) -> str:
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    main()
