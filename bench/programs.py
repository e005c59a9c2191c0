"""The processes of several benchmarks, each of which does one thing and prints one line of JSON when it is done.

``seconds`` is what the work took, without starting the process and, except for the sink, without connecting; ``began``
and ``ended`` are `time.time`.  ``imported`` is the memory that the process had before it began, see `memory_of`.
"""

import argparse
import asyncio
import json
import os
import resource
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import runstream

__all__ = ["MARKER", "main", "memory_of", "read_values", "write_values"]

MARKER = "done"
"""The metric that is logged last."""
PROMPT = "What does this function return, and why? " * 35
ANSWER = 'It returns "a", then\nstops. ' * 20
_AT_ONCE = 100_000
"""Rows of one number that are logged in a call."""
_PIECE = 64 << 10
"""Bytes of a bare write."""
_LENGTH = struct.Struct("<I")
_BARE = """
CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE metrics (key INTEGER, step INTEGER, value REAL, PRIMARY KEY (key, step)) WITHOUT ROWID;
"""


def emit(stream: str, kind: str, count: str) -> None:
    """Log metrics, 2 KB rows or rows of one number as fast as it goes, then the marker."""
    imported = memory_of("self")
    runstream.configure(stream=stream, journal_quota="64GiB")
    number = int(count)
    with runstream.start_run() as run:
        began = time.time()
        if kind == "rows of one number":
            _log_numbers(run, number - 1)
        else:
            _log_each(run, kind, number - 1)
        run.log_metric(MARKER, 1.0)
        ended = time.time()
    _tell(began, ended, imported)


def _log_each(run: runstream.Run, kind: str, number: int) -> None:
    for step in range(number):
        if kind == "metrics":
            run.log_metric(("loss", "accuracy", "tokens", "latency")[step % 4], step * 0.25, step=step)
        else:
            run.log_prediction({"id": step, "prompt": PROMPT, "output": ANSWER, "latency_ms": step * 0.5})


def _log_numbers(run: runstream.Run, number: int) -> None:
    """A table of one column, as a batch job logs it: of all events those that take the most memory for their bytes."""
    for first in range(0, number, _AT_ONCE):
        run.log_table({"number": list(range(first, min(first + _AT_ONCE, number)))}, "numbers.json")


def emit_runs(stream: str, count: str) -> None:
    """Log runs of requests, each with 5 params, 3 metrics and a row."""
    runstream.configure(stream=stream, journal_quota="64GiB")
    settings = {"model": "m", "temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "stream": False}
    began = time.time()
    for number in range(int(count)):
        with runstream.start_run() as run:
            run.log_params(settings)
            run.log_metrics({"latency_ms": number * 0.5, "prompt_tokens": 12, "completion_tokens": 34})
            run.log_prediction({"id": number, "prompt": "short", "output": "answer"})
    _tell(began, time.time())


def pace(stream: str, key: str, rate: str, seconds: str) -> None:
    """Log so many events a second, of which each is a point with the time at which it was logged."""
    runstream.configure(stream=stream)
    period, count = 1 / float(rate), int(float(rate) * float(seconds))
    with runstream.start_run() as run:
        began = time.time()
        for step in range(count):
            ahead = began + step * period - time.time()
            if ahead > 0:
                time.sleep(ahead)
            run.log_metric(key, time.time(), step=step)
        ended = time.time()
    _tell(began, ended)


def pace_bare(store: str, key: str, rate: str, seconds: str) -> None:
    """The same points, inserted by the program itself into tables of these names; those that are due share a commit."""
    Path(store).mkdir()
    database = sqlite3.connect(Path(store, "runstream.db"), isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(_BARE)
    database.execute("INSERT INTO keys (name) VALUES (?)", (key,))
    period, count = 1 / float(rate), int(float(rate) * float(seconds))
    began = time.time()
    step = 0
    while step < count:
        ahead = began + step * period - time.time()
        if ahead > 0:
            time.sleep(ahead)
        due = min(count, int((time.time() - began) / period) + 1)
        database.execute("BEGIN")
        points = [(one, began + one * period) for one in range(step, due)]
        database.executemany("INSERT INTO metrics VALUES (1, ?, ?)", points)
        database.execute("COMMIT")
        step = max(step, due)
    _tell(began, time.time())
    database.close()


def ship(stream: str, directory: str) -> None:
    """Ship what a journal directory holds."""
    from runstream.shipping.kafka_transport import KafkaTransport
    from runstream.shipping.shipper import News, Shipper
    from runstream_schemas.streams import KafkaStream, parse_stream

    target = parse_stream(stream)
    assert isinstance(target, KafkaStream)

    begins: list[float] = []

    def hear(news: News) -> None:
        if news.state == "shipping" and not begins:
            begins.append(time.time())

    asyncio.run(Shipper(Path(directory), KafkaTransport(target), hear, once=True).run())
    _tell(begins[0], time.time())


def sink(stream: str, store: str) -> None:
    """Apply what a stream holds to a fresh store."""
    import runstream_sink.kafka.client  # noqa: F401 - so that loading it takes no time below
    from runstream_sink.config import resolve
    from runstream_sink.logging import set_up
    from runstream_sink.service import replay

    set_up("error", "json")
    imported = memory_of("self")
    began = time.time()
    asyncio.run(replay(resolve(stream=stream, store=store), lambda _: None))
    _tell(began, time.time(), imported)


def sink_once(stream: str, store: str) -> None:
    """Consume what a stream holds, as ``runstream sink --once`` does it."""
    from runstream_sink.config import resolve
    from runstream_sink.logging import set_up
    from runstream_sink.service import run_sink

    set_up("error", "json")
    began = time.time()
    asyncio.run(run_sink(resolve(stream=stream, store=store), once=True))
    _tell(began, time.time())


def decode(queue: str) -> None:
    """Read the journals of a queue and decode their events, and no more."""
    from runstream_schemas.events import decode_event
    from runstream_schemas.reader import JournalReader, journal_names

    journals = Path(queue) / "journals"
    began = time.time()
    for name in journal_names(journals):
        reader = JournalReader(journals / name)
        while not reader.position.done:
            for _, _, body in reader.read(8 << 20).records:
                decode_event(body)
        reader.close()
    _tell(began, time.time())


def write(file: str, size: str) -> None:
    """Write so many bytes to a file, and no more."""
    piece = os.urandom(_PIECE)
    began = time.time()
    with Path(file).open("wb", buffering=0) as target:
        target.writelines(piece for _ in range(0, int(size), _PIECE))
    _tell(began, time.time())


def produce(servers: str, topic: str, file: str, key: str) -> None:
    """Send values, as aiokafka's idempotent producer alone does it: to one partition, all of them acknowledged."""
    from aiokafka import AIOKafkaProducer

    from runstream_schemas.kafka_settings import KAFKA_COMPRESSION

    values = list(read_values(Path(file)))
    compression = KAFKA_COMPRESSION.get()

    async def run() -> tuple[float, float]:
        producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            enable_idempotence=True,
            compression_type=None if compression == "none" else compression,
            max_batch_size=1 << 20,
            max_request_size=8 << 20,
        )
        async with producer:
            began = time.time()
            sent = [await producer.send(topic, value, bytes.fromhex(key)) for value in values]
            await asyncio.gather(*sent)
            return began, time.time()

    _tell(*asyncio.run(run()))


def consume(servers: str, topic: str, count: str) -> None:
    """Read values, as aiokafka's consumer alone does it; says "ready" before."""
    from aiokafka import AIOKafkaConsumer

    async def run() -> tuple[float, float]:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=servers, auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20
        )
        async with consumer:
            print('"ready"', flush=True)
            began = time.time()
            left = int(count)
            while left > 0:
                fetched = await consumer.getmany(timeout_ms=1000)
                left -= sum(map(len, fetched.values()))
            return began, time.time()

    _tell(*asyncio.run(run()))


def read_values(file: Path) -> Iterator[bytes]:
    """What `write_values` has written."""
    data = file.read_bytes()
    at = 0
    while at < len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + size]
        at += size


def write_values(file: Path, values: list[bytes]) -> None:
    """Values, each behind its length."""
    file.write_bytes(b"".join(_LENGTH.pack(len(value)) + value for value in values))


def memory_of(process: int | str) -> dict[str, int]:
    """Bytes of a process's memory: ``rss`` in all, ``anonymous`` of its own, ``peak`` the most that rss was.

    The rest of rss are pages of mapped files, which the kernel takes back where it needs them.
    """
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    names = {"rss": "VmRSS", "anonymous": "RssAnon", "peak": "VmHWM"}
    return {name: int(fields[field].split()[0]) << 10 for name, field in names.items()}


def _tell(began: float, ended: float, imported: dict[str, int] | None = None) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"began": began, "ended": ended, "seconds": ended - began, "cpu": used.ru_utime + used.ru_stime}
    print(json.dumps({**told, "imported": imported, "memory": memory_of("self")}), flush=True)


_PROGRAMS = (emit, emit_runs, pace, pace_bare, ship, sink, sink_once, decode, write, produce, consume)
PROGRAMS: dict[str, Callable[..., None]] = {program.__name__: program for program in _PROGRAMS}


def main() -> None:
    """Run one of the programs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    PROGRAMS[options.program](*options.arguments)


if __name__ == "__main__":
    main()
