"""What changes in the store, commit by commit, for those who watch over HTTP.

A feed remembers the last commits, so that a watcher whose connection broke goes on where it was.  Each feed has a name
of its own: a watcher that comes from another one, or from too far back, is told to begin anew.
"""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Final, NamedTuple, Self

from msgspec import Struct

from runstream_sink.changes import Changes

__all__ = ["Change", "ChangeFeed", "Merged"]

_REMEMBERED: Final = 1024
"""Commits."""
_MOST_RUNS: Final = 10_000
"""Runs of one commit; what changes more makes watchers begin anew."""
_AFTERWARDS: Final = 60.0
"""Seconds that commits are remembered without any watcher."""


class Change(Struct, frozen=True):
    """What one or several commits have changed."""

    runs: dict[str, list[str]]
    """By run id, what of it: ``run`` (name, status, lifecycle), ``params``, ``metrics``, ``tags``, ``tables`` or
    ``artifacts``; sorted."""
    experiments: list[str]
    """Ids, sorted."""
    events: int
    dead_letters: int


class Merged(NamedTuple):
    """What a watcher is told next."""

    place: str
    """Where to go on."""
    change: Change | None
    """None: what came between is not known; read anew what is watched."""


class _Entry(NamedTuple):
    number: int
    runs: dict[str, set[str]]
    experiments: set[str]
    events: int
    dead: int


class ChangeFeed:
    """Told of each commit; asked by watchers."""

    def __init__(self) -> None:
        self._name = os.urandom(6).hex()
        self._number = 0
        self._entries: deque[_Entry] = deque(maxlen=_REMEMBERED)
        self._watchers = 0
        self._until = 0.0
        self._news = asyncio.Event()
        self.closed = False

    def note(self, changes: Changes) -> None:
        """Changes were committed."""
        self._number += 1
        if self._watchers or time.monotonic() < self._until:
            if len(changes.run_ids) > _MOST_RUNS:
                self._entries.clear()
            else:
                self._entries.append(_entry(self._number, changes))
        else:
            self._entries.clear()
        self._news.set()

    def close(self) -> None:
        """No more changes: let watchers end."""
        self.closed = True
        self._news.set()

    @property
    def place(self) -> str:
        """Where a watcher begins that wants to know only what comes."""
        return f"{self._name}-{self._number}"

    def __enter__(self) -> Self:
        """A watcher comes."""
        self._watchers += 1
        return self

    def __exit__(self, *_: object) -> None:
        """A watcher goes."""
        self._watchers -= 1
        self._until = time.monotonic() + _AFTERWARDS

    async def wait(self, place: str, seconds: float) -> bool:
        """Return as soon as there is something behind ``place``, or the feed is closed; False after ``seconds``."""
        until = time.monotonic() + seconds
        while place == self.place and not self.closed:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), max(until - time.monotonic(), 0.0))
                continue
            return False
        return True

    def behind(self, place: str) -> Merged:
        """All that was committed behind ``place``, as one change."""
        name, _, text = place.rpartition("-")
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
        entries = [entry for entry in self._entries if entry.number > number]
        known = name == self._name and 0 <= number <= self._number
        if not known or len(entries) != self._number - number:
            return Merged(self.place, None)
        return Merged(self.place, _merged(entries))


def _entry(number: int, changes: Changes) -> _Entry:
    runs: dict[str, set[str]] = {run_id: set() for run_id in changes.run_ids}
    kinds: tuple[tuple[str, Iterable[str]], ...] = (
        ("run", chain(changes.run_starts, changes.run_names, changes.run_statuses, changes.run_lifecycles)),
        ("params", (run_id for run_id, _ in changes.params)),
        ("metrics", (run_id for run_id, _ in changes.metrics)),
        ("tags", (run_id for run_id, _ in changes.tags)),
        ("tables", (run_id for run_id, _ in changes.rows)),
        ("artifacts", (run_id for run_id, _ in changes.artifacts)),
    )
    for kind, run_ids in kinds:
        for run_id in run_ids:
            runs.setdefault(run_id, set()).add(kind)
    experiments = set(
        chain(
            changes.experiments,
            changes.experiment_names,
            changes.experiment_lifecycles,
            (experiment_id for experiment_id, _ in changes.experiment_tags),
        )
    )
    return _Entry(number, runs, experiments, changes.events, len(changes.dead))


def _merged(entries: list[_Entry]) -> Change:
    runs: dict[str, set[str]] = {}
    for entry in entries:
        for run_id, kinds in entry.runs.items():
            runs[run_id] = runs.get(run_id, set()) | kinds
    return Change(
        {run_id: sorted(kinds) for run_id, kinds in sorted(runs.items())},
        sorted(set().union(*(entry.experiments for entry in entries))),
        sum(entry.events for entry in entries),
        sum(entry.dead for entry in entries),
    )
