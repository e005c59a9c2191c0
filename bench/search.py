"""How long the first page of a search takes in a store of 100,000 runs, beside bare SQL on the same tables.

Each run has 10 metrics, 5 params and 3 tags.  A page is 100 runs with all of these.  The bare SQL finds the ids of the
same runs and no more, written by hand with the same indexes and nothing else that a search does (counting what is
rare, lifecycle, cursors, filling).  The last column is the exponent by which a page's time grows from a tenth of the
runs to all of them: 0 is no growth, 1 grows as the store does.

Run it by ``make bench``, or for a quick look ``python bench/search.py --runs 20000 --rounds 5``.
"""

import argparse
import asyncio
import math
import random
import sqlite3
import struct
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from timing import print_table, write_json

from runstream_sink import query
from runstream_sink.location import StoreLocation
from runstream_sink.store import migrate, open_reader

METRICS = [f"metric{number}" for number in range(10)]
PARAMS = ["model", "lr", "temperature", "seed", "note"]
TAGS = ["mlflow.user", "mlflow.source.name", "rare"]
KEYS = {name: number for number, name in enumerate([*METRICS, *PARAMS, *TAGS], 1)}
MODELS = ["llama-8b", "llama-70b", "mistral-8b", "other"]
PAGE = 100
START = 1_700_000_000_000
NEWEST = "ORDER BY r.sort_time DESC, r.run_id LIMIT 100"


class Case(NamedTuple):
    """A search, and the bare SQL for it; ``{metric1}`` stands for the integer of that key."""

    filter: str
    order: tuple[str, ...]
    bare: str


def held(table: str, key: str, condition: str) -> str:
    """A condition of bare SQL."""
    return f"EXISTS (SELECT 1 FROM {table} AS h WHERE h.run = r.id AND h.key = {KEYS[key]} AND {condition})"


def newest(*conditions: str) -> str:
    """Bare SQL for the newest runs."""
    return f"SELECT r.run_id FROM runs AS r WHERE {' AND '.join(['r.experiment_id = 1', *conditions])} {NEWEST}"


OTHER = held("params", "model", "value = 'other'")
CASES = {
    "the newest": Case("", (), newest()),
    "a metric that many have": Case(
        "metrics.metric1 > 0.5", (), newest(held("latest_metrics", "metric1", "value > 0.5"))
    ),
    "a metric that few have": Case(
        "metrics.metric1 > 0.999",
        (),
        f"SELECT r.run_id FROM latest_metrics AS m CROSS JOIN runs AS r ON r.id = m.run "
        f"WHERE m.key = {KEYS['metric1']} AND m.value > 0.999 AND r.experiment_id = 1 {NEWEST}",
    ),
    "metric and param": Case(
        "metrics.metric1 > 0.5 AND params.model = 'llama-8b'",
        (),
        newest(held("latest_metrics", "metric1", "value > 0.5"), held("params", "model", "value = 'llama-8b'")),
    ),
    "metric and param, few": Case(
        "metrics.metric1 > 0.9 AND params.seed = '77'",
        (),
        f"SELECT r.run_id FROM params AS p CROSS JOIN runs AS r ON r.id = p.run WHERE p.key = {KEYS['seed']} "
        f"AND substr(p.value, 1, 64) = '77' AND {held('latest_metrics', 'metric1', 'value > 0.9')} "
        f"AND r.experiment_id = 1 {NEWEST}",
    ),
    "two metrics and a param": Case(
        "metrics.metric1 > 0.5 AND metrics.metric2 < 0.5 AND params.model LIKE 'llama%'",
        (),
        newest(
            held("latest_metrics", "metric1", "value > 0.5"),
            held("latest_metrics", "metric2", "value < 0.5"),
            held("params", "model", "value LIKE 'llama%'"),
        ),
    ),
    "ILIKE": Case("params.model ILIKE '%8B%'", (), newest(held("params", "model", "lower(value) LIKE '%8b%'"))),
    "a tag that few have": Case(
        "tags.rare = 'x'",
        (),
        f"SELECT r.run_id FROM tags AS t CROSS JOIN runs AS r ON r.id = t.run WHERE t.key = {KEYS['rare']} "
        f"AND substr(t.value, 1, 64) = 'x' AND r.experiment_id = 1 {NEWEST}",
    ),
    "a status": Case("status = 'FAILED'", (), newest("r.status = 'FAILED'")),
    "a time and a metric": Case(
        f"start_time < {START + 500_000} AND metrics.metric1 > 0.3",
        (),
        newest(f"r.sort_time < {START + 500_000}", held("latest_metrics", "metric1", "value > 0.3")),
    ),
    "the best by a metric": Case(
        "",
        ("metrics.metric1 DESC",),
        f"SELECT r.run_id FROM latest_metrics AS m CROSS JOIN runs AS r ON r.id = m.run "
        f"WHERE m.key = {KEYS['metric1']} AND m.value IS NOT NULL "
        "AND r.experiment_id = 1 ORDER BY m.value DESC LIMIT 100",
    ),
    "the best of a model": Case(
        "params.model = 'other'",
        ("metrics.metric1",),
        f"SELECT r.run_id FROM latest_metrics AS m CROSS JOIN runs AS r ON r.id = m.run "
        f"WHERE m.key = {KEYS['metric1']} AND m.value IS NOT NULL AND {OTHER} "
        "AND r.experiment_id = 1 ORDER BY m.value LIMIT 100",
    ),
    "by end time": Case(
        "",
        ("end_time DESC",),
        "SELECT r.run_id FROM runs AS r WHERE r.experiment_id = 1 ORDER BY r.end_time DESC LIMIT 100",
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("build/bench/search.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        stores = [Path(directory) / "tenth", Path(directory) / "whole"]
        for store, runs in zip(stores, (options.runs // 10, options.runs), strict=True):
            make_store(store, runs)
        tenth, whole = (asyncio.run(measure(store, options.rounds)) for store in stores)
    rows = []
    for name, one in whole.items():
        growth = math.log10(one["p50"] / tenth[name]["p50"])
        one["growth"] = growth
        rows.append([name, int(one["found"]), one["p50"], one["p95"], one["bare"], one["p50"] / one["bare"], growth])
    header = ["", "found", "p50", "p95", "bare p50", "ours / bare", "growth"]
    print_table(f"first page of a search among {options.runs:,} runs, milliseconds", header, rows)
    write_json(options.output, whole)


def make_store(directory: Path, runs: int) -> None:
    """A store as a sink leaves it after so many runs, a fifth of them in small experiments."""
    directory.mkdir()
    migrate.create(directory / "runstream.db")
    database = sqlite3.connect(directory / "runstream.db", isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    database.executemany("INSERT INTO keys (name, id) VALUES (?, ?)", KEYS.items())
    experiments = [(number, f"experiment {number}", number, order(number)) for number in range(1, 21)]
    insert(database, "experiments (id, created_name, creation_time, created_ord)", experiments)
    chance = random.Random(1)
    for first in range(1, runs + 1, 1000):
        insert_runs(database, chance, range(first, min(first + 1000, runs + 1)))
    database.execute("COMMIT")
    database.close()


def order(number: int) -> bytes:
    """What events are compared by."""
    return struct.pack(">q16sQ", number, b"p" * 16, number)


def insert(database: sqlite3.Connection, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Many rows."""
    held_rows = list(rows)
    database.executemany(f"INSERT INTO {columns} VALUES ({', '.join('?' * len(held_rows[0]))})", held_rows)


def insert_runs(database: sqlite3.Connection, chance: random.Random, numbers: range) -> None:
    """Runs with all that they logged."""
    runs, metrics, params, tags = [], [], [], []
    for number in numbers:
        began, at = START + 100 * number, order(number)
        experiment = 1 if chance.random() < 0.8 else chance.randrange(2, 21)
        status = "FAILED" if chance.random() < 0.01 else "FINISHED"
        ended = began + chance.randrange(100_000)
        runs.append((number, f"{number:032x}", experiment, began, "me", at, f"run {number}", at, status, ended, at))
        metrics += [(number, KEYS[key], 1, began, chance.random(), None, b"i" * 28) for key in METRICS]
        texts = (MODELS[number % 4], f"0.{10 ** chance.randrange(3)}", repr(chance.random()))
        values = zip(PARAMS, (*texts, str(chance.randrange(1000)), f"note {number} " * 8), strict=True)
        params += [(number, KEYS[key], value, at) for key, value in values]
        rare = [("rare", "x")] if number % 5000 == 0 else []
        held_tags = [("mlflow.user", "me"), ("mlflow.source.name", "train.py"), *rare]
        tags += [(number, KEYS[key], value, at) for key, value in held_tags]
    columns = "id, run_id, experiment_id, start_time, user, start_ord, name, name_ord, status, end_time, status_ord"
    insert(database, f"runs ({columns})", runs)
    insert(database, "latest_metrics (run, key, step, timestamp, value, bits, identity)", metrics)
    insert(database, "params (run, key, value, ord)", params)
    insert(database, "tags (run, key, value, ord)", tags)


async def measure(store: Path, rounds: int, cases: Iterable[str] = tuple(CASES)) -> dict[str, dict[str, float]]:
    """Each of the cases, ours and bare in turn, in milliseconds."""
    bare = sqlite3.connect(store / "runstream.db")
    bare.execute("PRAGMA case_sensitive_like = ON")
    reader = await open_reader(StoreLocation.parse(str(store)))
    results = {}
    for name in cases:
        case = CASES[name]
        ours, limit, found = [], [], 0
        for _ in range(rounds):
            begin = time.perf_counter_ns()
            page = await query.search_runs(reader, ["1"], case.filter, case.order, limit=PAGE)
            middle = time.perf_counter_ns()
            ids = bare.execute(case.bare).fetchall()
            limit.append(time.perf_counter_ns() - middle)
            ours.append(middle - begin)
            found = len(page.runs)
            if {run.run_id for run in page.runs} != {run_id for (run_id,) in ids}:
                raise SystemExit(f"{name}: the bare SQL finds other runs")
        results[name] = {
            "found": found,
            "p50": _share(ours, 0.5),
            "p95": _share(ours, 0.95),
            "bare": _share(limit, 0.5),
        }
    await reader.close()
    bare.close()
    return results


def _share(samples: list[int], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))] / 1e6


if __name__ == "__main__":
    main()
