"""Progress on standard error: a bar with rate and time left on a terminal, a line from time to time elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from runstream_sink.cli.output import duration, note

__all__ = ["LINE_INTERVAL", "Report", "progress"]

LINE_INTERVAL: Final = 5.0
"""Seconds between lines."""

Report = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is (0: not known)."""


@contextmanager
def progress(unit: str, interval: float = LINE_INTERVAL) -> Iterator[Report]:
    """Show what is reported meanwhile, in ``unit``."""
    if sys.stderr.isatty():
        with _bar(unit) as report:
            yield report
    else:
        yield _Lines(unit, interval)


@contextmanager
def _bar(unit: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, told="")
        stage = ""

        def report(what: str, done: int, total: int) -> None:
            nonlocal stage
            if what != stage:
                bar.reset(task, total=total or None, description=what)
                stage = what
            speed = bar.tasks[0].speed or 0.0
            told = f"{_told(done, total, unit)}, {speed:,.0f} {unit}/s" if done else ""
            bar.update(task, completed=done, total=total or None, told=told)

        yield report


def _told(done: int, total: int, unit: str) -> str:
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"


class _Lines:
    """A line when something else begins, and after each interval."""

    def __init__(self, unit: str, interval: float) -> None:
        self._unit = unit
        self._interval = interval
        self._stage = ""
        self._began = 0.0
        self._last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._stage:
            self._stage, self._began, self._last = what, now, now
            note(what)
        elif now - self._last >= self._interval:
            self._last = now
            rate = done / (now - self._began or 1.0)
            left = f", {duration((total - done) / rate)} left" if rate and total > done else ""
            note(f"{what}: {_told(done, total, self._unit)}, {rate:,.0f} {self._unit}/s{left}")
