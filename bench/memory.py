"""How much memory a program and a sink take for an hour's worth of events, at 1,000 a second: 3,600,000 metrics.

They are logged and applied as fast as it goes, so that the backlog is as large as it can be.  Rows of 2 KB are a tenth
of that; rows of one number, which take the most memory for their bytes, are as many, 100,000 in a call.  Each figure is
in MiB above what the process had when all was imported: ``peak`` of all its memory as the kernel counts it (VmHWM),
``own`` the most of anonymous memory, looked at every 10 ms; the difference are pages of mapped files (a program maps
the journal that it writes), which the kernel takes back where it needs them.  A tenth of the events shows whether it
grows.

Run it by ``make bench``, or for a quick look ``python bench/memory.py --events 360000``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import PROGRAMS
from programs import memory_of
from timing import print_table, write_json

_LOOK = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=3_600_000, help="metrics; rows of 2 KB are a tenth of it")
    parser.add_argument("--output", type=Path, default=Path("build/bench/memory.json"))
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    counts = {"metrics": options.events, "2 KB rows": options.events // 10, "rows of one number": options.events}
    for kind, whole in counts.items():
        for count in (whole // 10, whole):
            with tempfile.TemporaryDirectory() as directory:
                stream, store = f"queue:{directory}/queue", Path(directory, "store")
                results[f"program, {kind}, {count:,}"] = _watch("emit", stream, kind, count)
                results[f"sink, {kind}, {count:,}"] = _watch("sink", stream, store)
    rows = [[name, *figures.values()] for name, figures in results.items()]
    print_table("memory, MiB", ["", "imported", "peak above it", "own above it"], rows)
    write_json(options.output, results, options)


def _watch(*program: object) -> dict[str, float]:
    command = [sys.executable, str(PROGRAMS), *map(str, program)]
    own = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            own = max(own, _own(process.pid))
            time.sleep(_LOOK)
        assert process.stdout is not None
        told = json.loads(process.stdout.read() or "{}")
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    imported, peak = told["imported"], told["memory"]["peak"]
    above = {"peak": peak - imported["rss"], "own": max(own - imported["anonymous"], 0)}
    return {name: size / 2**20 for name, size in {"imported": imported["rss"], **above}.items()}


def _own(process: int) -> int:
    try:
        return memory_of(process)["anonymous"]
    except (OSError, KeyError):  # it has ended, or is about to
        return 0


if __name__ == "__main__":
    main()
