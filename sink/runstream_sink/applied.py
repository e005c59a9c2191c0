"""Which events were applied: what a consumer tells of each commit, and who waits for it.

A writer begins a `Watch` before it puts events on the stream, and so misses no commit, however fast the consumer is.
While somebody waits, the consumer looks for events more often.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from runstream_sink.changes import Changes, DeadLetter

__all__ = ["Applied", "Identity", "Watch"]

Identity = tuple[bytes, int]
"""The producer_id and seq of an event."""

_EAGER: Final = 0.002
"""Seconds between looks at the stream while somebody waits for an event of it."""


class Applied:
    """Told of each commit by the consumer, in the event loop."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._wanted = asyncio.Event()
        self._listeners: list[Callable[[Changes], None]] = []
        self._timers: list[Callable[[float], None]] = []

    def tell(self, changes: Changes) -> None:
        """Changes were committed."""
        for watch in list(self._watches):
            watch.note(changes)
        for listener in self._listeners:
            listener(changes)

    def listen(self, listener: Callable[[Changes], None]) -> None:
        """Have ``listener`` called after each commit; it must not raise or block, nor keep what it is given."""
        self._listeners.append(listener)

    def time_commits(self, listener: Callable[[float], None]) -> None:
        """Have ``listener`` told how many seconds each commit takes."""
        self._timers.append(listener)

    def took(self, seconds: float) -> None:
        """A commit took so long."""
        for timer in self._timers:
            timer(seconds)

    @contextmanager
    def watch(self) -> Iterator["Watch"]:
        """A watch that notes what is committed from now on."""
        watch = Watch(self._wanted)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def pause(self, seconds: float) -> None:
        """What a consumer does between two looks at a stream that had nothing: return early if somebody waits."""
        if self._watches:
            seconds = min(seconds, _EAGER)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), seconds)
        self._wanted.clear()


class Watch:
    """What was committed since it began."""

    def __init__(self, wanted: asyncio.Event) -> None:
        self._wanted = wanted
        self._told: list[tuple[Mapping[bytes, Sequence[tuple[int, int]]], Sequence[DeadLetter]]] = []
        self._missing: set[Identity] | None = None
        self._wanted_identities: frozenset[Identity] = frozenset()
        self._dead: list[DeadLetter] = []
        self._done: asyncio.Future[None] | None = None

    def note(self, changes: Changes) -> None:
        """Changes were committed."""
        if self._missing is None:
            self._told.append((changes.seen, tuple(changes.dead)))
            return
        self._take(changes.seen, changes.dead)
        if not self._missing and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def wait_for(self, identities: Collection[Identity], timeout: float) -> list[DeadLetter]:  # noqa: ASYNC109
        """Return when all these events are applied, with those of them that became dead letters.

        Raises TimeoutError after ``timeout`` seconds.
        """
        self._wanted_identities = frozenset(identities)
        self._missing = set(identities)
        told, self._told = self._told, []
        for seen, dead in told:
            self._take(seen, dead)
        if self._missing:
            self._done = asyncio.get_running_loop().create_future()
            self._wanted.set()
            await asyncio.wait_for(self._done, timeout)
        return self._dead

    def _take(self, seen: Mapping[bytes, Sequence[tuple[int, int]]], dead: Sequence[DeadLetter]) -> None:
        missing = self._missing or set()
        missing -= {
            (producer_id, seq)
            for producer_id, seq in missing
            if any(first <= seq <= last for first, last in seen.get(producer_id, ()))
        }
        self._dead += [letter for letter in dead if (letter.producer_id, letter.seq) in self._wanted_identities]
