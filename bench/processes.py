"""Processes that benchmarks start, and what they find in a store while those work."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from programs import MARKER

__all__ = [
    "DEADLINE",
    "PACED",
    "PROGRAMS",
    "WARM",
    "Program",
    "call",
    "latencies",
    "log",
    "memory_above_import",
    "pause",
    "running",
    "wait_for",
]

PROGRAMS = Path(__file__).with_name("programs.py")
PACED, WARM = "sent", "warm"
"""Metrics whose values are the times at which they were logged: for the latency, and before anything is measured."""
DEADLINE = 600.0
"""Seconds after which what is waited for will not come."""
_LOOK = 0.002
_LATEST = "SELECT step, value FROM metrics WHERE key = (SELECT id FROM keys WHERE name = ?) AND step > ? ORDER BY step"
_KEYS = "SELECT 1 FROM metrics WHERE key = (SELECT id FROM keys WHERE name = ?)"


class Program:
    """A process that prints lines of JSON; killed at the end."""

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
    with running(sys.executable, PROGRAMS, name, *arguments, **environment) as program:
        while True:
            told = program.line()
            if isinstance(told, dict):
                return told


def log(stream: str, kind: str, count: int) -> dict[str, Any]:
    """Have so many metrics, 2 KB rows or request runs logged; what the program says that did it."""
    return call("emit_runs", stream, count) if kind == "request runs" else call("emit", stream, kind, count)


def memory_above_import(told: dict[str, Any]) -> float:
    """MiB that a program took at most, above what it had when all was imported, by what it says."""
    return float(told["memory"]["peak"] - told["imported"]["rss"]) / 2**20


def latencies(store: Path, count: int) -> list[float]:
    """Milliseconds from each of so many paced log calls until its point is found in a store that a sink fills."""
    found: list[float] = []
    deadline = time.monotonic() + DEADLINE
    with contextlib.closing(_points(store)) as points:
        for values in points:
            now = time.time()
            found += [(now - value) * 1e3 for value in values]
            if len(found) >= count:
                return found
            pause(deadline)
    return found


def wait_for(store: Path, metric: str) -> float:
    """When a metric is in a store."""
    deadline = time.monotonic() + DEADLINE
    with contextlib.closing(_open(store)) as database:
        while database.execute(_KEYS, (metric,)).fetchone() is None:
            pause(deadline)
    return time.time()


def pause(deadline: float) -> None:
    """Wait a little; ends the program if it is too late by the monotonic clock."""
    if time.monotonic() > deadline:
        raise SystemExit("what was waited for did not happen")
    time.sleep(_LOOK)


def _points(store: Path) -> Iterator[list[float]]:
    """The values of the paced points that have come since the last look, for ever."""
    last = -1
    with contextlib.closing(_open(store)) as database:
        while True:
            found = database.execute(_LATEST, (PACED, last)).fetchall()
            last = found[-1][0] if found else last
            yield [value for _, value in found]


def _open(store: Path) -> sqlite3.Connection:
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(sqlite3.OperationalError):  # there is none yet, or it is being made
            database = sqlite3.connect(f"file:{store / 'runstream.db'}?mode=ro", uri=True, timeout=10)
            try:
                database.execute(_KEYS, (MARKER,))
            except sqlite3.OperationalError:
                database.close()
            else:
                return database
        pause(deadline)
