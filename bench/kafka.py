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
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import DEADLINE, PACED, PROGRAMS, WARM, call, latencies, pause, running, wait_for
from programs import MARKER, write_values
from timing import print_table, write_json

ROOT = Path(__file__).parents[1]


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
                call("pace", self.stream, WARM, 1000, 0.1, **self.environment)
                wait_for(self.store, WARM)
                yield


async def _topic_exists(servers: str, topic: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        deadline = time.monotonic() + DEADLINE
        while topic not in await admin.list_topics():
            pause(deadline)
    finally:
        await admin.close()


async def make_topic(servers: str, topic: str) -> None:
    """A topic of one partition, for batches of any size that we send."""
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
    asyncio.run(make_topic(servers, plain))
    rates["plain producer"] = count / call("produce", servers, plain, file, "00")["seconds"]
    rates["sink"] = count / call("sink", way.stream, way.store)["seconds"]
    rates["plain consumer"] = count / call("consume", servers, plain, len(values))["seconds"]
    rates["plain together"] = count / _plain_together(servers, f"both-{way.topic}", file, len(values))
    rates["records"] = float(len(values))
    rates["mean bytes"] = sum(map(len, values)) / len(values)
    return rates


def _plain_together(servers: str, topic: str, file: Path, count: int) -> float:
    asyncio.run(make_topic(servers, topic))
    with running(sys.executable, PROGRAMS, "consume", servers, topic, count) as consumer:
        consumer.line()
        began = call("produce", servers, topic, file, "00")["began"]
        return float(consumer.line()["ended"] - began)


def _together(directory: Path, servers: str, kind: str, count: int) -> float:
    way = Way(directory, servers)
    with (
        way.working(),
        running(sys.executable, PROGRAMS, "emit", way.stream, kind, count, **way.environment) as program,
    ):
        began = program.line()["began"]
        return count / (wait_for(way.store, MARKER) - began)


def _latencies(directory: Path, servers: str, rate: float, seconds: float) -> list[float]:
    """Milliseconds, of every event."""
    way = Way(directory, servers)
    pacing = (sys.executable, PROGRAMS, "pace", way.stream, PACED, rate, seconds)
    with way.working(), running(*pacing, **way.environment):
        return latencies(way.store, int(rate * seconds))


@contextlib.contextmanager
def started_broker(directory: Path) -> Iterator[str]:
    """One of the tests' brokers, with its data in a directory; its address."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.kafka import KafkaCluster

    cluster = KafkaCluster(directory / "broker")
    cluster.start()
    try:
        yield cluster.bootstrap
    finally:
        cluster.close()


@contextlib.contextmanager
def _broker(options: argparse.Namespace, directory: Path) -> Iterator[str]:
    with contextlib.nullcontext(options.bootstrap) if options.bootstrap else started_broker(directory) as servers:
        yield servers


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
