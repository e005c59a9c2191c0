"""How long imports and starts take: processes, from their start to their end, in turns, in milliseconds.

The reference is ``python -c pass``; ``above`` is what a process takes beyond it.  Other loggers are imported where they
are installed.  The first of the rounds fills the caches of files and is not counted.

Run it by ``make bench``, or for a quick look ``python bench/startup.py --rounds 3``.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from timing import print_table, write_json

BARE = "python alone"
_ONE_RUN = """
import runstream
with runstream.start_run():
    runstream.log_metric("loss", 0.5)
"""
_PROGRAMS = {
    BARE: "pass",
    "import logging": "import logging",
    "import runstream": "import runstream",
    "import runstream, one run with one metric": _ONE_RUN,
    "import runstream_sink.service": "import runstream_sink.service",
}
PEERS = {
    "confluent_kafka": "confluent_kafka",
    "aiokafka": "aiokafka",
    "opentelemetry.sdk": "opentelemetry.sdk.trace.export",
    "langfuse": "langfuse",
    "wandb": "wandb",
    "mlflow": "mlflow",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--output", type=Path, default=Path("build/bench/startup.json"))
    options = parser.parse_args()
    taken: dict[str, list[float]] = {}
    for _ in range(options.rounds + 1):
        for name, command in _commands(peers=options.peers).items():
            taken.setdefault(name, []).append(_once(command))
    medians = {name: statistics.median(times[1:]) * 1000 for name, times in taken.items()}
    results = {name: {"total": median, "above": median - medians[BARE]} for name, median in medians.items()}
    rows = [[name, one["total"], one["above"]] for name, one in results.items()]
    print_table("from start to end, milliseconds", ["", "total", f"above {BARE}"], rows)
    write_json(options.output, results, options)


def _commands(*, peers: bool) -> dict[str, Sequence[str]]:
    codes = dict(_PROGRAMS)
    if peers:
        codes |= {
            f"import {name}": f"import {module}"
            for name, module in PEERS.items()
            if importlib.util.find_spec(module.split(".")[0])
        }
    runstream = str(Path(sys.executable).with_name("runstream"))
    return {
        **{name: [sys.executable, "-c", code] for name, code in codes.items()},
        "runstream --version": [runstream, "--version"],
        "runstream sink --once, with nothing to do": [runstream, "sink", "--once"],
    }


def _once(command: Sequence[str]) -> float:
    """Seconds, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "RUNSTREAM_LOG_LEVEL": "error"}
        begin = time.perf_counter()
        subprocess.run(command, cwd=directory, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
