"""A simulated sink: the real store, source and consumer, opened and closed by hand, or torn away."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from runstream_schemas.reader import JournalReader, journal_names
from runstream_sink.config import Options, resolve
from runstream_sink.consumer import Consumer
from runstream_sink.queue_source import QueueSource
from runstream_sink.service import open_consumer
from runstream_sink.source import Source
from support.journals import Killed, read_all
from support.simulation_runtime import VirtualTime, new_loop

__all__ = ["Feed", "Sink", "source_of_queue"]

T = TypeVar("T")


class Feed(NamedTuple):
    """Where a sink takes its events from."""

    stream: str
    connect: Callable[[Options], Source]
    held: Callable[[], set[tuple[str, int]]]
    """What the stream holds now: producer and seq."""


class Sink:
    """One store, and the sink that is open on it, if there is one."""

    def __init__(self, name: str, directory: Path, time: VirtualTime, feed: Feed) -> None:
        self.name = name
        self.late = False
        """Segments were freed before this store registered."""
        self.options = resolve(stream=feed.stream, store=str(directory))
        self.offered: set[tuple[str, int]] | None = None
        """What the stream held when the store registered: producer and seq."""
        self._feed = feed
        self._time = time
        self._loop: asyncio.AbstractEventLoop | None = None
        self._consumer: Consumer | None = None
        self._context: AbstractAsyncContextManager[Any] | None = None

    @property
    def running(self) -> bool:
        """Whether a sink is open on the store."""
        return self._consumer is not None

    def start(self) -> None:
        """Open the store."""
        offered = self._feed.held()
        context = open_consumer(self.options, self._feed.connect(self.options))
        self._close_loop()
        self._loop = new_loop(self._time)
        self._consumer, _ = self._run(context.__aenter__())
        self._context = context
        if self.offered is None:
            self.offered = offered

    def step(self) -> bool:
        """Move one delivery."""
        assert self._consumer is not None
        return self._run(self._consumer.step())

    def stop(self) -> None:
        """Close the store, if it is open."""
        context, self._context, self._consumer = self._context, None, None
        if context is not None:
            self._run(context.__aexit__(None, None, None))
            self._close_loop()

    def die(self) -> None:
        """End as a killed process does: all that it held is let go of.  What that does to files does not count."""
        with contextlib.suppress(Exception, Killed):
            self.stop()
        for descriptor in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if descriptor.readlink() == self.options.store.lock:
                    os.close(int(descriptor.name))
        self._close_loop()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, on a loop of the process's own: nobody else's work goes on meanwhile."""
        assert self._loop is not None
        return self._loop.run_until_complete(work)

    def _close_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def known(self) -> dict[str, set[int]]:
        """By producer, the events that the store has seen.  A store that was there is there."""
        known: dict[str, set[int]] = {}
        for producer, first, last in self.query(
            "SELECT producer_id, first, last FROM seen JOIN producers ON id = producer"
        ):
            known.setdefault(producer.hex(), set()).update(range(first, last + 1))
        return known

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the database; none while there is no store yet."""
        if self.offered is None:
            return []
        database = self.options.store.database
        assert database.exists(), f"{self.name} has vanished"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return connection.execute(sql).fetchall()


def source_of_queue(queue: Path) -> Feed:
    """A queue directory."""

    def held() -> set[tuple[str, int]]:
        found = set()
        journals = queue / "journals"
        for name in journal_names(journals):
            reader = JournalReader(journals / name)
            records, _ = read_all(reader)
            found |= {(name, record[0]) for record in records}
            reader._unsynced = False  # looking is no reading: it syncs nothing
            reader.close()
        return found

    return Feed(f"queue:{queue}", lambda _: QueueSource(queue), held)
