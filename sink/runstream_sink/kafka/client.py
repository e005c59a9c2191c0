# ruff: noqa: SLF001 - nothing public of aiokafka's tells of metadata, or stops what `stop` has left
"""A topic read by aiokafka: whole, or shared with the other members of a consumer group.

aiokafka goes on silently while brokers are away, may wait for ever for an assignment, and may hang while it stops; it
does not know when a topic was deleted and made anew.  So each call here has a deadline of its own, a task asks the
brokers from time to time whether they are there, and whatever makes aiokafka look for leaders anew changes
`generation`, upon which the source compares what it has read with what the topic holds.

A topic that is read whole is assigned without a group's protocol.  A static member of a group that comes back as its
leader is not told of partitions that were added meanwhile (KIP-814 mends that in a version of the protocol that
aiokafka does not speak), and a dynamic one that was killed is waited for; a store that has one sink needs neither.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from runstream_schemas.kafka import Connection, causes_kept, connection, explain, may_retry
from runstream_schemas.streams import KafkaStream
from runstream_sink.cancellation import finish
from runstream_sink.kafka.log import Extent, LogRecord, OutOfRangeError
from runstream_sink.source import ReassignedError, StreamUnavailableError

__all__ = ["KafkaLog"]

_START: Final = 15.0
_ANSWER: Final = 15.0
_ASSIGNED: Final = 60.0
_TELL: Final = 3.0
_LIFE: Final = 8.0
_STOP: Final = 3.0
"""Seconds: for connecting, an answer, an assignment, the group's offsets, a sign of life, each step of closing."""
_WATCH: Final = 4.0
"""Seconds between two questions whether the brokers are there."""
_METADATA: Final = 10.0
"""Seconds after which a change of the topic is noticed."""
_SUSPICION: Final = 2.0
"""Seconds, at least, between two comparisons."""
_REQUEST_MS: Final = 10_000
_FETCH: Final = 8 << 20
_LEAST_FETCH: Final = 64 << 10
_RECORDS_AT_ONCE: Final = 8
"""Records, of up to a MiB each, by which a fetch may exceed its limit."""

logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # what matters of it is told here, once


class _Found(NamedTuple):
    """What the brokers say of a topic."""

    cluster_id: str
    partitions: int


class KafkaLog:
    """A `Log` of the topic of a stream.

    With ``grouped`` the offsets are committed to the group; with ``shared`` its members share the partitions, too.
    """

    def __init__(self, stream: KafkaStream, *, grouped: bool = True, shared: bool = False) -> None:
        self.name = ""
        self.whole = not shared
        self.generation = 0
        self._stream = stream
        self._grouped = grouped or shared
        self._consumer: Any = None
        self._count = 0
        self._reading: list[Any] = []
        """The partitions that `seek` has named, if they may be fewer than those that are assigned."""
        self._assigned = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._trouble: BaseException | None = None
        self._refreshed = -math.inf
        self._suspect = False
        self._suspected = -math.inf

    async def open(self, group: str) -> None:
        """See `Log.open`."""
        self._trouble = None
        self._reading = []
        self._assigned.clear()
        try:
            async with self._translated(_START):
                settings = await asyncio.to_thread(connection, self._stream)
                found = await _find(settings, self._stream)
                self.name = f"{found.cluster_id}/{self._stream.topic}"
                self._count = found.partitions
                self._consumer = self._make(settings, group if self._grouped else None)
                with causes_kept():
                    await self._consumer.start()
        except BaseException:
            await self.close()
            raise
        self._begin()

    async def partitions(self) -> frozenset[int]:
        """See `Log.partitions`."""
        if self.whole:
            return frozenset(range(self._count))
        async with self._translated(_ASSIGNED):
            while not self._assigned.is_set():
                with contextlib.suppress(NoOffsetForPartitionError):
                    await self._consumer.getmany(timeout_ms=200, max_records=1)  # which raises what the group refuses
        return frozenset(partition.partition for partition in self._consumer.assignment())

    async def extents(self, partitions: Iterable[int]) -> dict[int, Extent]:
        """See `Log.extents`."""
        wanted = self._places(partitions)
        async with self._translated(_ANSWER):
            begins = await self._consumer.beginning_offsets(wanted)
            ends = await self._consumer.end_offsets(wanted)
        return {place.partition: Extent(begins[place], ends[place]) for place in wanted}

    async def offsets_at(self, timestamps: Mapping[int, int]) -> dict[int, int | None]:
        """See `Log.offsets_at`."""
        wanted = {place: timestamps[place.partition] for place in self._places(timestamps)}
        async with self._translated(_ANSWER):
            found = await self._consumer.offsets_for_times(wanted)
        return {place.partition: None if at is None else at.offset for place, at in found.items()}

    async def record_at(self, offsets: Mapping[int, int]) -> dict[int, LogRecord]:
        """See `Log.record_at`."""
        self.seek(offsets)
        found: dict[int, LogRecord] = {}
        async with self._translated(_ANSWER):
            while missing := self._places(offsets.keys() - found.keys()):
                batches = await self._consumer.getmany(*missing, timeout_ms=200, max_records=1)
                found |= {place.partition: _record(records[0]) for place, records in batches.items()}
        return found

    def seek(self, offsets: Mapping[int, int]) -> None:
        """See `Log.seek`."""
        places = self._places(offsets)
        if self.whole:
            self._read_from(places)
        try:
            for place in places:
                self._consumer.seek(place, offsets[place.partition])
        except IllegalStateError as error:
            raise ReassignedError(f"the group gives partitions of {self.name} to another member") from error

    async def fetch(self, limit: int, wait: float) -> list[LogRecord]:
        """See `Log.fetch`."""
        if self._is_due():
            self.generation += 1
            return []
        records: list[LogRecord] = []
        size = 0
        try:
            while size < limit:
                batches = await self._get_many(0 if records else wait)
                if not batches:
                    break
                for batch in batches.values():
                    records += map(_record, batch)
                    size += sum(len(record.value or b"") for record in batch)
        except StreamUnavailableError:
            if not records:  # else it comes again at the next fetch
                raise
        if not records and self._trouble is not None:
            raise self._explained(self._trouble) from self._trouble
        return records

    async def reached(self) -> dict[int, int]:
        """See `Log.reached`."""
        async with self._translated(_ANSWER):
            places = self._reading or self._consumer.assignment()
            return {place.partition: await self._consumer.position(place) for place in places}

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `Log.commit`."""
        if not self._grouped:
            return
        wanted = {place: OffsetAndMetadata(offsets[place.partition], "") for place in self._places(offsets)}
        async with self._translated(_TELL):
            await self._consumer.commit(wanted)

    async def close(self) -> None:
        """See `Log.close`."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait({watcher})
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await finish(_stop(consumer))

    def _make(self, settings: Connection, group: str | None) -> Any:
        return AIOKafkaConsumer(
            **settings.arguments(),
            group_id=group,
            auto_offset_reset="none",
            enable_auto_commit=False,
            check_crcs=True,
            fetch_max_bytes=_FETCH,
            max_partition_fetch_bytes=max(_LEAST_FETCH, _FETCH // max(self._count, 8)),
            metadata_max_age_ms=int(_METADATA * 1000),
            request_timeout_ms=_REQUEST_MS,
        )

    def _begin(self) -> None:
        """Look for the topic, and see to it that changes are noticed."""
        if self.whole:
            self._assign(self._places(range(self._count)))
        else:
            self._consumer.subscribe([self._stream.topic], listener=_Rebalances(self))
        self._refreshed = -math.inf  # the first metadata that come are expected
        self._suspect = False
        self._consumer._client.cluster.add_listener(self._notice)
        self._watcher = asyncio.create_task(self._watch())

    def _read_from(self, places: list[Any]) -> None:
        """Have only these read, and assign them anew only if that must be.

        While aiokafka looks for the group's coordinator, its task for that would end with an error, and the consumer
        with it.
        """
        assigned = self._consumer.assignment()
        if not assigned.issuperset(places):
            self._assign([*assigned.union(places)])
        self._reading = places

    def _assign(self, places: list[Any]) -> None:
        """Each has a position at once: aiokafka's task that looks for one fails where it finds none twice."""
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, 0)

    def change(self, *, assigned: bool) -> None:
        """The group has given or taken partitions."""
        self.generation += 1
        if assigned:
            self._assigned.set()
        else:
            self._assigned.clear()

    def _notice(self, cluster: Any) -> None:
        """The topic's metadata have come; before their time where a leader, or the topic itself, was not found."""
        count = len(cluster.partitions_for_topic(self._stream.topic) or ())
        now = time.monotonic()
        self._suspect = self._suspect or now - self._refreshed < _METADATA * 0.8
        self._refreshed = now
        if self.whole and count != self._count:
            self.generation += 1
        self._count = count or self._count

    def _is_due(self) -> bool:
        """Whether the topic is to be compared again; not each time while a cluster looks for leaders all the time."""
        due = self._suspect and time.monotonic() - self._suspected > _SUSPICION
        if due:
            self._suspect = False
            self._suspected = time.monotonic()
        return due

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH)
            try:
                async with asyncio.timeout(_LIFE):
                    await self._consumer.end_offsets(list(self._consumer.assignment()))
                self._trouble = None
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever fetches is told
                self._trouble = error

    async def _get_many(self, wait: float) -> dict[Any, list[Any]]:
        """Some records by partition; none where the group is about to assign the partitions anew."""
        try:
            async with asyncio.timeout(wait + 1):
                found: dict[Any, list[Any]] = await self._consumer.getmany(
                    *self._reading, timeout_ms=int(wait * 1000), max_records=_RECORDS_AT_ONCE
                )
        except TimeoutError:
            return {}
        except OffsetOutOfRangeError as error:
            raise OutOfRangeError(explain(error, self._stream)) from error
        except NoOffsetForPartitionError:
            self.generation += 1
            return {}
        except KafkaError as error:
            raise self._explained(error) from error
        return found

    def _places(self, partitions: Iterable[int]) -> list[Any]:
        return [TopicPartition(self._stream.topic, partition) for partition in partitions]

    @contextlib.asynccontextmanager
    async def _translated(self, seconds: float) -> AsyncIterator[None]:
        """A deadline, behind which, as after any error of aiokafka's, the stream is unavailable."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> StreamUnavailableError:
        return StreamUnavailableError(explain(error, self._stream), may_retry=may_retry(error))


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells a log of what its group does."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    def on_partitions_revoked(self, _revoked: object) -> None:
        """What was read and not committed is read by whoever gets it."""
        self._log.change(assigned=False)

    def on_partitions_assigned(self, _assigned: object) -> None:
        """All that this member has now."""
        self._log.change(assigned=True)


async def _find(settings: Connection, stream: KafkaStream) -> _Found:
    """The topic as the brokers have it, asked for in such a way that none makes it."""
    client = AIOKafkaClient(**settings.arguments(), request_timeout_ms=_REQUEST_MS)
    try:
        with causes_kept():
            await client.bootstrap()
        request = MetadataRequest([stream.topic], allow_auto_topic_creation=False)
        response = await client.send(client.get_random_node(), request)
    finally:
        await client.close()
    code, _, _, partitions = next(topic for topic in response.topics if topic[1] == stream.topic)
    if code:
        raise for_code(code)(stream.topic)
    return _Found(response.cluster_id, len(partitions))


async def _stop(consumer: Any) -> None:
    """Stop it, or, where that fails or hangs, whatever it is made of.

    While brokers are away it fails: its fetcher is cancelled by its own requests, which it cancels, and leaves others.
    """
    if await _done(consumer.stop(), _STOP):
        return
    if consumer._fetcher is not None:
        requests = consumer._fetcher._pending_tasks
        for request in requests:
            request.cancel()
        if requests:
            await asyncio.wait(requests, timeout=_STOP)
    for part in (consumer._coordinator, consumer._client):
        if part is not None:
            await _done(part.close(), _STOP)


async def _done(work: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Whether work was done in time; it is a task, as aiokafka's cancels whoever waits for it."""
    task = asyncio.create_task(work)
    _, late = await asyncio.wait({task}, timeout=seconds)
    if late:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    return task.done() and not task.cancelled() and task.exception() is None


def _record(record: Any) -> LogRecord:
    return LogRecord(record.partition, record.offset, record.timestamp, record.value or b"")
