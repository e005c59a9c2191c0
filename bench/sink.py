"""What one sink moves from a queue into a store, beside the bare limit of the same machine in the same run.

The limit is what cannot be avoided in one Python process: decode each event with msgspec, then insert its values into
a bare SQLite table (metrics), or quote them into a CSV file (2 KB rows), without identities, competition or recovery.
Both ours and the limit end when what was written is on the disk.
Rounds of ours and of the limit take turns; the figures are medians.

Run it by ``make bench``, or for a quick look ``python bench/sink.py --rounds 1 --events 100000``.
"""

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from timing import print_table, write_json

import runstream
from runstream_schemas.events import decode_event
from runstream_schemas.reader import JournalReader, journal_names
from runstream_sink import config
from runstream_sink.logging import set_up
from runstream_sink.service import replay

PROMPT = "What does this function return, and why? " * 35
ANSWER = 'It returns "a", then\nstops. ' * 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--events", type=int, default=500_000, help="metrics; rows are a fifth, request runs a 25th of it"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench/sink.json"))
    options = parser.parse_args()
    set_up("error", "json")
    cases: dict[str, tuple[int, Callable[[int], None], Callable[[Path, Path], float]]] = {
        "metrics": (options.events, _log_metrics, _bare_metrics),
        "2 KB rows": (options.events // 5, _log_rows, _bare_rows),
        "request runs": (options.events // 25, _log_runs, _bare_decode),
    }
    results: dict[str, Any] = {}
    for name, (count, log, bare) in cases.items():
        with tempfile.TemporaryDirectory() as directory:
            results[name] = _case(Path(directory), count, log, bare, options.rounds)
    rows = [
        [name, one["count"], one["ours"], one["limit"], one["ours"] / one["limit"]] for name, one in results.items()
    ]
    print_table("one sink, units a second", ["", "count", "runstream", "bare limit", "ours / limit"], rows)
    print("\n(the limit of request runs is decoding their events alone)")
    write_json(options.output, results)


def _case(
    directory: Path, count: int, log: Callable[[int], None], bare: Callable[[Path, Path], float], rounds: int
) -> dict[str, float]:
    queue = directory / "queue"
    runstream.configure(stream=f"queue:{queue}", journal_quota="64GiB")
    log(count)
    runstream.close()
    ours, limit = [], []
    for number in range(rounds):
        ours.append(count / _sink(queue, directory / f"store{number}"))
        limit.append(count / bare(queue, directory / f"bare{number}"))
    return {"count": count, "ours": statistics.median(ours), "limit": statistics.median(limit)}


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


def _sink(queue: Path, store: Path) -> float:
    options = config.resolve(stream=f"queue:{queue}", store=str(store))
    begin = time.perf_counter()
    asyncio.run(replay(options, lambda _: None))
    return time.perf_counter() - begin


def _bodies(queue: Path) -> Iterator[list[bytes]]:
    for name in journal_names(queue / "journals"):
        reader = JournalReader(queue / "journals" / name)
        while not reader.position.done:
            yield [record.body for record in reader.read(8 << 20).records]
        reader.close()


def _bare_metrics(queue: Path, target: Path) -> float:
    chunks = list(_bodies(queue))
    begin = time.perf_counter()
    database = sqlite3.connect(target, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE metrics (run TEXT, key TEXT, step INTEGER, timestamp INTEGER, value REAL)")
    for chunk in chunks:
        events: list[Any] = [event for event in map(decode_event, chunk) if hasattr(event, "step")]
        database.execute("BEGIN")
        rows = [(event.run_id, event.key, event.step, event.timestamp, event.value) for event in events]
        database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    database.close()
    return time.perf_counter() - begin


def _bare_rows(queue: Path, target: Path) -> float:
    chunks = list(_bodies(queue))
    begin = time.perf_counter()
    with target.open("w") as file:
        for chunk in chunks:
            events: list[Any] = [event for event in map(decode_event, chunk) if hasattr(event, "rows")]
            file.writelines(",".join(map(_cell, row)) + "\n" for event in events for row in event.rows)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begin


def _cell(value: object) -> str:
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)


def _bare_decode(queue: Path, _target: Path) -> float:
    chunks = list(_bodies(queue))
    begin = time.perf_counter()
    for chunk in chunks:
        for body in chunk:
            decode_event(body)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
