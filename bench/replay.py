"""How long the replay of a large queue into a fresh store takes, beside reading and decoding the same events alone.

10,000,000 metrics, 1,000,000 rows of 2 KB, and 1,000,000 runs of requests (5 params, 3 metrics, a row).  With fewer,
the time of the whole is projected by the rate, and marked so: it is no measurement.  Rounds of ours and of the limit
take turns; the figures are medians.  Runs have one round: a directory and a file of each take minutes to remove.

Run it by ``make bench``, or for a quick look
``python bench/replay.py --rounds 1 --metrics 500000 --rows 50000 --runs 10000``.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from processes import call, log, memory_above_import
from timing import print_table, write_json

WHOLE = {"metrics": 10_000_000, "2 KB rows": 1_000_000, "request runs": 1_000_000}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--metrics", type=int, default=WHOLE["metrics"])
    parser.add_argument("--rows", type=int, default=WHOLE["2 KB rows"])
    parser.add_argument("--runs", type=int, default=WHOLE["request runs"])
    parser.add_argument("--output", type=Path, default=Path("build/bench/replay.json"))
    options = parser.parse_args()
    results = {}
    counts = {"metrics": options.metrics, "2 KB rows": options.rows, "request runs": options.runs}
    for kind, count in counts.items():
        with tempfile.TemporaryDirectory() as directory:
            results[kind] = _replay(Path(directory), kind, count, 1 if kind == "request runs" else options.rounds)
    header = ["", "count", "seconds", "per second", "memory, MiB", "decoding alone, s", "of the whole, s", ""]
    rows = [
        [kind, *list(one.values())[:6], "measured" if one["measured"] else "projected"] for kind, one in results.items()
    ]
    print_table("replay into a fresh store", header, rows)
    write_json(options.output, results, options)


def _replay(directory: Path, kind: str, count: int, rounds: int) -> dict[str, Any]:
    stream = f"queue:{directory / 'queue'}"
    log(stream, kind, count)
    ours, limit, memory = [], [], []
    for number in range(rounds):
        store = directory / f"store{number}"
        told = call("sink", stream, store)
        ours.append(told["seconds"])
        memory.append(memory_above_import(told))
        shutil.rmtree(store)
        limit.append(call("decode", directory / "queue")["seconds"])
    seconds = statistics.median(ours)
    return {
        "events": count,
        "seconds": seconds,
        "rate": count / seconds,
        "memory": max(memory),
        "limit": statistics.median(limit),
        "whole": seconds / count * WHOLE[kind],
        "measured": count >= WHOLE[kind],
    }


if __name__ == "__main__":
    main()
