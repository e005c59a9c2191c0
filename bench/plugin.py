"""What one ``mlflow.log_metric`` costs the caller through our plugin, beside MLflow's REST server and its SQLite store.

The same program logs to ``runstream+queue:DIR``, to an ``mlflow server`` on SQLite (one worker, on this machine), and
straight to ``sqlite:///FILE``, in turns: each round makes its share of the calls of each.  The program, MLflow's fluent
function included, is the same; only the tracking URI differs.

Run it by ``make bench PEERS=1``, or for a quick look ``python bench/plugin.py --calls 500 --rounds 2``.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from timing import percentiles, print_table, write_json

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ENABLE_ASYNC_LOGGING": "false"}

PLUGIN, REST, SQLITE = "runstream's plugin", "mlflow server", "mlflow on sqlite:///"
DEADLINE = 180.0
WARM_UP = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="of each")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("build/bench/plugin.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        samples = measure(Path(directory), options.calls, options.rounds)
    results = {name: {"mean": sum(one) / len(one) / 1000, **percentiles(one)} for name, one in samples.items()}
    for one in results.values():
        one["times ours"] = one["mean"] / results[PLUGIN]["mean"]
    columns = ("mean", "p50", "p99", "max", "times ours")
    rows = [[name, *(one[column] for column in columns)] for name, one in results.items()]
    print_table(f"one call of mlflow.log_metric, of {options.calls:,}; microseconds", ["", *columns], rows)
    write_json(options.output, results)


def measure(directory: Path, calls: int, rounds: int) -> dict[str, list[int]]:
    """By name, how many nanoseconds each call took."""
    os.environ |= {"RUNSTREAM_STORE": str(directory / "store")}
    (directory / "server").mkdir()
    queue = f"runstream+queue:{directory / 'queue'}"
    with mlflow_server(directory / "server") as server:
        sqlite = f"sqlite:///{directory / 'mlflow.db'}"
        places = {PLUGIN: queue, REST: server, SQLITE: sqlite}
        log = program()
        samples: dict[str, list[int]] = {name: [] for name in places}
        for _ in range(rounds):
            for name, uri in places.items():
                samples[name] += log(uri, calls // rounds)
    return samples


def program() -> Callable[[str, int], list[int]]:
    """What logs to a tracking URI, in a run of its own, and says how long each call took."""
    import mlflow

    def log(uri: str, calls: int) -> list[int]:
        mlflow.set_tracking_uri(uri)
        samples = []
        with mlflow.start_run():
            for step in range(calls + WARM_UP):
                begun = time.perf_counter_ns()
                mlflow.log_metric("loss", 0.5, step=step)
                samples.append(time.perf_counter_ns() - begun)
        return samples[WARM_UP:]

    return log


@contextlib.contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """MLflow's own server on SQLite; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command: list[Any] = [sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", 1]
    command += ["--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}", "--artifacts-destination", directory]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen([*map(str, command)], env=environment, stdout=log, stderr=log)
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + DEADLINE
        while not answers(url):
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"MLflow's server does not answer: {(directory / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(DEADLINE)


def answers(url: str) -> bool:
    """Whether a server takes requests there."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=DEADLINE):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
