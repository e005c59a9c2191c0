"""What one log call costs the calling thread, beside librdkafka's ``produce`` and MLflow's asynchronous client.

All are measured in the same process and run, in turns, over several rounds; each figure is the median of the rounds'
percentiles, in microseconds.  "busy" is beside a thread that computes and never waits.

* runstream: the whole public call, encoding, validation and the write to the journal included.
* librdkafka: ``msgspec`` encoding of the same event and ``Producer.produce``, without a broker: the message goes into
  the library's memory and is gone with the process.
* MLflow: ``log_metric(..., synchronous=False)`` and, for rows, ``log_table`` (it has no asynchronous one), on SQLite.

Run it by ``make bench``, or for a quick look ``python bench/emit.py --rounds 1 --no-mlflow``.
"""

import argparse
import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from timing import median_of, percentiles, print_table, write_json

import runstream
from runstream_schemas.events import MetricLogged, RowsLogged, encode_event

Call = Callable[[int], Any]
ROW = {"prompt": "p" * 1400, "output": "o" * 600, "latency_ms": 12.5, "tokens": 321}


def main() -> None:
    """Measure and print."""
    options = _parse()
    with tempfile.TemporaryDirectory() as directory:
        runstream.configure(stream=f"queue:{directory}/queue")
        results: dict[str, dict[str, Any]] = {}
        with runstream.start_run():
            for subject in ("metric", "row"):
                peers = _peers(subject, Path(directory), mlflow=options.mlflow)
                for load in ("alone", "busy"):
                    results[f"{subject}, {load}"] = _measure(peers, load == "busy", options)
        if options.mlflow:
            import mlflow

            mlflow.flush_async_logging()
        _report(results)
        print(f"\nstats: {runstream.stats()}")
        write_json(options.output, results)
        runstream.close()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=50_000, help="calls a round, of runstream and librdkafka")
    parser.add_argument("--mlflow-calls", type=int, default=30, help="calls a round, of MLflow")
    parser.add_argument("--no-mlflow", dest="mlflow", action="store_false")
    parser.add_argument("--output", type=Path, default=Path("build/bench/emit.json"))
    return parser.parse_args()


def _peers(subject: str, directory: Path, *, mlflow: bool) -> dict[str, Call]:
    peers = {"runstream": _ours(subject), "librdkafka": _librdkafka(subject)}
    if mlflow:
        peers["mlflow"] = _mlflow(subject, directory)
    return peers


def _ours(subject: str) -> Call:
    if subject == "metric":
        return lambda step: runstream.log_metric("loss", 0.5, step=step)
    return lambda _: runstream.log_prediction(ROW)


def _librdkafka(subject: str) -> Call:
    import confluent_kafka

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": "127.0.0.1:9",
            "queue.buffering.max.messages": 10_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "log_level": 0,
        }
    )
    run_id = "0" * 32

    def produce(step: int) -> None:
        if subject == "metric":
            event: Any = MetricLogged(run_id, "loss", 0.5, step, time.time_ns() // 1_000_000)
        else:
            event = RowsLogged(run_id, "predictions", list(ROW), [list(ROW.values())])
        producer.produce("events", encode_event(event))
        if step == 0:
            producer.purge()  # what the last round left in memory

    return produce


def _mlflow(subject: str, directory: Path) -> Call:
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
    experiment = mlflow.create_experiment(subject, artifact_location=str(directory / f"mlflow-{subject}"))
    run_id = mlflow.MlflowClient().create_run(experiment).info.run_id
    if subject == "metric":
        return lambda step: mlflow.log_metric("loss", 0.5, step=step, synchronous=False, run_id=run_id)
    return lambda _: mlflow.log_table({name: [value] for name, value in ROW.items()}, "predictions.json", run_id=run_id)


def _measure(peers: dict[str, Call], busy: bool, options: argparse.Namespace) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    with _busy_thread() if busy else contextlib.nullcontext():
        for _ in range(options.rounds):
            for name, call in peers.items():
                calls = options.mlflow_calls if name == "mlflow" else options.calls
                rounds[name].append(percentiles(_durations(call, calls)))
    return {name: median_of(of_peer) for name, of_peer in rounds.items()}


def _durations(call: Call, calls: int) -> list[int]:
    clock = time.perf_counter_ns
    durations = [0] * calls
    for step in range(calls):
        begin = clock()
        call(step)
        durations[step] = clock() - begin
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


def _report(results: dict[str, dict[str, Any]]) -> None:
    columns = ["p50", "p99", "p99.9", "max"]
    for case, peers in results.items():
        ours = peers["runstream"]
        rows = [[name, *(figures[c] for c in columns), figures["p50"] / ours["p50"]] for name, figures in peers.items()]
        print_table(f"{case}: microseconds a call", ["", *columns, "p50 / ours"], rows)
    for subject in ("metric", "row"):
        ratio = results[f"{subject}, busy"]["runstream"]["p50"] / results[f"{subject}, alone"]["runstream"]["p50"]
        print(f"\n{subject}: p50 beside a busy thread is {ratio:.2f} times that alone")


if __name__ == "__main__":
    main()
