"""The sink as a process: put together, run, end gracefully; and the replay of a stream into a fresh store."""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import structlog

from runstream_schemas.directories import make_durable, sync_directory
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.retention import free, removed_journals
from runstream_sink.artifacts import LocalArtifacts
from runstream_sink.config import Options
from runstream_sink.consumer import Consumer, Progress
from runstream_sink.queue_source import QueueSource
from runstream_sink.store.protocol import StoreReader
from runstream_sink.store.sqlite import SqliteStore, open_reader

__all__ = ["Missing", "Replayed", "find_missing", "link_artifacts", "open_consumer", "replay", "run_sink"]

_RETENTION_INTERVAL: Final = 60.0
_log = structlog.get_logger(__name__)


class Missing(NamedTuple):
    """Events of one producer that a stream no longer holds."""

    producer_id: bytes
    intervals: list[tuple[int, int]]


class Replayed(NamedTuple):
    """What a replay did."""

    progress: Progress
    missing: list[Missing]
    removed: list[str]
    """Journals that retention removed whole."""


@asynccontextmanager
async def open_consumer(options: Options, source: QueueSource) -> AsyncIterator[tuple[Consumer, SqliteStore]]:
    """A consumer from ``source`` into the store of ``options``, both open and closed at the end."""
    store = SqliteStore(options.store)
    await store.open()
    try:
        await asyncio.to_thread(link_artifacts, options)
        await source.open(store.store_id)
        try:
            artifacts = LocalArtifacts(options.artifacts, source.directory / "staging")
            await asyncio.to_thread(artifacts.clear)
            consumer = Consumer(source, store, artifacts, options.artifacts)
            try:
                with _tuned():
                    yield consumer, store
            finally:
                await consumer.close()
                await asyncio.to_thread(artifacts.clear)
        finally:
            await source.close()
    finally:
        await store.close()


@contextmanager
def _tuned() -> Iterator[None]:
    """Set the interpreter up for what a consumer does; measured, reading and applying take half the time then.

    The garbage collector looks rarely: a delivery makes very many tuples and no cycles.  Threads take turns ten times
    as often: one prepares a delivery while another commits the one before, with many short waits for the disk.
    """
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(200_000, 20, 100)
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


def link_artifacts(options: Options) -> None:
    """Make the artifacts' directory; where it is another than the store's own, a link there shows the way to it.

    Raises `InvalidInputError` if the store has its artifacts elsewhere.
    """
    make_durable(options.artifacts)
    usual = options.store.artifacts
    if usual.exists() and usual.resolve() == options.artifacts.resolve():
        return
    if usual.is_symlink() or (usual.is_dir() and any(usual.iterdir())):
        raise InvalidInputError(
            f"the artifacts of {options.store.text} lie in {usual.resolve()}; move them to {options.artifacts} and "
            f"make {usual} a link to it, or leave --artifacts and RUNSTREAM_ARTIFACTS out"
        )
    if usual.is_dir():
        usual.rmdir()
    usual.symlink_to(options.artifacts)
    sync_directory(usual.parent)


async def run_sink(options: Options, *, once: bool) -> Progress:
    """Consume the stream into the store, until SIGTERM or SIGINT, or, with ``once``, until what is there is applied."""
    _allow_many_files()
    stop = asyncio.Event()
    if threading.current_thread() is threading.main_thread():  # no other thread is told of signals
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    source = QueueSource(options.queue, until=time.time_ns() if once else None)
    async with open_consumer(options, source) as (consumer, _):
        _log.info("sink started", stream=f"queue:{options.queue}", store=options.store.text)
        async with _retention(options):
            await consumer.run(once=once, stop=stop)
        progress = consumer.progress
        _log.info("sink ended", events=progress.events, dead=progress.dead, commits=progress.commits)
        return progress


async def replay(options: Options, report: Callable[[Progress], None]) -> Replayed:
    """Apply all that a stream holds to a fresh store.  ``report`` is called after each commit.

    Raises `EnvironmentUnavailableError` if the store exists already.
    """
    if options.store.database.exists():
        raise EnvironmentUnavailableError(
            f"the store {options.store.text} exists already; a replay needs a fresh one, name another --store"
        )
    source = QueueSource(options.queue, register=False, until=time.time_ns())
    async with open_consumer(options, source) as (consumer, _):
        while await consumer.step():
            report(consumer.progress)
    reader = await open_reader(options.store)
    try:
        return Replayed(consumer.progress, await find_missing(reader), removed_journals(options.queue))
    finally:
        await reader.close()


async def find_missing(reader: StoreReader) -> list[Missing]:
    """Per producer, the seqs below the last one seen that a store has not seen."""
    missing: dict[bytes, list[tuple[int, int]]] = {}
    next_seqs: dict[bytes, int] = {}
    async for rows in reader.stream("all_seen"):
        for producer_id, first, last in rows:
            expected = next_seqs.get(producer_id, 0)
            if first > expected:
                missing.setdefault(producer_id, []).append((expected, first - 1))
            next_seqs = {producer_id: last + 1}  # rows come producer by producer
    return [Missing(producer_id, intervals) for producer_id, intervals in missing.items()]


@asynccontextmanager
async def _retention(options: Options) -> AsyncIterator[None]:
    """Free what the retention does not keep, from time to time, and once more at the end."""

    async def once() -> None:
        try:
            freed = await asyncio.to_thread(free, options.queue, options.retention_age, options.retention_size)
        except OSError as error:
            _log.warning("the queue directory could not be cleaned; trying again later", reason=str(error))
            return
        if freed.segments or freed.staged:
            _log.info("freed", segments=freed.segments, journals=freed.journals, staged=freed.staged, bytes=freed.bytes)

    async def repeat() -> None:
        while True:
            await asyncio.sleep(_RETENTION_INTERVAL)
            await once()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await once()


def _allow_many_files() -> None:
    """Every living journal needs two descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
