"""A simulated sink: the real store, source and consumer, opened and closed by hand, or torn away."""

import contextlib
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from runstream_schemas.reader import JournalReader, journal_names
from runstream_sink.config import resolve
from runstream_sink.consumer import Consumer
from runstream_sink.queue_source import QueueSource
from runstream_sink.service import open_consumer
from support.journals import Killed, read_all
from support.simulation_runtime import Runtime

__all__ = ["Sink"]


class Sink:
    """One store, and the sink that is open on it, if there is one."""

    def __init__(self, name: str, directory: Path, queue: Path, runtime: Runtime) -> None:
        self.name = name
        self.late = False
        """Segments were freed before this store registered."""
        self.options = resolve(stream=f"queue:{queue}", store=str(directory))
        self.offered: set[tuple[str, int]] | None = None
        """What the stream held when the store registered: producer and seq."""
        self._queue = queue
        self._runtime = runtime
        self._consumer: Consumer | None = None
        self._context: AbstractAsyncContextManager[Any] | None = None

    @property
    def running(self) -> bool:
        """Whether a sink is open on the store."""
        return self._consumer is not None

    def start(self) -> None:
        """Open the store."""
        offered = self._held_by_the_stream()
        context = open_consumer(self.options, QueueSource(self._queue))
        self._consumer, _ = self._runtime.run(context.__aenter__())
        self._context = context
        if self.offered is None:
            self.offered = offered

    def step(self) -> bool:
        """Move one delivery."""
        assert self._consumer is not None
        return self._runtime.run(self._consumer.step())

    def stop(self) -> None:
        """Close the store, if it is open."""
        context, self._context, self._consumer = self._context, None, None
        if context is not None:
            self._runtime.run(context.__aexit__(None, None, None))

    def die(self) -> None:
        """End as a killed process does: all that it held is let go of.  What that does to files does not count."""
        with contextlib.suppress(Exception, Killed):
            self.stop()
        for descriptor in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if descriptor.readlink() == self.options.store.lock:
                    os.close(int(descriptor.name))

    def _held_by_the_stream(self) -> set[tuple[str, int]]:
        held = set()
        journals = self._queue / "journals"
        for name in journal_names(journals):
            reader = JournalReader(journals / name)
            records, _ = read_all(reader)
            held |= {(name, record.seq) for record in records}
            reader._unsynced = False  # looking is no reading: it syncs nothing
            reader.close()
        return held
