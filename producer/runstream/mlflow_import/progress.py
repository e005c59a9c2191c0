"""Progress on standard error: a bar on a terminal, where rich is installed, and a line from time to time elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["Report", "progress"]

LINE_INTERVAL: Final = 5.0
"""Seconds between lines."""

Report = Callable[[str, int], None]
"""Takes what is being done, and how many runs were looked at so far."""


@contextmanager
def progress(interval: float = LINE_INTERVAL) -> Iterator[Report]:
    """Show what is reported meanwhile."""
    bar = _rich_progress() if sys.stderr.isatty() else None
    if bar is None:
        yield _Lines(interval)
        return
    with bar:
        task = bar.add_task("", total=None, runs=0)
        yield lambda what, runs: bar.update(task, description=what, runs=f"{runs:,}")


def _rich_progress() -> Any:
    """A display of rich's; None where it is not installed."""
    try:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:
        return None
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[runs]} runs"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


class _Lines:
    """A line when something else begins, and after each interval."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._what = ""
        self._last = 0.0

    def __call__(self, what: str, runs: int) -> None:
        now = time.monotonic()
        if what != self._what or now - self._last >= self._interval:
            self._what, self._last = what, now
            print(f"{what}: {runs:,} runs looked at so far", file=sys.stderr, flush=True)  # noqa: T201
