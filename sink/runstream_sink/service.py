"""The sink as a process: put together, run, end gracefully; and the replay of a stream into a fresh store."""

import asyncio
import contextlib
import resource
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog

from runstream_schemas.directories import make_durable, sync_directory
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, RunstreamError, StoreInUseError
from runstream_schemas.retention import free, removed_journals
from runstream_schemas.streams import KafkaStream, QueueStream
from runstream_sink.artifacts import LocalArtifacts
from runstream_sink.config import HttpOptions, Options
from runstream_sink.consumer import Consumer, Progress
from runstream_sink.kafka.bounds import EARLIEST, LATEST, Bound
from runstream_sink.kafka.chunks import ChunkStore
from runstream_sink.kafka.gaps import GapReporter
from runstream_sink.kafka.opening import kafka_log
from runstream_sink.kafka.source import KafkaSource
from runstream_sink.missing import Missing, find_missing
from runstream_sink.queue_source import QueueSource
from runstream_sink.source import Source, StreamUnavailableError
from runstream_sink.store.sqlite import SqliteStore, open_reader
from runstream_sink.tuning import tuned

__all__ = [
    "Missing",
    "Replayed",
    "StoppedError",
    "find_missing",
    "kafka_source",
    "link_artifacts",
    "open_consumer",
    "replay",
    "run_sink",
]

_RETENTION_INTERVAL: Final = 60.0
_STANDBY_INTERVAL: Final = 0.5
_LONGEST_WAIT: Final = 5.0
"""Seconds between looks at the store that another sink holds, and, at most, at a stream that is away."""
_log = structlog.get_logger(__name__)


class StoppedError(RunstreamError):
    """Whoever runs the sink has stopped it before there was anything to do."""


class Replayed(NamedTuple):
    """What a replay did."""

    progress: Progress
    missing: list[Missing]
    removed: list[str]
    """Journals that retention removed whole."""


@asynccontextmanager
async def open_consumer(
    options: Options,
    source: Source,
    *,
    stop: asyncio.Event | None = None,
    standby: bool = False,
    patient: bool = False,
) -> AsyncIterator[tuple[Consumer, SqliteStore]]:
    """A consumer from ``source`` into the store of ``options``, both open and closed at the end.

    With ``standby`` a store that is in use is waited for, with ``patient`` a stream that is away; both need ``stop``.
    Raises `StoppedError` if that is set meanwhile.
    """
    store = SqliteStore(options.store)
    await _open_store(store, stop if standby else None)
    try:
        await asyncio.to_thread(link_artifacts, options)
        try:
            await _open_source(source, store.store_id, stop if patient else None)
            artifacts = LocalArtifacts(options.artifacts, options.staging)
            await asyncio.to_thread(artifacts.clear)
            consumer = Consumer(source, store, artifacts, options.artifacts)
            try:
                with tuned():
                    yield consumer, store
            finally:
                await consumer.close()
                await asyncio.to_thread(artifacts.clear)
        finally:
            await source.close()
    finally:
        await store.close()


async def _open_store(store: SqliteStore, stop: asyncio.Event | None) -> None:
    """Open a store; with ``stop``, as soon as no other sink holds it."""
    waiting = False
    while True:
        try:
            await store.open()
        except StoreInUseError as error:
            if stop is None:
                raise
            if not waiting:
                _log.info("standing by until the store is free", reason=str(error))
            waiting = True
            await _pause(stop, _STANDBY_INTERVAL)
        else:
            if waiting:
                _log.info("the store is free; taking over")
            return


async def _open_source(source: Source, consumer: str, stop: asyncio.Event | None) -> None:
    """Open a stream; with ``stop``, as soon as it can be, unless waiting cannot help."""
    seconds = 0.25
    while True:
        try:
            return await source.open(consumer)
        except StreamUnavailableError as error:
            if stop is None or not error.may_retry:
                raise
            _log.warning("the stream cannot be opened; trying again", reason=str(error), seconds=seconds)
            await _pause(stop, seconds)
            seconds = min(seconds * 2, _LONGEST_WAIT)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait.  Raises `StoppedError`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
        raise StoppedError("stopped before anything was read")


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


async def run_sink(options: Options, *, once: bool, standby: bool = False) -> Progress:
    """Consume the stream into the store, until SIGTERM or SIGINT, or, with ``once``, until what is there is applied.

    With ``standby`` a store that another sink holds is waited for.  HTTP is served meanwhile, but not with ``once``.
    """
    _allow_many_files()
    stop = asyncio.Event()
    if threading.current_thread() is threading.main_thread():  # no other thread is told of signals
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        opening = open_consumer(options, _source(options, once=once), stop=stop, standby=standby, patient=not once)
        async with opening as (consumer, _):
            _log.info("sink started", stream=str(options.stream), store=options.store.text)
            async with _retention(options):
                if once or options.http is None:
                    await consumer.run(once=once, stop=stop)
                else:
                    await _run_serving(options, options.http, consumer, stop)
    except StoppedError:
        return Progress()
    progress = consumer.progress
    _log.info("sink ended", events=progress.events, dead=progress.dead, commits=progress.commits)
    return progress


async def _run_serving(options: Options, http: HttpOptions, consumer: Consumer, stop: asyncio.Event) -> None:
    """Consume, and serve HTTP meanwhile.  At the end requests are finished first: writes wait for the consumer."""
    from runstream_sink.http.server import serving

    served = asyncio.Event()
    async with serving(options, http, consumer) as server:

        async def end() -> None:
            await stop.wait()
            try:
                await server.end()
            finally:
                served.set()

        ending = asyncio.create_task(end())
        try:
            await consumer.run(once=False, stop=served)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def replay(
    options: Options, report: Callable[[Progress], None], *, first: Bound = EARLIEST, until: Bound = LATEST
) -> Replayed:
    """Apply all that a stream holds to a fresh store.  ``report`` is called after each commit.

    A topic may be replayed in part, from ``first`` to before ``until``; what lies before ``first`` is not missing then.
    Raises `EnvironmentUnavailableError` if the store exists already.
    """
    if options.store.database.exists():
        raise EnvironmentUnavailableError(
            f"the store {options.store.text} exists already; a replay needs a fresh one, name another --store"
        )
    source = _source_of_replay(options, first, until)
    async with open_consumer(options, source) as (consumer, _):
        while await consumer.step():
            report(consumer.progress)
    removed = removed_journals(options.queue) if isinstance(options.stream, QueueStream) else []
    reader = await open_reader(options.store)
    try:
        return Replayed(consumer.progress, await find_missing(reader, leading=first is EARLIEST), removed)
    finally:
        await reader.close()


def _source(options: Options, *, once: bool) -> Source:
    if isinstance(options.stream, KafkaStream):
        return kafka_source(options, options.stream, until=LATEST if once else None)
    return QueueSource(options.queue, until=time.time_ns() if once else None)


def _source_of_replay(options: Options, first: Bound, until: Bound) -> Source:
    if isinstance(options.stream, KafkaStream):
        return kafka_source(options, options.stream, first=first, until=until, grouped=False)
    if (first, until) != (EARLIEST, LATEST):
        raise InvalidInputError(
            f"--from and --until are for topics, and the stream is {options.stream}; leave them out"
        )
    return QueueSource(options.queue, register=False, until=time.time_ns())


def kafka_source(
    options: Options,
    stream: KafkaStream,
    *,
    first: Bound = EARLIEST,
    until: Bound | None = None,
    grouped: bool = True,
) -> KafkaSource:
    """A topic as a source.  Raises what `kafka_log` raises."""
    log, chunks = kafka_log(stream, grouped=grouped), ChunkStore(options.staging)
    return KafkaSource(log, chunks, first=first, until=until, listener=GapReporter(options.store))


@asynccontextmanager
async def _retention(options: Options) -> AsyncIterator[None]:
    """Free what the retention does not keep, from time to time, and once more at the end."""

    async def once() -> None:
        try:
            await asyncio.to_thread(_free, options)
        except OSError as error:
            _log.warning("what is no longer kept could not be cleaned up; trying again later", reason=str(error))

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


def _free(options: Options) -> None:
    """Free what the retention does not keep: of a queue directory, or of the bytes that came in chunks."""
    if isinstance(options.stream, KafkaStream):
        removed = ChunkStore(options.staging).clean(options.retention_age)
        if removed:
            _log.info("freed", staged=removed)
        return
    freed = free(options.queue, options.retention_age, options.retention_size)
    if freed.segments or freed.staged:
        _log.info("freed", segments=freed.segments, journals=freed.journals, staged=freed.staged, bytes=freed.bytes)


def _allow_many_files() -> None:
    """Every living journal needs two descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
