"""What logging every request costs an LLM server: examples/serving.py under the load of 64 connections.

The server logs in turns nothing and every request, round by round in the same process, and what is compared are the
neighbours in time; the figures are medians.  The model is simulated, in the same process, and takes ``--latency``
seconds, so little that the server is busy all the time: its throughput is what one CPU can do.

* runstream: one row and four metrics a request, into a queue, or with ``--stream kafka://...`` on the way to Kafka.
* MLflow's asynchronous client, against ``mlflow server`` on SQLite: see `serving_server`.  Each of its rounds has
  processes of its own, as what is left in its memory would disturb the next one.  "applied" is the share of what was
  logged that is in the database when the load ends; the rest waits in memory.
* "whole": an answer is sent at once; "streamed": as 128 server-sent events; "beside a sink": whole, while a sink on the
  same machine takes up what is logged.

CPU is that of the serving process with all its threads, in microseconds a request.  Run it by ``make bench``, or for a
quick look ``python bench/serving.py --rounds 3 --no-mlflow``.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

from load import Load, load, tool
from processes import running
from timing import print_table, write_json

from runstream.shipping.leader import is_led, read_status

ROOT = Path(__file__).parents[1]
ANSWERS = ("whole", "streamed", "beside a sink")
KINDS = ("mlflow-metrics", "mlflow-trace", "mlflow-table")
_START_TIMEOUT = 120.0


class Round(NamedTuple):
    """What one round measured."""

    cpu: float
    throughput: float
    p50: float
    p99: float
    failed: int


class Server:
    """A serving process."""

    def __init__(self, directory: Path, options: argparse.Namespace, **environment: str) -> None:
        self._options = options
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]
            command = [sys.executable, "-m", "serving_server", "--socket", str(listening.fileno())]
            command += ["--latency", str(options.latency), "--loop", options.loop, "--http", options.http]
            path = os.pathsep.join((str(ROOT), str(ROOT / "bench")))
            self.process = subprocess.Popen(
                command,
                pass_fds=(listening.fileno(),),
                cwd=directory,
                env={**os.environ, "PYTHONPATH": path, "RUNSTREAM_JOURNAL_QUOTA": "64GiB", **environment},
            )

    def switch(self, name: str) -> dict[str, Any]:
        """Log in another way; what the server says of its CPU time so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/switch/{name}", timeout=_START_TIMEOUT) as reply:
            told: dict[str, Any] = json.load(reply)
        return told

    def round(self, name: str, bodies: Sequence[bytes]) -> Round:
        """Load the server while it logs in one way."""
        self.switch(name)
        before = self.switch(name)["cpu"]
        met: Load = load(self._port, bodies, self._options.connections, self._options.seconds)
        # MLflow is not waited for: its client goes on sending for long.
        cpu = self.switch("nothing" if name == "runstream" else name)["cpu"] - before
        return Round(cpu / met.requests * 1e6, met.requests / met.seconds, met.p50, met.p99, met.failed)

    def end(self) -> None:
        """Kill it, with all that it has not sent."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(directory: Path, options: argparse.Namespace, **environment: str) -> Iterator[Server]:
    """A server, warmed up."""
    server = Server(directory, options, **environment)
    try:
        load(server._port, _bodies(stream=False), options.connections, 1)  # noqa: SLF001 - of this module
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def tracking(directory: Path) -> Iterator[str]:
    """An ``mlflow server`` on SQLite; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    stores = [
        "--backend-store-uri",
        f"sqlite:///{directory}/mlflow.db",
        "--artifacts-destination",
        f"{directory}/files",
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *stores]
    with (directory / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_TIMEOUT
        while not _answers(f"{url}/health"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit((directory / "mlflow.log").read_text())
            time.sleep(0.1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _bodies(*, stream: bool) -> list[bytes]:
    """Requests: each asks about 1,000 letters of real text."""
    text = "".join(topics[name] for name in sorted(topics)).encode("ascii", "replace").decode()
    asked = [f"Explain this to a beginner:\n\n{text[at : at + 1000]}" for at in range(0, 64_000, 1000)]
    messages = [[{"role": "user", "content": prompt}] for prompt in asked]
    return [json.dumps({"messages": one, "stream": stream}).encode() for one in messages]


def _pairs(server: Server, name: str, bodies: Sequence[bytes], rounds: int) -> list[tuple[Round, Round]]:
    """Rounds without and with logging; which of the two is first changes."""
    pairs = []
    for number in range(rounds):
        order = ("nothing", name) if number % 2 == 0 else (name, "nothing")
        taken = {one: server.round(one, bodies) for one in order}
        pairs.append((taken["nothing"], taken[name]))
    return pairs


def _runstream(options: argparse.Namespace, answers: str) -> list[tuple[Round, Round]]:
    pairs = []
    for _ in range(options.processes):
        with tempfile.TemporaryDirectory(dir=options.directory) as made:
            where = {
                "RUNSTREAM_LOG_LEVEL": "error",
                "RUNSTREAM_STREAM": options.stream.format(made),
                "RUNSTREAM_JOURNAL_DIR": f"{made}/journal",
            }
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(serving(Path(made), options, **where))
                if answers == "beside a sink":
                    command = (Path(sys.executable).with_name("runstream"), "sink", "--no-http")
                    stack.enter_context(running(*command, "--store", f"{made}/store", **where))
                pairs += _pairs(server, "runstream", _bodies(stream=answers == "streamed"), options.rounds)
                stats = server.switch("nothing")["stats"]
            _end_shippers(Path(made, "journal"))
        if sum(stats["dropped"].values()):
            raise SystemExit(f"events were dropped: {stats}")
    return pairs


def _end_shippers(journals: Path) -> None:
    """A shipper outlives its program; what it has not shipped is of no use any more."""
    for directory in journals.glob("*"):
        deadline = time.monotonic() + _START_TIMEOUT
        while is_led(directory) and time.monotonic() < deadline:
            if (status := read_status(directory)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(status.pid, signal.SIGTERM)
            time.sleep(0.1)


def _mlflow(options: argparse.Namespace, kind: str) -> tuple[list[tuple[Round, Round]], float]:
    """The pairs, and the share of points or rows that were applied."""
    pairs, applied = [], []
    for _ in range(options.mlflow_rounds):
        with tempfile.TemporaryDirectory(dir=options.directory) as made, tracking(Path(made)) as url:
            with serving(Path(made), options, MLFLOW_TRACKING_URI=url) as server:
                pairs += _pairs(server, kind, _bodies(stream=False), 1)
                done = _count(Path(made))
            applied.append(done / (pairs[-1][1].throughput * options.seconds))
    return pairs, statistics.median(applied)


def _count(directory: Path) -> float:
    """Requests whose metrics are in MLflow's database."""
    with contextlib.closing(sqlite3.connect(f"file:{directory}/mlflow.db?mode=ro", uri=True)) as database:
        return float(database.execute("SELECT count(*) FROM metrics").fetchone()[0]) / 4


def main() -> None:
    """Measure and print."""
    options = _parse()
    print(f"load by {tool()}, {options.connections} connections; uvicorn with {options.loop} and {options.http}")
    results: dict[str, Any] = {}
    load_before = os.getloadavg()
    for answers in options.answers:
        results[f"runstream, {answers}"] = _summary(_runstream(options, answers))
    for kind in KINDS if options.mlflow else ():
        pairs, applied = _mlflow(options, kind)
        results[f"{kind}, whole"] = _summary(pairs) | {"applied": applied}
    _report(results)
    print(f"\nload averages of the machine: {load_before} before, {os.getloadavg()} after")
    write_json(options.output, results)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="pairs of rounds in each serving process")
    parser.add_argument("--processes", type=int, default=3, help="serving processes, one after the other")
    parser.add_argument("--mlflow-rounds", type=int, default=3)
    parser.add_argument("--no-mlflow", dest="mlflow", action="store_false")
    parser.add_argument("--seconds", type=float, default=3, help="of load, in each round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.01, help="seconds that the simulated model takes")
    parser.add_argument("--answers", nargs="+", choices=ANSWERS, default=ANSWERS)
    parser.add_argument("--stream", default="queue:{}/queue", help="{} stands for a directory of the round's own")
    parser.add_argument("--loop", default="asyncio", help="uvicorn's event loop")
    parser.add_argument("--http", default="h11", help="uvicorn's parser")
    parser.add_argument("--directory", type=Path, help="where queues and databases lie meanwhile")
    parser.add_argument("--output", type=Path, default=Path("build/bench/serving.json"))
    return parser.parse_args()


def _summary(pairs: Sequence[tuple[Round, Round]]) -> dict[str, Any]:
    """Medians of the rounds, and of the ratios within the pairs, with the quartiles of CPU's."""
    median = statistics.median
    fields = ("cpu", "throughput", "p50", "p99")
    ratios = {name: [getattr(logs, name) / getattr(bare, name) for bare, logs in pairs] for name in fields}
    found: dict[str, Any] = {
        side: {name: median(getattr(pair[at], name) for pair in pairs) for name in fields}
        for at, side in enumerate(("nothing", "logging"))
    }
    found["ratio"] = {name: median(values) for name, values in ratios.items()}
    found["added"] = median(logs.cpu - bare.cpu for bare, logs in pairs)
    cut = sorted(ratios["cpu"])
    found["cpu_quartiles"] = [cut[len(cut) // 4], cut[len(cut) * 3 // 4]]
    found["failed"] = sum(one.failed for one in itertools.chain(*pairs))
    found["pairs"] = len(pairs)
    return found


def _report(results: dict[str, Any]) -> None:
    columns = ("cpu", "throughput", "p50", "p99")
    rows = []
    for name, found in results.items():
        rows.append([name, "without", *(found["nothing"][column] for column in columns), ""])
        rows.append(["", "with", *(found["logging"][column] for column in columns), found.get("applied", "")])
        rows.append(["", "ratio", *(found["ratio"][column] for column in columns), ""])
    print_table("serving", ["", "", "CPU us/request", "requests/s", "p50 ms", "p99 ms", "applied"], rows)
    for name, found in results.items():
        low, high = found["cpu_quartiles"]
        print(
            f"\n{name}: {found['added']:.1f} us of CPU more a request (quartiles {low - 1:+.1%} and {high - 1:+.1%}, "
            f"{found['pairs']} pairs, {found['failed']} requests failed)"
        )


if __name__ == "__main__":
    main()
