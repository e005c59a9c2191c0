"""What one log call costs the calling thread: runstream beside other loggers, in the same run.

Each logger is set up in a process of its own and all take turns, round by round, beginning with another one each time.
Whoever has no turn is stopped (SIGSTOP), with all its processes and threads, so that only what a logger does itself
disturbs it.  After its turn a logger carries away what it was given, which is not counted.  The calling thread is
pinned to one CPU where there are two; the threads and processes that a logger makes for itself are not.

Figures are microseconds a call, medians over the rounds of each round's percentiles; ``ratio`` is the median over the
rounds of p50 to that of runstream.  Percentiles for which a round has too few calls are left out.  What a call does
differs from logger to logger, above all what survives: each says in what state an event is when its call returns.

Run it by ``make bench PEERS=1``, or for a quick look ``python bench/peers.py --rounds 1 --only runstream langfuse``.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loggers import LOGGERS
from loggers.base import Setting
from loggers.brokers import TOPIC
from timing import COLUMNS, percentiles, print_table, write_json

OURS = "runstream"
WARM_UP = 200
ENOUGH = {"p50": 1, "p99": 100, "p99.9": 1000, "max": 1}
"""The fewest calls that a percentile is taken of."""


class Peer:
    """A logger's process, which is stopped whenever it has no turn."""

    def __init__(self, name: str, directory: Path, broker: str) -> None:
        self.name, self.directory = name, directory
        directory.mkdir()
        command = [sys.executable, __file__, "--serve", name, "--directory", str(directory), "--broker", broker]
        with (directory / "errors.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        self._line()
        self._signal(signal.SIGSTOP)

    def turn(self, subject: str, calls: int) -> dict[str, float]:
        """Measure so many calls."""
        self._signal(signal.SIGCONT)
        assert self.process.stdin is not None
        print(json.dumps({"subject": subject, "calls": calls}), file=self.process.stdin, flush=True)
        told: dict[str, float] = self._line()
        self._signal(signal.SIGSTOP)
        return told

    def end(self) -> None:
        """Kill it and what it started."""
        self._signal(signal.SIGKILL)
        self.process.communicate()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        if not told:
            raise SystemExit(f"{self.name} has ended:\n{(self.directory / 'errors.log').read_text()[-4000:]}")
        return json.loads(told)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def main() -> None:
    """Measure and print, or be one of the processes that are measured."""
    options = _parse()
    if options.serve:
        _serve(options)
        return
    chosen = [name for name in LOGGERS if name in options.only or not options.only]
    with tempfile.TemporaryDirectory() as made, _broker(chosen, Path(made)) as broker, contextlib.ExitStack() as ends:
        peers = []
        for name in _possible(chosen, broker):
            print(f"starting {name}", flush=True)
            peers.append(Peer(name, Path(made, name.replace(" ", "-")), broker))
            ends.callback(peers[-1].end)
        results = _measure(peers, options.rounds, options.calls)
    _report(results)
    write_json(options.output, results, options)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round; fewer of loggers that take long")
    parser.add_argument("--only", nargs="+", default=[], choices=LOGGERS, metavar="NAME", help="these loggers alone")
    parser.add_argument("--output", type=Path, default=Path("build/bench/peers.json"))
    for hidden in ("--serve", "--directory", "--broker"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _possible(names: Sequence[str], broker: str) -> Iterator[str]:
    for name in names:
        kind = LOGGERS[name]
        if kind.needs and importlib.util.find_spec(kind.needs.partition(".")[0]) is None:
            print(f"{name} is left out: {kind.needs} is not installed")
        elif kind.broker and not broker:
            print(f"{name} is left out: there is no broker")
        else:
            yield name


@contextlib.contextmanager
def _broker(names: Sequence[str], directory: Path) -> Iterator[str]:
    """The address of a broker, empty where nobody uses one."""
    if not any(LOGGERS[name].needs in {"confluent_kafka", "aiokafka"} for name in names):
        yield ""
        return
    from kafka import make_topic, started_broker

    with started_broker(directory) as servers:
        asyncio.run(make_topic(servers, TOPIC))
        yield servers


def _serve(options: argparse.Namespace) -> None:
    """Be a logger: measure what is asked for, line by line."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    logger = LOGGERS[options.serve](Setting(Path(options.directory), options.broker))
    for subject in logger.subjects():
        logger.durations(subject, max(3, int(WARM_UP * logger.share)))
    logger.settle()
    print(json.dumps("ready"), file=told, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        taken: dict[str, float] = {}
        if asked["subject"] in logger.subjects():
            calls = max(5, int(asked["calls"] * logger.share))
            with _pinned():
                figures = percentiles(logger.durations(asked["subject"], calls))
            taken = {name: figure for name, figure in figures.items() if calls >= ENOUGH[name]}
            logger.settle()
        print(json.dumps(taken), file=told, flush=True)


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """With this thread, and no other, on one CPU."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) == 1:
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(usual)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def _measure(peers: Sequence[Peer], rounds: int, calls: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By subject and logger."""
    taken: dict[str, dict[str, list[dict[str, float]]]] = {"metric": {}, "2 KB row": {}}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        first = number % len(peers)
        for subject, of_subject in taken.items():
            for peer in (*peers[first:], *peers[:first]):
                if figures := peer.turn(subject, calls):
                    of_subject.setdefault(peer.name, []).append(figures)
    return {
        subject: {peer.name: _summary(of_subject, peer.name) for peer in peers if peer.name in of_subject}
        for subject, of_subject in taken.items()
    }


def _summary(of_subject: Mapping[str, list[dict[str, float]]], name: str) -> dict[str, Any]:
    rounds = of_subject[name]
    found: dict[str, Any] = {column: statistics.median(one[column] for one in rounds) for column in rounds[0]}
    if OURS in of_subject:
        pairs = zip(rounds, of_subject[OURS], strict=True)
        found["ratio"] = statistics.median(theirs["p50"] / ours["p50"] for theirs, ours in pairs)
    return {**found, "an event is then": LOGGERS[name].durability, "too fast": LOGGERS[name].overload}


def _report(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    columns = [*COLUMNS, "ratio"]
    for subject, of_subject in results.items():
        rows = [
            [name, *(one.get(column, "") for column in columns), one["an event is then"]]
            for name, one in of_subject.items()
        ]
        print_table(f"log a {subject}: microseconds a call", ["", *columns, "an event is then"], rows)


if __name__ == "__main__":
    main()
