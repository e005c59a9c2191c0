"""What one log call costs the calling thread, beside librdkafka's ``produce`` and MLflow's asynchronous client.

All are measured in the same process and run, in turns, over several rounds; each figure is the median of the rounds'
percentiles, in microseconds.  What is logged:

* metric, param, row (of 2 KB), row of 20 KB, artifact reference (the event that
  says where a file's bytes lie; to put them there is no part of it).

and in which circumstances (each also a name in the results):

* alone;
* busy: beside a thread that computes and never waits;
* threads: from 8 threads at once;
* tasks: from 1,000 tasks of an event loop, each of which logs once and lets the others go on;
* disk: while another process writes to the same file system and syncs, without a pause;
* change: the one call in thousands that goes on to the journal's next segment, which is ready.  There is no such call
  in the peers.

The peers:

* runstream: the whole public call, encoding, validation and the write to the journal included.  The journal survives
  the process; it is synced once a second.
* librdkafka: ``msgspec`` encoding of the same event and ``Producer.produce``, without a broker: the message goes into
  the library's memory and is gone with the process.
* MLflow: ``log_metric(..., synchronous=False)`` and, for rows, ``log_table`` (it has no asynchronous one), on SQLite.
  It is slow enough to be measured alone and busy only.

Run it by ``make bench``, or for a quick look ``python bench/emit.py --rounds 1 --no-mlflow``.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from timing import COLUMNS, median_of, percentiles, print_table, write_json

import runstream
from runstream.client import client
from runstream_schemas.events import ArtifactLogged, Event, MetricLogged, ParamsLogged, RowsLogged, encode_event

Call = Callable[[int], Any]

ROW: Final = {"prompt": "p" * 1400, "output": "o" * 600, "latency_ms": 12.5, "tokens": 321}
LARGE_ROW: Final = {**ROW, "prompt": "p" * 19_400}
RUN_ID: Final = "0" * 32
REFERENCE: Final = ArtifactLogged(RUN_ID, "model/weights.bin", "0" * 64, 123_456, "application/octet-stream")
CIRCUMSTANCES: Final = ("alone", "busy", "threads", "tasks", "disk", "change")
THREADS: Final = 8
TASKS: Final = 1000
SEGMENT: Final = 64 << 10
"""Bytes of a segment where changes are measured."""


class Subject(NamedTuple):
    """Something that is logged."""

    ours: Call
    event: Callable[[int], Event]
    share: float = 1.0
    """Of the calls that are asked for: large ones would fill the disk."""


SUBJECTS: Final = {
    "metric": Subject(
        lambda step: runstream.log_metric("loss", 0.5, step=step),
        lambda step: MetricLogged(RUN_ID, "loss", 0.5, step, time.time_ns() // 1_000_000),
    ),
    "param": Subject(
        lambda _: runstream.log_param("model", "small"),
        lambda _: ParamsLogged(RUN_ID, {"model": "small"}),
    ),
    "row": Subject(
        lambda _: runstream.log_prediction(ROW),
        lambda _: RowsLogged(RUN_ID, "predictions", list(ROW), [list(ROW.values())]),
    ),
    "row of 20 KB": Subject(
        lambda _: runstream.log_prediction(LARGE_ROW),
        lambda _: RowsLogged(RUN_ID, "predictions", list(LARGE_ROW), [list(LARGE_ROW.values())]),
        0.1,
    ),
    "artifact reference": Subject(lambda _: client.emit(REFERENCE), lambda _: REFERENCE),
}


def main() -> None:
    """Measure and print."""
    options = _parse()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for subject, circumstance in itertools.product(options.subjects, options.circumstances):
            peers = _peers(subject, circumstance, Path(directory), mlflow=options.mlflow)
            results[f"{subject}, {circumstance}"] = _measure(subject, peers, circumstance, Path(directory), options)
    _report(results, options)
    stats = runstream.stats()
    print(f"\nstalls: {stats['stalls']} calls made a segment themselves; dropped: {sum(stats['dropped'].values())}")
    write_json(options.output, results, options)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=50_000, help="calls a round, of runstream and librdkafka")
    parser.add_argument("--changes", type=int, default=50, help="calls a round that change the segment")
    parser.add_argument("--mlflow-calls", type=int, default=30, help="calls a round, of MLflow")
    parser.add_argument("--no-mlflow", dest="mlflow", action="store_false")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--circumstances", nargs="+", choices=CIRCUMSTANCES, default=list(CIRCUMSTANCES))
    parser.add_argument("--directory", type=Path, help="where queues and databases lie meanwhile")
    parser.add_argument("--output", type=Path, default=Path("build/bench/emit.json"))
    return parser.parse_args()


def _peers(subject: str, circumstance: str, directory: Path, *, mlflow: bool) -> dict[str, Call]:
    peers = {"runstream": SUBJECTS[subject].ours}
    if circumstance != "change":
        peers["librdkafka"] = _librdkafka(SUBJECTS[subject].event)
    if mlflow and subject in {"metric", "row"} and circumstance in {"alone", "busy"}:
        peers["mlflow"] = _mlflow(subject, directory)
    return peers


def _librdkafka(event: Callable[[int], Event]) -> Call:
    import confluent_kafka

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": "127.0.0.1:9",
            "queue.buffering.max.messages": 10_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "log_level": 0,
        }
    )

    def produce(step: int) -> None:
        producer.produce("events", encode_event(event(step)))
        if step == 0:
            producer.purge()  # what the last round left in memory

    return produce


def _mlflow(subject: str, directory: Path) -> Call:
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
    name = f"{subject}-{time.time_ns()}"
    experiment = mlflow.create_experiment(name, artifact_location=str(directory / f"mlflow-{name}"))
    run_id = mlflow.MlflowClient().create_run(experiment).info.run_id
    if subject == "metric":
        return lambda step: mlflow.log_metric("loss", 0.5, step=step, synchronous=False, run_id=run_id)
    return lambda _: mlflow.log_table({name: [value] for name, value in ROW.items()}, "predictions.json", run_id=run_id)


def _settle_mlflow() -> None:
    """Let it apply what it was given, so that its threads take nothing of the next one's turn."""
    import mlflow

    mlflow.flush_async_logging()


def _measure(
    subject: str, peers: dict[str, Call], circumstance: str, directory: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """By peer, the medians of the rounds' percentiles; our queue is a new one."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    around = {"busy": _busy_thread, "disk": lambda: _busy_disk(directory)}.get(circumstance, contextlib.nullcontext)
    how = {"threads": _from_threads, "tasks": _from_tasks, "change": _at_changes}.get(circumstance, _one_by_one)
    with _queue(directory, circumstance), around():
        for _ in range(options.rounds):
            for name, call in peers.items():
                calls = options.changes if circumstance == "change" else int(options.calls * SUBJECTS[subject].share)
                rounds[name].append(percentiles(how(call, options.mlflow_calls if name == "mlflow" else calls)))
                if name == "mlflow":
                    _settle_mlflow()
    return {name: median_of(of_peer) for name, of_peer in rounds.items()}


@contextlib.contextmanager
def _queue(directory: Path, circumstance: str) -> Iterator[None]:
    """A queue of its own, with an active run."""
    size = SEGMENT if circumstance == "change" else None
    runstream.configure(stream=f"queue:{directory}/queue", journal_quota="64GiB", segment_size=size)
    with runstream.start_run():
        yield
    runstream.close()
    shutil.rmtree(directory / "queue")


def _one_by_one(call: Call, calls: int, first: int = 0) -> list[int]:
    clock = time.perf_counter_ns
    durations = [0] * calls
    for step in range(first, first + calls):
        begin = clock()
        call(step)
        durations[step - first] = clock() - begin
    return durations


def _from_threads(call: Call, calls: int) -> list[int]:
    run, taken = runstream.active_run(), [list[int]() for _ in range(THREADS)]
    begun = threading.Barrier(THREADS)

    def work(number: int) -> None:
        begun.wait()
        with runstream.start_run(run_id=run.run_id) if run is not None else contextlib.nullcontext():
            taken[number] = _one_by_one(call, calls // THREADS, number * calls)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [duration for durations in taken for duration in durations]


def _from_tasks(call: Call, calls: int) -> list[int]:
    durations: list[int] = []

    async def work(number: int) -> None:
        for step in range(number, calls, TASKS):
            durations.extend(_one_by_one(call, 1, step))
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(work(number) for number in range(TASKS)))

    asyncio.run(all_of_them())
    return durations


def _at_changes(call: Call, calls: int) -> list[int]:
    """The calls that find no room; before each, the background thread has time to prepare the next segment."""
    durations = []
    while len(durations) < calls:
        runstream.flush()
        journal = client._journal  # noqa: SLF001 - to tell when the next segment begins
        assert journal is not None
        index, taken = journal._current.index, 0  # noqa: SLF001
        while journal._current.index == index:  # noqa: SLF001
            (taken,) = _one_by_one(call, 1)
        durations.append(taken)
    return durations


@contextlib.contextmanager
def _busy_thread() -> Iterator[None]:
    stop = threading.Event()

    def compute() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 31 + 7) % 1_000_003

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


_WRITER: Final = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
data = os.urandom(4 << 20)
while True:
    for offset in range(0, 256 << 20, len(data)):
        os.pwrite(descriptor, data, offset)
    os.fdatasync(descriptor)
    print(flush=True)
"""


@contextlib.contextmanager
def _busy_disk(directory: Path) -> Iterator[None]:
    """Another process writes 256 MiB, syncs, and begins again."""
    command = [sys.executable, "-c", _WRITER, str(directory / "ballast")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            yield
        finally:
            writer.kill()
            (directory / "ballast").unlink(missing_ok=True)


def _report(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    for subject in options.subjects:
        rows: list[list[object]] = []
        for circumstance in options.circumstances:
            peers = results[f"{subject}, {circumstance}"]
            for name, figures in peers.items():
                ratio = figures["p50"] / peers["runstream"]["p50"]
                rows.append([circumstance, name, *(figures[column] for column in COLUMNS), ratio])
        print_table(f"{subject}: microseconds a call", ["", "", *COLUMNS, "p50 / ours"], rows)
    alone = {subject: results.get(f"{subject}, alone") for subject in options.subjects}
    for (subject, bare), circumstance in itertools.product(alone.items(), options.circumstances):
        if bare is not None and circumstance != "alone":
            ratio = results[f"{subject}, {circumstance}"]["runstream"]["p50"] / bare["runstream"]["p50"]
            print(f"{subject}, {circumstance}: p50 is {ratio:.2f} times that alone")


if __name__ == "__main__":
    main()
