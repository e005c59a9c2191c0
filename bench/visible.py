"""How long an event takes from its log call until another process finds it in the store, over a queue on this machine.

A program logs metrics at a steady rate, each with the time of its call as value; a sink works; this process looks into
the store's database every two milliseconds.  The limit is a program that inserts and commits the same points into a
bare SQLite database itself, found by the same looks.  Rounds take turns; the figures are medians, in milliseconds.

Run it by ``make bench``, or for a quick look ``python bench/visible.py --rounds 1 --seconds 5``.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from processes import PACED, PROGRAMS, WARM, call, latencies, running, wait_for
from timing import print_table, write_json

POINTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1000, help="events a second")
    parser.add_argument("--seconds", type=float, default=20, help="that this goes on, in each round")
    parser.add_argument("--output", type=Path, default=Path("build/bench/visible.json"))
    options = parser.parse_args()
    taken: dict[str, list[list[float]]] = {"runstream": [], "bare SQLite": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            taken["runstream"].append(_ours(Path(directory), options.rate, options.seconds))
            taken["bare SQLite"].append(_bare(Path(directory), options.rate, options.seconds))
    results = {name: _summary(rounds) for name, rounds in taken.items()}
    title = f"milliseconds from the log call to the store, at {options.rate:g} events a second"
    print_table(title, ["", *POINTS], [[name, *figures.values()] for name, figures in results.items()])
    write_json(options.output, results, options)


def _ours(directory: Path, rate: float, seconds: float) -> list[float]:
    stream, store = f"queue:{directory / 'queue'}", directory / "store"
    sink = (Path(sys.executable).with_name("runstream"), "sink", "--stream", stream, "--store", store, "--no-http")
    with running(*sink, RUNSTREAM_LOG_LEVEL="error"):
        call("pace", stream, WARM, 1000, 0.1)
        wait_for(store, WARM)
        with running(sys.executable, PROGRAMS, "pace", stream, PACED, rate, seconds):
            return latencies(store, int(rate * seconds))


def _bare(directory: Path, rate: float, seconds: float) -> list[float]:
    store = directory / "bare"
    with running(sys.executable, PROGRAMS, "pace_bare", store, PACED, rate, seconds):
        return latencies(store, int(rate * seconds))


def _summary(rounds: list[list[float]]) -> dict[str, float]:
    """Medians over the rounds."""
    ordered = [sorted(one) for one in rounds]
    return {
        name: statistics.median(one[int((len(one) - 1) * share)] for one in ordered) for name, share in POINTS.items()
    }


if __name__ == "__main__":
    main()
