"""Events through a real Kafka: journal, shipper, broker, sink, store, beside what aiokafka alone does in the same run.

Throughput, in events a second, of each stage by itself, and of all of them at once:

* journal: a program logs.
* shipper: what it logged goes from its journal to the broker, acknowledged by all in-sync replicas.
* sink: what lies on the topic goes into a fresh store, committed.
* together: the program logs while shipper and sink work; from its first call until its last event is in the store.

The limits, with the very bytes that the shipper had put on the topic: a plain idempotent producer of aiokafka that
sends them (with the same compression, acknowledged), a plain consumer that reads and forgets them, and both at once.
Where one event is 2 KB, the sink's own limit is another: see ``bench/sink.py``.

Latency, in milliseconds, at a steady rate: from a log call until another process finds the event in the store's
database, at which it looks every two milliseconds.

Rounds of ours and of the limit take turns; the figures are medians.  The broker is one of the tests', on this machine,
unless ``--bootstrap`` names another.  Run it by ``make bench``, or quickly by ``python bench/kafka.py --rounds 1``.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka_programs import MARKER, write_values
from timing import print_table, write_json

ROOT = Path(__file__).parents[1]
_PROGRAMS = Path(__file__).with_name("kafka_programs.py")
_PACED, _WARM = "sent", "warm"
"""Metrics whose values are the times at which they were logged: for the latency, and before anything is measured."""
_LOOK = 0.002
_DEADLINE = 600.0
_LATEST = "SELECT step, value FROM metrics WHERE key = (SELECT id FROM keys WHERE name = ?) AND step > ? ORDER BY step"
_KEYS = "SELECT 1 FROM metrics WHERE key = (SELECT id FROM keys WHERE name = ?)"


class Program:
    """A process of `kafka_programs`, or another one; killed at the end."""

    def __init__(self, *command: object, **environment: str) -> None:
        environ = {**os.environ, **environment}
        self._process = subprocess.Popen([*map(str, command)], env=environ, stdout=subprocess.PIPE, text=True)

    def line(self) -> Any:
        """The next line that it prints."""
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        if not told:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} ended with {self._process.wait()}")
        return json.loads(told)

    def end(self) -> None:
        """Ask it to end, and wait."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def running(*command: object, **environment: str) -> Iterator[Program]:
    """A process that ends with the block."""
    program = Program(*command, **environment)
    try:
        yield program
    finally:
        program.end()


def call(name: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """What one of the programs says when it is done."""
    with running(sys.executable, _PROGRAMS, name, *arguments, **environment) as program:
        while True:
            told = program.line()
            if isinstance(told, dict):
                return told


class Way:
    """One way from a program to a store, over a topic of its own."""

    def __init__(self, directory: Path, servers: str) -> None:
        self.servers = servers
        self.topic = f"bench-{uuid.uuid4().hex[:12]}"
        self.stream = f"kafka://{servers}/{self.topic}"
        self.journals = directory / f"journal-{self.topic}"
        self.store = directory / f"store-{self.topic}"
        self.environment = {"RUNSTREAM_STREAM": self.stream, "RUNSTREAM_JOURNAL_DIR": str(self.journals)}

    @property
    def journal(self) -> Path:
        """The journal directory of the stream."""
        from runstream_schemas.streams import KafkaStream, journal_directory, parse_stream

        stream = parse_stream(self.stream)
        assert isinstance(stream, KafkaStream)
        return journal_directory(stream, self.journals)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """With a shipper and a sink that have moved some events already and wait for more."""
        shipper = (sys.executable, "-m", "runstream.shipping.process")
        sink = (Path(sys.executable).with_name("runstream"), "sink", "--store", self.store, "--no-http")
        quiet = {"RUNSTREAM_SHIPPER_IDLE": "600", "RUNSTREAM_LOG_LEVEL": "error"}
        with running(*shipper, **self.environment, **quiet):
            asyncio.run(_topic_exists(self.servers, self.topic))
            with running(*sink, **self.environment, **quiet):
                call("pace", self.stream, _WARM, 1000, 0.1, **self.environment)
                self.wait_for(_WARM)
                yield

    def points(self) -> Iterator[list[tuple[int, float]]]:
        """The paced points (step, value) that have come since the last look, for ever."""
        last = -1
        with contextlib.closing(self._open()) as database:
            while True:
                found = database.execute(_LATEST, (_PACED, last)).fetchall()
                last = found[-1][0] if found else last
                yield found

    def wait_for(self, metric: str) -> float:
        """When a metric is in the store."""
        deadline = time.monotonic() + _DEADLINE
        with contextlib.closing(self._open()) as database:
            while database.execute(_KEYS, (metric,)).fetchone() is None:
                _pause(deadline)
        return time.time()

    def _open(self) -> sqlite3.Connection:
        deadline = time.monotonic() + _DEADLINE
        while True:
            with contextlib.suppress(sqlite3.OperationalError):  # there is none yet, or it is being made
                database = sqlite3.connect(f"file:{self.store / 'runstream.db'}?mode=ro", uri=True, timeout=10)
                try:
                    database.execute(_KEYS, (MARKER,))
                except sqlite3.OperationalError:
                    database.close()
                else:
                    return database
            _pause(deadline)


def _pause(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise SystemExit("what was waited for did not happen")
    time.sleep(_LOOK)


async def _topic_exists(servers: str, topic: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        deadline = time.monotonic() + _DEADLINE
        while topic not in await admin.list_topics():
            _pause(deadline)
    finally:
        await admin.close()


async def _make_topic(servers: str, topic: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        limit = {"max.message.bytes": str(8 << 20)}
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1, topic_configs=limit)])
    finally:
        await admin.close()


async def _values(servers: str, topic: str) -> list[bytes]:
    """What lies on a topic."""
    from aiokafka import AIOKafkaConsumer

    async with AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        left = sum((await consumer.end_offsets(consumer.assignment())).values())
        values: list[bytes] = []
        while len(values) < left:
            fetched = await consumer.getmany(timeout_ms=1000)
            values += [record.value for records in fetched.values() for record in records]
    return values


def _stages(directory: Path, servers: str, kind: str, count: int) -> dict[str, float]:
    """Events a second of each stage, and of the limits with the same bytes."""
    way = Way(directory, servers)
    rates = {"journal": count / call("emit", f"queue:{way.journal}", kind, count)["seconds"]}
    shipped = call("ship", way.stream, way.journal)
    rates["shipper"] = count / shipped["seconds"]
    values = asyncio.run(_values(servers, way.topic))
    file = directory / f"{way.topic}.values"
    write_values(file, values)
    plain = f"plain-{way.topic}"
    asyncio.run(_make_topic(servers, plain))
    rates["plain producer"] = count / call("produce", servers, plain, file, "00")["seconds"]
    rates["sink"] = count / call("sink", way.stream, way.store)["seconds"]
    rates["plain consumer"] = count / call("consume", servers, plain, len(values))["seconds"]
    rates["plain together"] = count / _plain_together(servers, f"both-{way.topic}", file, len(values))
    rates["records"] = float(len(values))
    rates["mean bytes"] = sum(map(len, values)) / len(values)
    return rates


def _plain_together(servers: str, topic: str, file: Path, count: int) -> float:
    asyncio.run(_make_topic(servers, topic))
    with running(sys.executable, _PROGRAMS, "consume", servers, topic, count) as consumer:
        consumer.line()
        began = call("produce", servers, topic, file, "00")["began"]
        return float(consumer.line()["ended"] - began)


def _together(directory: Path, servers: str, kind: str, count: int) -> float:
    way = Way(directory, servers)
    with (
        way.working(),
        running(sys.executable, _PROGRAMS, "emit", way.stream, kind, count, **way.environment) as program,
    ):
        began = program.line()["began"]
        return count / (way.wait_for(MARKER) - began)


def _latencies(directory: Path, servers: str, rate: float, seconds: float) -> list[float]:
    """Milliseconds, of every event."""
    way = Way(directory, servers)
    expected = int(rate * seconds)
    latencies: list[float] = []
    pacing = (sys.executable, _PROGRAMS, "pace", way.stream, _PACED, rate, seconds)
    with way.working(), running(*pacing, **way.environment):
        deadline = time.monotonic() + _DEADLINE
        for found in way.points():
            now = time.time()
            latencies += [(now - value) * 1e3 for _, value in found]
            if len(latencies) >= expected:
                break
            _pause(deadline)
    return latencies


@contextlib.contextmanager
def _broker(options: argparse.Namespace, directory: Path) -> Iterator[str]:
    if options.bootstrap:
        yield options.bootstrap
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from support.kafka import KafkaCluster

    cluster = KafkaCluster(directory / "broker")
    cluster.start()
    try:
        yield cluster.bootstrap
    finally:
        cluster.close()


def main() -> None:
    """Measure and print."""
    options = _parse()
    results: dict[str, Any] = {"load before": os.getloadavg()}
    with tempfile.TemporaryDirectory(dir=options.directory) as made, _broker(options, Path(made)) as servers:
        for kind, count in (("metrics", options.events), ("2 KB rows", options.events // 10)):
            results[kind] = {"events": count} | _median_rates(Path(made), servers, kind, count, options.rounds)
        rounds = [_latencies(Path(made), servers, options.rate, options.seconds) for _ in range(options.rounds)]
        results["latency"] = _latency_summary(rounds)
    _report(results, options)
    write_json(options.output, results)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=500_000, help="metrics; rows are a tenth of it")
    parser.add_argument("--rate", type=float, default=1000, help="events a second, for the latency")
    parser.add_argument("--seconds", type=float, default=20, help="that this goes on, in each round")
    parser.add_argument("--bootstrap", default="", help="a broker (HOST:PORT) to use instead of starting one")
    parser.add_argument("--directory", type=Path, help="where journals, stores and the broker's data lie meanwhile")
    parser.add_argument("--output", type=Path, default=Path("build/bench/kafka.json"))
    return parser.parse_args()


def _median_rates(directory: Path, servers: str, kind: str, count: int, rounds: int) -> dict[str, float]:
    taken = []
    for _ in range(rounds):
        rates = _stages(directory, servers, kind, count)
        rates["together"] = _together(directory, servers, kind, count)
        rates |= {
            f"{ours} / {limit}": rates[ours] / rates[limit]
            for ours, limit in (
                ("shipper", "plain producer"),
                ("sink", "plain consumer"),
                ("together", "plain together"),
            )
        }
        taken.append(rates)
    return {name: statistics.median(one[name] for one in taken) for name in taken[0]}


def _latency_summary(rounds: list[list[float]]) -> dict[str, float]:
    """Medians over the rounds."""
    points = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    taken = [{name: sorted(one)[int((len(one) - 1) * share)] for name, share in points.items()} for one in rounds]
    return {name: statistics.median(one[name] for one in taken) for name in points}


def _report(results: dict[str, Any], options: argparse.Namespace) -> None:
    kinds = ("metrics", "2 KB rows")
    names = [name for name in results["metrics"] if name != "events"]
    print_table(
        "through Kafka, events a second",
        ["", *kinds],
        [[name, *(results[kind][name] for kind in kinds)] for name in names],
    )
    latency = results["latency"]
    print(f"\nload averages of the machine: {results['load before']} before, {os.getloadavg()} after")
    title = f"milliseconds from log call to store, at {options.rate:g} events a second"
    print_table(title, list(latency), [list(latency.values())])


if __name__ == "__main__":
    main()
