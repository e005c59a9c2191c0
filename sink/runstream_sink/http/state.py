"""How the stream and its application stand: for /metrics, /readyz and the native API."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from msgspec import Struct

from runstream_schemas.errors import RunstreamError
from runstream_schemas.follower import parse_position
from runstream_schemas.journal_status import Backlog, Loss, read_stream_status, stream_name
from runstream_schemas.settings import JOURNAL_DIR
from runstream_schemas.streams import KafkaStream, journal_directory
from runstream_sink.config import Options
from runstream_sink.http.context import HttpContext
from runstream_sink.missing import find_missing
from runstream_sink.query import count_dead_letters, list_losses, list_positions
from runstream_sink.store.protocol import StoreReader

__all__ = ["Gap", "StreamState", "stream_state"]

_FRESH: Final = 1.0
"""Seconds for which an answer is given again."""
_PATIENCE: Final = 5.0
"""Seconds that brokers are waited for."""
_MOST_GAPS: Final = 100

T = TypeVar("T")


class Gap(Struct, frozen=True):
    """Events of a producer that never came, though later ones did."""

    producer_id: str
    events: int
    intervals: list[tuple[int, int]]
    """The first hundred, both ends included."""


class StreamState(Struct, frozen=True):
    """Where the stream, this sink and its store stand."""

    stream: str
    failure: str
    """Why nothing is applied now; empty while all is well."""
    stream_error: str
    """Why the stream could not be asked how far it goes; empty if it could."""
    backlog_events: int | None
    """Events on this machine that are not applied, or, with Kafka, that no broker has acknowledged."""
    backlog_bytes: int | None
    oldest_age_seconds: float | None
    """Since the oldest event of the backlog was emitted."""
    lag_records: int | None
    """Records of the topic that are not applied; None for a queue."""
    applied_events: int
    """By this sink since it began; dead letters are among them."""
    duplicate_events: int
    commits: int
    applied_bytes: int
    losses: list[Loss]
    """Events that producers dropped, by journal, segment and reason."""
    dead_letters: dict[str, int]
    """By reason, those that were not retried."""
    gaps: list[Gap]
    """The first hundred producers'."""


class _Extent(Struct, frozen=True):
    error: str = ""
    backlog: Backlog | None = None
    losses: list[Loss] = []
    lag: int | None = None


class _Recent(Generic[T]):
    """Answers again what it found a moment ago; those who ask meanwhile wait for one answer."""

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None
        self._at = 0.0

    async def get(self, find: Callable[[], Awaitable[T]]) -> T:
        task = self._task
        if task is None or (task.done() and time.monotonic() - self._at > _FRESH):
            task = self._task = asyncio.create_task(self._find(find))
        return await asyncio.shield(task)

    async def _find(self, find: Callable[[], Awaitable[T]]) -> T:
        try:
            return await find()
        finally:
            self._at = time.monotonic()


_recent: WeakKeyDictionary[Any, _Recent[StreamState]] = WeakKeyDictionary()


async def stream_state(context: HttpContext) -> StreamState:
    """How it stands, as of a second ago at most.  Where the stream cannot be asked, it says why."""
    return await _recent.setdefault(context.measures, _Recent()).get(lambda: _state(context))


async def _state(context: HttpContext) -> StreamState:
    options, progress, reader = context.options, context.progress, context.reader
    try:
        extent = await _extent(options, reader)
    except (RunstreamError, OSError) as error:
        extent = _Extent(error=str(error))
    missing = await find_missing(reader)
    backlog = extent.backlog
    return StreamState(
        stream=str(options.stream),
        failure=progress.failure,
        stream_error=extent.error,
        backlog_events=None if backlog is None else backlog.events,
        backlog_bytes=None if backlog is None else backlog.bytes,
        oldest_age_seconds=_age(backlog),
        lag_records=extent.lag,
        applied_events=progress.events,
        duplicate_events=progress.duplicates,
        commits=progress.commits,
        applied_bytes=progress.bytes,
        losses=_greatest([*extent.losses, *await list_losses(reader)]),
        dead_letters=await count_dead_letters(reader),
        gaps=[Gap(held.producer_id.hex(), held.events, held.intervals[:_MOST_GAPS]) for held in missing[:_MOST_GAPS]],
    )


async def _extent(options: Options, reader: StoreReader) -> _Extent:
    if isinstance(options.stream, KafkaStream):
        return await _of_topic(options.stream, reader)
    name = await asyncio.to_thread(stream_name, options.queue)
    positions = {
        held.part: parse_position(held.position) for held in await list_positions(reader) if held.stream == name
    }
    status = await asyncio.to_thread(read_stream_status, options.queue, positions)
    return _Extent(backlog=status.backlog, losses=status.losses)


async def _of_topic(stream: KafkaStream, reader: StoreReader) -> _Extent:
    from runstream_sink.kafka.opening import kafka_log
    from runstream_sink.kafka.status import read_journals_status, read_topic_status

    here = await asyncio.to_thread(lambda: read_journals_status(_journals_of(stream)))
    error, lag = "", None
    try:
        async with asyncio.timeout(_PATIENCE):
            topic = await read_topic_status(kafka_log(stream, grouped=False), stream, reader)
        error, lag = topic.error or "", sum(partition.lag for partition in topic.partitions)
    except TimeoutError:
        error = f"the brokers of {stream} did not answer within {_PATIENCE:g} s"
    journals = here.journals
    backlog = journals.backlog if journals else Backlog(0, 0, None)
    return _Extent(error, backlog, journals.losses if journals else [], None if error else lag)


def _journals_of(stream: KafkaStream) -> Path:
    return journal_directory(stream, Path(JOURNAL_DIR.get()).expanduser().absolute())


def _age(backlog: Backlog | None) -> float | None:
    if backlog is None or backlog.oldest is None:
        return None
    return max((time.time_ns() - backlog.oldest) / 1e9, 0.0)


def _greatest(losses: list[Loss]) -> list[Loss]:
    """Each loss once: journals and the store both tell of it, and the greater count is the later one."""
    found: dict[tuple[str, int, str], Loss] = {}
    for loss in losses:
        key = (loss.producer_id, loss.segment, loss.reason)
        if key not in found or found[key].count < loss.count:
            found[key] = loss
    return list(found.values())
